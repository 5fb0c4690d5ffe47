"""The port, large, and where the internet finds it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.widgets import Digits

from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.view import View


class PortPanel(Panel):
    """The external port of the forward that is looked at."""

    TITLE = "port"
    DEFAULT_CSS = """
    PortPanel Digits { width: 1fr; text-align: center; color: $accent; }
    PortPanel .none { color: $text-muted; }
    """

    def compose(self) -> ComposeResult:
        """The digits, and a line below."""
        yield Digits("", id="digits")
        yield Line(id="place")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        digits, port = self.query_one("#digits", Digits), view.port
        text = str(port) if port else "-----"
        if digits.value != text:
            digits.update(text)
            digits.set_class(port is None, "none")
        self.query_one("#place", Line).say(_place(view))


def _place(view: View) -> str:
    forward = view.forward
    if forward is None:
        return "no port is forwarded"
    if forward.external_port is None:
        return f"{forward.name}: no port at this moment"
    at = f" at {forward.exit_address}" if forward.exit_address else ""
    return f"{forward.name}, {' and '.join(forward.protocols)}{at}"
