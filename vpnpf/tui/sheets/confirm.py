"""A question before something is done that is missed afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button

from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet


class Confirm(Sheet[bool]):
    """Says what would be, in sentences; only the one button does it.

    Enter presses the other one at first, unless nothing can be missed afterwards (`harmless`).
    """

    DEFAULT_CSS = """
    Confirm > #sheet { max-width: 68; padding: 1 2; border: round $warning; }
    Confirm Line { margin-bottom: 1; }
    Confirm Horizontal { height: auto; align-horizontal: right; }
    Confirm Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back"),
        Binding("left,right", "app.focus_next", "Other button", show=False),
    ]

    def __init__(self, heading: str, said: Sequence[str], yes: str, *, harmless: bool = False) -> None:
        """`heading` and `yes`, the label of the button that does it, are ours; `said` is printable."""
        super().__init__()
        self.heading = heading
        self._said = said
        self._yes = yes
        self._harmless = harmless

    def content(self) -> ComposeResult:
        """The sentences, and two buttons."""
        for each in self._said:
            yield Line(each)
        with Horizontal():
            yield Button("Back", id="back")
            yield Button(self._yes, id="yes", variant="warning")

    def on_mount(self) -> None:
        """Where nothing can be missed, Enter does it."""
        if self._harmless:
            self.query_one("#yes").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Yes or no."""
        self.dismiss(event.button.id == "yes")
