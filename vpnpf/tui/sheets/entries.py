"""The allow-list: what it opens to whom and for how long; more is typed, and the plan comes first."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.events import Key
from textual.widgets import DataTable, Input

from vpnpf.control.messages import Json
from vpnpf.errors import VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.entries import FORWARDED, Listed, Row, left, listed, use, whole
from vpnpf.tui.link import Link
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.plan import Plan, planned
from vpnpf.tui.sheets.sheet import Sheet
from vpnpf.tui.view import View

_EXAMPLE = "open more: 22/tcp from 203.0.113.0/24 for 2h # backup"
_LONGEST = 60
_WIDEST = 23
"""Columns of a cell at most; the line below the list says all of the marked entry."""


class Entries(Sheet[Json]):
    """Stays until it is left: there may be more than one thing to change."""

    DEFAULT_CSS = """
    Entries > #sheet { max-width: 120; }
    Entries DataTable { height: auto; max-height: 45vh; background: transparent; }
    Entries #whole { color: $text-muted; margin-top: 1; }
    Entries Input { margin-top: 1; }
    Entries #said { margin: 1 0 0 0; }
    """
    HEADING = "allow-list"
    KEYS = "type to open more · enter: write one anew · del: close one"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("delete,backspace", "close", "Close the marked entry", key_display="del"),
        Binding("tab", "app.focus_next", "List / field"),
        Binding("escape", "leave", "Back"),
    ]

    def __init__(self, link: Link, now: Json, view: View) -> None:
        """`now`: what `GET /v1/policy` answers."""
        super().__init__()
        self._link = link
        self._listed: Listed = listed(now)
        self._view = view
        self._allow = view.seen.policy if view.seen else None
        self._changing = False
        self._planning = False
        self._ends: list[tuple[str, float]] = []
        """Keys of the rows that end, and when."""

    def content(self) -> ComposeResult:
        """The list, and a line to type on."""
        yield Line(id="mode")
        table: DataTable[Text] = DataTable(cursor_type="row", zebra_stripes=True)
        for key, label in (("what", "open"), ("who", "to whom"), ("ends", "ends in"), ("use", "came in")):
            table.add_column(label, key=key)
        yield table
        yield Line(id="whole")
        yield Input(placeholder=_EXAMPLE, compact=True, select_on_focus=False)
        yield Line(id="said")

    def on_mount(self) -> None:
        """Fill it."""
        self._fill()
        self.query_one(Input if not self._listed.rows else DataTable).focus()

    def on_key(self, event: Key) -> None:
        """Who types while the list has the focus means the field."""
        field = self.query_one(Input)
        if event.character and event.is_printable and event.character != " " and not field.has_focus:
            field.focus()
            field.insert_text_at_cursor(event.character)
            event.stop()

    def show(self, view: View) -> None:
        """Count down, and look again when the list has changed; what is typed stays."""
        self._view = view
        seen = view.seen.policy if view.seen else None
        if seen != self._allow and not self._changing:
            self._allow = seen
            self.run_worker(self._look(), group="look", exclusive=True)
        table = self.query_one(DataTable)
        for place, ends_at in self._ends:
            rest = left(ends_at, view.now)
            if table.get_cell(place, "ends").plain != rest:
                table.update_cell(place, "ends", Text(rest))
        self._say_whole()

    def on_data_table_row_highlighted(self) -> None:
        """Say all of it: a row has no room for that."""
        self._say_whole()

    def _say_whole(self) -> None:
        row = self._marked()
        self.query_one("#whole", Line).say(printable(whole(row, self._view.now)) if row else "")

    async def _look(self) -> None:
        try:
            self._listed = listed(await self._link.ask("GET", "/v1/policy"))
        except VpnpfError as error:
            self._wrong(error)
        else:
            self._fill()

    def _fill(self) -> None:
        table, now = self.query_one(DataTable), self._view.now
        marked = table.cursor_row
        table.clear()
        for place, row in enumerate(self._listed.rows):
            table.add_row(*map(_cell, _texts(row, now)), key=str(place))
        self._ends = [
            (str(place), row.ends_at) for place, row in enumerate(self._listed.rows) if row.ends_at is not None
        ]
        if self._listed.rows:
            table.move_cursor(row=min(marked, len(self._listed.rows) - 1))
        many = len(self._listed.rows)
        entries = "The list is empty: nobody can come in." if not many else f"{many} entr{'y' if many == 1 else 'ies'}."
        mode = printable(self._listed.mode, _LONGEST)
        idle = f"✗ The mode is {mode}, so the list counts for nothing now. Choose allow-list first: esc, then p."
        self.query_one("#mode", Line).say(entries if mode == "allow-list" else idle)

    # -- changing -------------------------------------------------------------------------------

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Open what was typed, after the plan."""
        if event.value.strip():
            self._begin({"open": [event.value.strip()]}, typed=True)

    def on_data_table_row_selected(self) -> None:
        """Enter on a row: write it anew, with another end, say."""
        row = self._marked()
        if row is not None and row.words != FORWARDED:
            field = self.query_one(Input)
            field.value = row.words + (f" # {row.comment}" if row.comment else "")
            field.focus()

    def action_close(self) -> None:
        """Close the marked entry, after the plan."""
        row = self._marked()
        if row is not None:
            self._begin({"close": [row.words]}, typed=False)

    def _marked(self) -> Row | None:
        place = self.query_one(DataTable).cursor_row
        return self._listed.rows[place] if 0 <= place < len(self._listed.rows) else None

    def _begin(self, change: dict[str, object], *, typed: bool) -> None:
        if not self._planning:
            self._planning = True
            self.query_one("#said", Line).say("Looking at what would change…")
            self.run_worker(self._plan(change, typed=typed), group="plan")

    async def _plan(self, change: dict[str, object], *, typed: bool) -> None:
        """What it would bring; a mistake is said beside the field, and what was typed stays."""
        try:
            plan = planned(await self._link.ask("POST", "/v1/policy/plan", change))
        except VpnpfError as error:
            self._wrong(error)
            return
        finally:
            self._planning = False
        self.query_one("#said", Line).say("")
        if not plan.changes:
            self.query_one("#said", Line).say("Nothing would change: it is so already.")
            return
        self._changing = True

        def over(done: Json | None) -> None:
            self._changing = False
            if done is not None:
                self._in_force(done, typed=typed)

        self.app.push_screen(Plan(self._link, change, plan), over)

    def _in_force(self, done: Json, *, typed: bool) -> None:
        if typed:
            self.query_one(Input).value = ""
        self._allow = self._view.seen.policy if self._view.seen else None
        unsaved = done.get("unsaved")
        more = f" It will not be there after a restart: {printable(str(unsaved))}" if unsaved else ""
        self.query_one("#said", Line).say(f"✓ In force, as read back from the kernel.{more}")
        try:
            self._listed = listed(done)
        except VpnpfError as error:
            self._wrong(error)
        else:
            self._fill()

    def _wrong(self, error: VpnpfError) -> None:
        hint = f"\nWhat to do: {printable(error.hint)}" if error.hint else ""
        self.query_one("#said", Line).say(f"✗ {printable(str(error))}{hint}")


def _texts(row: Row, now: float) -> tuple[str, str, str, str]:
    return row.what, row.who, left(row.ends_at, now), use(row)


def _cell(text: str) -> Text:
    cell = Text(printable(text, 300))
    cell.truncate(_WIDEST, overflow="ellipsis")
    return cell
