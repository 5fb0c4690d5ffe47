"""What panels have in common."""

from __future__ import annotations

from collections.abc import Iterable

from textual.containers import Vertical
from textual.content import Content
from textual.visual import VisualType
from textual.widgets import Static

from vpnpf.printable import printable
from vpnpf.tui.view import View
from vpnpf.tui.words import Level


class Panel(Vertical):
    """A part of the dashboard, with a border and a title."""

    DEFAULT_CSS = """
    Panel {
        border: round $border-blurred;
        border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
        padding: 0 1;
        height: 1fr;
        overflow: hidden;
    }
    """
    TITLE = ""
    level: Level | None = None

    def on_mount(self) -> None:
        """Put the title into the border."""
        self.border_title = self.TITLE

    def show(self, view: View) -> None:
        """Show how it is. Called about once a second and when something comes in, so it changes only what is new."""
        raise NotImplementedError

    def mark(self, level: Level) -> None:
        """Take the colours of a level: the class "-LEVEL"."""
        if level is not self.level:
            if self.level is not None:
                self.remove_class(f"-{self.level}")
            self.add_class(f"-{level}")
            self.level = level

    def subtitle(self, said: str) -> None:
        """Say something in the lower border."""
        if self.border_subtitle != said:
            self.border_subtitle = said


class Line(Static):
    """A text that is drawn only when it changes, and laid out only when its height does. Never markup: it is often foreign."""

    DEFAULT_CSS = """
    Line { height: auto; width: 1fr; }
    """

    def __init__(self, said: str = "", *, id: str | None = None, classes: str | None = None) -> None:  # noqa: A002 - Textual's
        super().__init__(safe(said), markup=False, id=id, classes=classes)
        self._said: VisualType = said

    def say(self, said: VisualType) -> None:
        """Have it say something: a string, or `textual.content.Content` for styles."""
        if said != self._said:
            self._said = said
            self.update(safe(said) if isinstance(said, str) else said, layout=False)
            self._lay_out()

    def _lay_out(self) -> None:
        """Laying out costs far more than drawing, so only where the size depends on what is said and comes out anew."""
        styles = self.styles
        if styles.width is not None and styles.width.is_auto:
            self.refresh(layout=True)
        elif styles.height is not None and styles.height.is_auto:
            width = self.content_size.width
            if not width or self.visual.get_height(styles.get_rules(), width) != self.content_size.height:
                self.refresh(layout=True)


def safe(text: str) -> str:
    """Lines without what could command a terminal."""
    return "\n".join(map(printable, text.split("\n")))


def styled(*parts: str | tuple[str, str]) -> Content:
    """A text of parts, each with a style or without one; what they say is made safe to show."""
    return Content.assemble(*(safe(part) if isinstance(part, str) else (safe(part[0]), part[1]) for part in parts))


def lines(said: Iterable[Content]) -> Content:
    """One below the other."""
    return Content("\n").join(said)
