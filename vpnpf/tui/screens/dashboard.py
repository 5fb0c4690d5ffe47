"""The dashboard: all panels of one profile."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.containers import VerticalScroll
from textual.css.query import NoMatches
from textual.message import Message
from textual.screen import Screen
from textual.widget import MountError

from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.panels.protection import Protection
from vpnpf.tui.view import Reach, View

if TYPE_CHECKING:
    from vpnpf.tui.panels.grid import Panels

SMALLEST = (80, 24)


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
    DEFAULT_CSS = """
    Dashboard {
        #body { height: 1fr; scrollbar-size-vertical: 1; }
        #body.-old { opacity: 60%; }
        &.-narrow FooterKey.-command-palette { display: none; }
        #small { display: none; height: 1fr; content-align: center middle; text-align: center; padding: 0 1; }
        &.-tiny, &.-flat {
            #body { display: none; }
            Protection { display: none; }
            #small { display: block; }
        }
    }
    """

    _grid: Panels | None = None
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
        from textual.widgets import Footer  # noqa: PLC0415 - after the first picture

        from vpnpf.tui.panels.grid import Panels  # noqa: PLC0415 - likewise
        from vpnpf.tui.panels.problems import ProblemsPanel  # noqa: PLC0415 - likewise

        # Whoever leaves at once takes the parts away while others still come.
        with contextlib.suppress(NoMatches, MountError):
            grid = Panels(id="panels")
            await self.query_one("#body").mount(ProblemsPanel(), grid)
            self._grid = grid
            grid.order()  # the size may be another by now
            await self.mount(Footer(compact=True))
            self._panels = tuple(self.query(Panel))
            if self.AUTO_FOCUS and self.focused is None:
                self.set_focus(self.query_one(self.AUTO_FOCUS))
            self.post_message(self.Filled())

    def on_resize(self) -> None:
        """Order the panels as the grid needs them at this size."""
        if self._grid is not None:
            self._grid.order()

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
