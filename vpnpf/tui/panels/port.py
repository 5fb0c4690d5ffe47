"""The port, large, and where the internet finds it."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.content import Content
from textual.widgets import Digits

from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel, safe
from vpnpf.tui.view import View

NONE = "-----"


class PortPanel(Panel):
    """The external port of the forward that is looked at. A click copies it."""

    TITLE = "port"
    _server = ""
    DEFAULT_CSS = """
    PortPanel {
        pointer: pointer;
        Digits { width: 1fr; text-align: center; color: $accent; text-style: bold; }
        Digits.none { color: $text-muted; text-style: none; }
        Line { text-align: center; text-wrap: nowrap; text-overflow: ellipsis; height: 1; color: $text-muted; }
        #exit { color: $foreground; }
    }
    """

    def compose(self) -> ComposeResult:
        """The digits, and lines below."""
        yield Digits(NONE, id="digits", classes="none")
        yield Line(id="which")
        yield Line(id="exit")
        yield Line(id="server")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        digits, port = self.query_one("#digits", Digits), view.port
        text = str(port) if port else NONE
        if digits.value != text:
            digits.update(text)
            digits.set_class(port is None, "none")
        self.query_one("#which", Line).say(_which(view))
        self.query_one("#exit", Line).say(_exit(view))
        server = words.server(view.seen) if view.seen else ""
        line = self.query_one("#server", Line)
        line.say(f"server {server}" if _has_server(view) else server)
        if self._server != server:
            self._server = server
            line.tooltip = Content(safe(server)) if server else None
        several = view.seen is not None and len(view.seen.forwards) > 1
        self.subtitle(" · ".join((["c copies"] if port else []) + (["f next"] if several else [])))

    def on_click(self) -> None:
        """Copy it."""
        self.call_later(self.run_action, "app.copy_port")


def _has_server(view: View) -> bool:
    tunnel = view.seen.tunnel if view.seen else None
    return tunnel is not None and tunnel.backend != words.NO_TUNNEL


def _which(view: View) -> str:
    forward = view.forward
    if forward is None:
        return "no port is forwarded" if view.seen else ""
    parts = [words.which(view), " and ".join(forward.protocols), words.goes(forward)]
    return " · ".join(filter(None, parts))


def _exit(view: View) -> str:
    forward = view.forward
    if forward is None:
        return ""
    if forward.external_port is None:
        return "no port at this moment"
    return f"at {forward.exit_address}" if forward.exit_address else "exit address not known"
