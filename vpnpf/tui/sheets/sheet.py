"""What sheets have in common."""

from __future__ import annotations

from typing import ClassVar, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Footer

from vpnpf.tui.view import View

Result = TypeVar("Result")


class Sheet(ModalScreen[Result | None]):
    """A window over what is there: esc leaves it, and nothing has changed."""

    DEFAULT_CSS = """
    Sheet { align: center middle; }
    Sheet > #sheet {
        width: 90%; max-width: 100; height: auto; max-height: 90%;
        border: round $accent; border-title-color: $text; border-subtitle-color: $text-muted; background: $surface; padding: 0 1;
    }
    Sheet Input { background: $panel; }
    """
    HEADING = ""
    """What it is, in its border; `heading` of one with another."""
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    KEYS = ""
    """The keys that what has the focus understands, which the line below does not show."""

    heading = ""

    def compose(self) -> ComposeResult:
        """The window with its content, and the keys below."""
        with Vertical(id="sheet") as sheet:
            sheet.border_title = self.heading or self.HEADING
            sheet.border_subtitle = self.KEYS
            yield from self.content()
        yield Footer(compact=True)

    def content(self) -> ComposeResult:
        """What is in it."""
        raise NotImplementedError

    def show(self, view: View) -> None:
        """Something came in, or a second has passed; a sheet that shows nothing live does nothing."""

    def action_leave(self) -> None:
        """Go back."""
        self.dismiss(None)
