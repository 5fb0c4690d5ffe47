"""A daemon that was started and ended: why, the last that it said, and the way to try again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.widgets import Button

from vpnpf.errors import VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.told import Told

_KEPT = "What is set up stays as it is: nothing is asked again. When that is mended, try again."


class Died(Told):
    """As `Told`, with the lines. True: it is to be tried again."""

    DEFAULT_CSS = """
    Died > #sheet { max-width: 96; }
    Died #last { height: auto; max-height: 12; border: round $panel-lighten-2; padding: 0 1; }
    Died #last Line { margin: 0; }
    Died Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    Died Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("r", "again", "Try again"),
        Binding("left,right", "app.focus_next", "Other button", show=False),
    ]

    def __init__(self, error: VpnpfError, said: Sequence[str]) -> None:
        super().__init__(error)
        self._last = tuple(said)

    def content(self) -> ComposeResult:
        """As of `Told`, then what it said, and two buttons."""
        yield from super().content()
        if self._last:
            with VerticalScroll(id="last") as last:
                last.border_title = "the last that it said"
                yield Line("\n".join(printable(line) for line in self._last))
        yield Line(_KEPT)
        with Horizontal():
            yield Button("Back", id="back")
            yield Button("Try again", id="again", variant="primary")

    def action_again(self) -> None:
        """Have it tried again."""
        self.dismiss(True)

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Back, or again."""
        self.dismiss(event.button.id == "again")
