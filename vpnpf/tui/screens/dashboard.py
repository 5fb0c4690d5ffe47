"""The dashboard: all panels of one profile."""

from __future__ import annotations

import contextlib
from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Grid, VerticalScroll
from textual.css.query import NoMatches
from textual.message import Message
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import Footer

from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.panels.protection import Protection
from vpnpf.tui.view import Reach, View

SMALLEST = (80, 24)
ORDERS = {
    "": ("PortPanel", "ProofsPanel", "RenewalPanel", "InboundPanel", "PolicyPanel", "ThroughputPanel", "TimelinePanel"),
    "-normal": (
        *("PortPanel", "ProofsPanel", "RenewalPanel", "ThroughputPanel", "InboundPanel", "TimelinePanel"),
        "PolicyPanel",
    ),
    "-wide": (
        *("PortPanel", "ProofsPanel", "ThroughputPanel", "RenewalPanel", "InboundPanel", "TimelinePanel"),
        "PolicyPanel",
    ),
}
"""In which the grid takes the panels: by width where there is height as well, otherwise the first."""


class Dashboard(Screen[None]):
    """Shows a View on panels."""

    AUTO_FOCUS: ClassVar[str | None] = "#entries"
    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012 - as Textual has it
        (0, "-tiny"),
        (SMALLEST[0], "-narrow"),
        (112, "-normal"),
        (170, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (SMALLEST[1], "-low"), (36, "-tall")]  # noqa: RUF012 - likewise
    # The grid's rows are cut where a panel of either column ends. What is left over goes to the row that can use it.
    DEFAULT_CSS = """
    Dashboard {
        #body { height: 1fr; scrollbar-size-vertical: 1; }
        #panels {
            height: 1fr; min-height: 19; grid-gutter: 0;
            grid-size: 2; grid-columns: 36 1fr; grid-rows: 8 4 4 1fr;
        }
        #body.-old { opacity: 60%; }
        TimelinePanel { column-span: 2; }
        &.-normal #panels { grid-columns: 44 1fr; }
        &.-wide #panels { grid-columns: 52 1fr; }

        &.-normal.-tall #panels { grid-columns: 46 1fr; grid-rows: 8 5 6 1fr 7; min-height: 32; }
        &.-normal.-tall ThroughputPanel, &.-normal.-tall InboundPanel { row-span: 2; }
        &.-normal.-tall TimelinePanel { row-span: 2; column-span: 1; }

        &.-wide.-tall #panels { grid-size: 3; grid-columns: 54 1fr 1fr; grid-rows: 9 7 1fr 11; min-height: 36; }
        &.-wide.-tall ProofsPanel, &.-wide.-tall ThroughputPanel { row-span: 2; }
        &.-wide.-tall TimelinePanel { row-span: 2; column-span: 2; }

        &.-normal.-tall #life, &.-wide.-tall #life { layout: vertical; }
        &.-normal.-tall #ends, &.-wide.-tall #ends { width: 1fr; text-align: left; }
        &.-normal.-tall #flows { height: 2; margin-bottom: 1; }
        &.-wide.-tall #flows { height: 4; margin-bottom: 1; }

        #small { display: none; height: 1fr; content-align: center middle; text-align: center; padding: 0 1; }
        &.-tiny, &.-flat {
            #body { display: none; }
            Protection { display: none; }
            #small { display: block; }
        }
        &.-narrow FooterKey.-command-palette { display: none; }
    }
    """

    _order = ORDERS[""]
    _panels: tuple[Panel, ...] = ()

    class Filled(Message):
        """All panels are there."""

    def __init__(self, view: View) -> None:
        """`view`: what is seen first."""
        super().__init__()
        self._first = view

    def compose(self) -> ComposeResult:
        """The banner alone, so that something is seen at once."""
        yield Line(id="small")
        yield Protection()
        yield VerticalScroll(id="body")

    def on_mount(self) -> None:
        """The rest follows when the banner was drawn."""
        self.show(self._first)
        self.call_after_refresh(self._fill)

    async def _fill(self) -> None:
        from vpnpf.tui.panels.all import PANELS, ProblemsPanel  # noqa: PLC0415 - after the first picture

        panels = sorted((panel() for panel in PANELS), key=self._place)
        if not self.query_one("#body").is_attached:
            return  # left before the first picture
        await self.query_one("#body").mount(ProblemsPanel(), Grid(*panels, id="panels"))
        await self.mount(Footer(compact=True))
        self._panels = tuple(self.query(Panel))
        if self.AUTO_FOCUS and self.focused is None:
            self.set_focus(self.query_one(self.AUTO_FOCUS))
        self.post_message(self.Filled())

    def on_resize(self) -> None:
        """Order the panels as the grid needs them at this size."""
        width = next((each for each in ORDERS if each and self.has_class(each)), "")
        order = ORDERS[width if self.has_class("-tall") else ""]
        if order != self._order:
            self._order = order
            for grid in self.query("#panels"):
                grid.sort_children(key=self._place)

    def _place(self, panel: Widget) -> int:
        return self._order.index(type(panel).__name__)

    def show(self, view: View) -> None:
        """Hand it on. While the screen is taken down its parts go before itself: then there is nothing to show."""
        with contextlib.suppress(NoMatches):
            self.hand_on(view)

    def hand_on(self, view: View) -> None:
        """The same, of a screen that is whole."""
        small = self.query_one("#small", Line)
        if small.display:
            small.say(_small(view, self.size.width, self.size.height))
            return
        self.query_one("#body").set_class(view.reach is Reach.AWAY, "-old")
        for panel in self._panels or self.query(Panel):
            panel.show(view)


def _small(view: View, width: int, height: int) -> str:
    """What can be said where there is no room."""
    standing = words.standing(view)
    port = f", port {view.port}" if view.port else ""
    needs = f"{SMALLEST[0]}x{SMALLEST[1]}"
    said = f"{view.profile}: {standing.sign} {standing.word}{port}"
    return (
        f"{said}\n\nThis terminal is {width}x{height}, vpnpf needs {needs}: make it larger.\nNothing is lost; q leaves."
    )
