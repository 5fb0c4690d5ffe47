"""Another server: a list that typing makes shorter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import Input, OptionList
from textual.widgets.option_list import Option

from vpnpf.control.seen import SeenServer
from vpnpf.printable import printable
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet

NEXT = 0
"""What is answered for "the next one": servers are counted from 1."""
_BESIDE = 22
"""Columns of a line that are neither place nor endpoint: the number, "current", the gaps, a scroll bar."""
_LONGEST = 200


class Servers(Sheet[int]):
    """Ends with the number of a server, or NEXT."""

    DEFAULT_CSS = """
    Servers > #sheet { max-width: 110; }
    Servers Input { margin-bottom: 1; }
    Servers OptionList { height: auto; max-height: 60vh; background: transparent; }
    Servers #found { color: $text-muted; margin-top: 1; }
    """
    HEADING = "choose a server"
    KEYS = "↑ ↓ enter: go there"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "Go there"),
        Binding("up", "move(-1)", "Up", show=False),
        Binding("down", "move(1)", "Down", show=False),
        Binding("pageup", "turn('up')", "Page up", show=False),
        Binding("pagedown", "turn('down')", "Page down", show=False),
        Binding("escape", "leave", "Back"),
    ]

    def __init__(self, servers: Sequence[SeenServer]) -> None:
        super().__init__()
        self._servers = servers
        self._texts = [searched(each) for each in servers]
        self._shown: list[SeenServer | None] = []

    def content(self) -> ComposeResult:
        """What is looked for, and what there is."""
        yield Input(placeholder="type to search: a place, a number, an address", compact=True)
        yield OptionList(compact=True)
        yield Line(id="found")

    def on_mount(self) -> None:
        """Show all, once it is known how wide."""
        self.call_after_refresh(self._list, "")

    def on_resize(self) -> None:
        """Lay it out anew."""
        self.call_after_refresh(self._again)

    def _again(self) -> None:
        marked = self.query_one(OptionList).highlighted
        self._list(self.query_one(Input).value)
        self.query_one(OptionList).highlighted = marked

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show those that match."""
        self._list(event.value)

    def on_input_submitted(self) -> None:
        """Enter chooses while one types, too."""
        self.action_choose()

    def _list(self, wanted: str) -> None:
        words = wanted.casefold().split()
        found = [
            each for each, text in zip(self._servers, self._texts, strict=True) if all(word in text for word in words)
        ]
        self._shown = [*([] if words else [None]), *found]
        options = self.query_one(OptionList)
        options.clear_options()
        wide = max(20, options.size.width - _BESIDE)
        options.add_options(Option(_NEXT if each is None else _line(each, wide)) for each in self._shown)
        options.highlighted = 0 if self._shown else None
        many = f"{len(found)} of {len(self._servers)} servers"
        self.query_one("#found", Line).say(many if found else f'No server matches "{printable(wanted, 40)}".')

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """That one, unless the tunnel goes to it already."""
        server = self._shown[event.option_index]
        if server is not None and server.current:
            self.query_one("#found", Line).say("The tunnel goes to this one already. Choose another.")
        else:
            self.dismiss(NEXT if server is None else server.number)

    def action_choose(self) -> None:
        """The one that is marked."""
        self.query_one(OptionList).action_select()

    def action_move(self, by: int) -> None:
        """Another is marked, while one goes on typing."""
        options = self.query_one(OptionList)
        options.action_cursor_down() if by > 0 else options.action_cursor_up()

    def action_turn(self, which: str) -> None:
        """The same by pages."""
        options, far = self.query_one(OptionList), self.query_one(OptionList).size.height
        marked = (options.highlighted or 0) + (far if which == "down" else -far)
        options.highlighted = max(0, min(marked, options.option_count - 1)) if options.option_count else None


_NEXT = Content.assemble("  →  ", ("the next one", "bold"), "  whichever comes after this in the configuration")


def searched(server: SeenServer) -> str:
    """What the search looks at."""
    return f"{server.number} {server.place or ''} {server.endpoint or ''}".casefold()


def _line(server: SeenServer, wide: int) -> Content:
    """`wide`: columns for place and endpoint together."""
    place = Content(printable(server.place or "place not known", _LONGEST))
    endpoint = Content(printable(server.endpoint or "", _LONGEST))
    part = wide * 11 // 20
    place, endpoint = (
        each.truncate(columns, ellipsis=True, pad=True) for each, columns in ((place, part), (endpoint, wide - part))
    )
    mark = ("  ✓ current", "bold") if server.current else ""
    return Content.assemble(f"{server.number:>4}  ", place, "  ", endpoint.stylize("dim"), mark)
