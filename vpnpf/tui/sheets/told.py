"""Something went wrong: what, why, and what to do."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content

from vpnpf.errors import ConfigError, VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet


class Told(Sheet[bool]):
    """An error in words."""

    DEFAULT_CSS = """
    Told > #sheet { max-width: 72; border: round $error; padding: 1 2; }
    Told VerticalScroll { height: auto; max-height: 100%; }
    Told Line { margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,enter,space", "leave", "Back", key_display="esc")]

    HEADING = "that did not work"

    def __init__(self, error: VpnpfError) -> None:
        super().__init__()
        self._error = error

    def content(self) -> ComposeResult:
        """What, why, and what to do."""
        with VerticalScroll():
            if isinstance(self._error, ConfigError):
                many = len(self._error.mistakes)
                mistakes = "a mistake" if many == 1 else f"{many} mistakes"
                yield Line(f"The configuration has {mistakes}. Nothing was changed; all goes on as before.")
            for said, hint in _lines(self._error):
                yield Line(f"✗ {printable(said)}")
                if hint:
                    what = Content.assemble(("What to do: ", "bold"), printable(hint))
                    line = Line()
                    line.say(what)
                    yield line


def _lines(error: VpnpfError) -> list[tuple[str, str]]:
    if isinstance(error, ConfigError):
        return [(f"{each.where}: {each.what}", each.hint) for each in error.mistakes]
    return [(str(error), error.hint)]
