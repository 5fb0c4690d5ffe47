"""The last transitions with their causes, the newest above."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.content import Content

from vpnpf.control.seen import SeenEntry
from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel, lines, styled
from vpnpf.tui.view import View

INDENT = 10
DAY = 86400
_SIGNS = {
    "port": ("✓", "$success"),
    "granted": ("✓", "$success"),
    "agrees": ("✓", "$success"),
    "problem-over": ("✓", "$success"),
    "problem": ("✗", "$error"),
    "port-lost": ("✗", "$error"),
    "disagrees": ("!", "$warning"),
    "exit-differs": ("!", "$warning"),
    "gateway-reset": ("!", "$warning"),
    "unused": ("!", "$warning"),
    "remedy": ("↻", "$warning"),
    "wish": ("»", "$primary"),
}
_OTHER = ("·", "$text-muted")


class TimelinePanel(Panel):
    """Shows the newest, unless the person scrolled back: then it stays where it is."""

    TITLE = "timeline"
    DEFAULT_CSS = """
    TimelinePanel {
        padding: 0 0 0 1;
        #entries { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable; }
        &:focus-within { border-title-color: $accent; border-subtitle-color: $accent; }
    }
    """

    def __init__(self) -> None:
        super().__init__()
        self._entries: tuple[SeenEntry, ...] = ()
        self._heights: list[int] = []
        self._day = 0
        self._view: View | None = None

    def compose(self) -> ComposeResult:
        """A long text that can be scrolled, by keyboard and mouse."""
        with VerticalScroll(id="entries"):
            yield Line(id="transitions")

    def on_resize(self) -> None:
        """Wrap anew, once it is known how wide."""
        self.call_after_refresh(self._again)

    def _again(self) -> None:
        self._entries = ()
        if self._view is not None:
            self.show(self._view)

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        self._view = view
        entries = tuple(reversed(view.seen.timeline)) if view.seen else ()
        day = int(view.now // DAY)
        if entries == self._entries and day == self._day:
            return
        scroll = self.query_one("#entries", VerticalScroll)
        width = max(INDENT * 2, scroll.scrollable_content_region.width)
        texts = [_entry(each, view.now, width) for each in entries]
        at = self._kept(scroll, entries, heights := [text.plain.count("\n") + 1 for text in texts])
        self._entries, self._heights, self._day = entries, heights, day
        self.query_one("#transitions", Line).say(lines(texts) if texts else "nothing happened yet" if view.seen else "")
        if at is not None:
            self.call_after_refresh(scroll.scroll_to, y=at, animate=False, force=True)
        self.subtitle("newest first" if texts else "")

    def _kept(self, scroll: VerticalScroll, entries: tuple[SeenEntry, ...], heights: list[int]) -> float | None:
        """Where to scroll, so that what is looked at stays in its place; None: the newest is looked at, and stays that."""
        if scroll.scroll_y <= 0:
            return None
        at = 0
        for entry, height in zip(self._entries, self._heights, strict=True):
            if at + height > scroll.scroll_y and entry in entries:
                return sum(heights[: entries.index(entry)]) + max(0.0, scroll.scroll_y - at)
            at += height
        return None


def _entry(entry: SeenEntry, now: float, width: int) -> Content:
    sign, style = _SIGNS.get(entry.event, _OTHER)
    at = f"{words.clock(entry.time, now):<8}"
    first, *rest = list(_wrapped(words.entry(entry), width - INDENT - 1))
    return styled(
        (at, "$text-muted"), " ", (sign, style), f" {first}", *(f"\n{' ' * (INDENT + 1)}{each}" for each in rest)
    )


def _wrapped(text: str, width: int) -> Iterator[str]:
    yield from textwrap.wrap(text, max(10, width)) or [""]
