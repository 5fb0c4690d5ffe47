"""One of a few things."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from msgspec import Struct
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from vpnpf.printable import printable
from vpnpf.tui.sheets.sheet import Sheet

_LONGEST = 300


class Choice(Struct, frozen=True):
    """One of them. Texts may be foreign."""

    key: str
    """What is answered with."""
    text: str
    more: str = ""
    """What is said of it, on a line below."""

    @property
    def prompt(self) -> Content:
        """As it is listed."""
        first = (printable(self.text, _LONGEST), "bold")
        more = ("\n  " + printable(self.more, _LONGEST), "dim") if self.more else ""
        return Content.assemble(first, more)


class Choose(Sheet[str]):
    """Arrows and Enter, or the mouse; ends with the key of what was chosen."""

    DEFAULT_CSS = """
    Choose > #sheet { max-width: 72; }
    Choose OptionList { height: auto; max-height: 100%; background: transparent; }
    """
    KEYS = "↑ ↓ enter"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "Choose"), Binding("escape", "leave", "Back")]

    def __init__(self, heading: str, choices: Sequence[Choice]) -> None:
        """`heading` is ours."""
        super().__init__()
        self.heading = heading
        self._choices = choices

    def content(self) -> ComposeResult:
        """The list."""
        yield OptionList(*(Option(each.prompt) for each in self._choices), compact=True)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """That one."""
        self.dismiss(self._choices[event.option_index].key)

    def action_choose(self) -> None:
        """The one that is marked, also while something else has the focus."""
        self.query_one(OptionList).action_select()
