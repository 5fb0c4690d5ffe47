"""The dashboard: all panels of one profile."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.containers import Grid, VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer

from vpnpf.tui import words
from vpnpf.tui.panels.inbound import InboundPanel
from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.panels.policy import PolicyPanel
from vpnpf.tui.panels.port import PortPanel
from vpnpf.tui.panels.problems import ProblemsPanel
from vpnpf.tui.panels.proofs import ProofsPanel
from vpnpf.tui.panels.protection import Protection
from vpnpf.tui.panels.renewal import RenewalPanel
from vpnpf.tui.panels.throughput import ThroughputPanel
from vpnpf.tui.panels.timeline import TimelinePanel
from vpnpf.tui.view import Reach, View

SMALLEST = (80, 24)
ORDERS: dict[str, tuple[type[Panel], ...]] = {
    "": (PortPanel, ProofsPanel, RenewalPanel, InboundPanel, PolicyPanel, ThroughputPanel, TimelinePanel),
    "-normal": (PortPanel, ProofsPanel, RenewalPanel, ThroughputPanel, InboundPanel, TimelinePanel, PolicyPanel),
    "-wide": (PortPanel, ProofsPanel, ThroughputPanel, RenewalPanel, InboundPanel, TimelinePanel, PolicyPanel),
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
        #panels.-old { opacity: 60%; }
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

    def compose(self) -> ComposeResult:
        """The panels."""
        yield Line(id="small")
        yield Protection()
        with VerticalScroll(id="body"):
            yield ProblemsPanel()
            with Grid(id="panels"):
                for panel in ORDERS[""]:
                    yield panel()
        yield Footer(compact=True)

    def on_resize(self) -> None:
        """Order the panels as the grid needs them at this size."""
        width = next((each for each in ORDERS if each and self.has_class(each)), "")
        order = ORDERS[width if self.has_class("-tall") else ""]
        if order != self._order:
            self._order = order
            self.query_one("#panels").sort_children(key=lambda panel: order.index(type(panel)))

    def show(self, view: View) -> None:
        """Hand it on."""
        small = self.query_one("#small", Line)
        if small.display:
            small.say(_small(view, self.size.width, self.size.height))
            return
        self.query_one("#panels").set_class(view.reach is not Reach.ATTACHED, "-old")
        for panel in self.query(Panel):
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
