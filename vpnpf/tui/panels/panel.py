"""What panels have in common."""

from __future__ import annotations

from textual.containers import Vertical
from textual.visual import VisualType
from textual.widgets import Static

from vpnpf.tui.view import View


class Panel(Vertical):
    """A part of the dashboard, with a border and a title."""

    DEFAULT_CSS = """
    Panel {
        border: round $panel-lighten-2;
        border-title-color: $text-muted;
        padding: 0 1;
        height: 1fr;
    }
    """
    TITLE = ""

    def on_mount(self) -> None:
        """Put the title into the border."""
        self.border_title = self.TITLE

    def show(self, view: View) -> None:
        """Show how it is. Called about once a second and when something comes in, so it changes only what is new."""
        raise NotImplementedError


class Line(Static):
    """A text that is laid out and drawn only when it changes. Never markup: what it says is often foreign."""

    DEFAULT_CSS = """
    Line { height: auto; width: 1fr; }
    """

    def __init__(self, said: str = "", *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's
        super().__init__(said, markup=False, id=id, classes=classes)
        self._said: VisualType = said

    def say(self, said: VisualType) -> None:
        """Have it say something: a string, or `textual.content.Content` for styles."""
        if said != self._said:
            self._said = said
            self.update(said)
