"""All panels below the banner, arranged for three widths."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Grid
from textual.widget import Widget

from vpnpf.tui.panels.inbound import InboundPanel
from vpnpf.tui.panels.panel import Panel
from vpnpf.tui.panels.policy import PolicyPanel
from vpnpf.tui.panels.port import PortPanel
from vpnpf.tui.panels.proofs import ProofsPanel
from vpnpf.tui.panels.renewal import RenewalPanel
from vpnpf.tui.panels.throughput import ThroughputPanel
from vpnpf.tui.panels.timeline import TimelinePanel

_LEFT = (PortPanel, ProofsPanel, RenewalPanel)
ORDERS: dict[str, tuple[type[Panel], ...]] = {
    "": (*_LEFT, InboundPanel, PolicyPanel, ThroughputPanel, TimelinePanel),
    "-normal": (*_LEFT, ThroughputPanel, InboundPanel, TimelinePanel, PolicyPanel),
    "-wide": (PortPanel, ProofsPanel, ThroughputPanel, RenewalPanel, InboundPanel, TimelinePanel, PolicyPanel),
}
"""In which the grid takes the panels: by the screen's width where there is height as well, otherwise the first."""


class Panels(Grid):
    """The grid. Its rows are cut where a panel of some column ends; what is left over goes to the row that can use it."""

    SCOPED_CSS = False  # it looks at the screen's size
    DEFAULT_CSS = """
    Panels {
        height: 1fr; min-height: 19; grid-gutter: 0;
        grid-size: 2; grid-columns: 36 1fr; grid-rows: 8 4 4 1fr;
        TimelinePanel { column-span: 2; }
    }
    .-normal Panels { grid-columns: 44 1fr; }
    .-wide Panels { grid-columns: 52 1fr; }

    .-normal.-tall Panels {
        grid-columns: 46 1fr; grid-rows: 8 5 6 1fr 7; min-height: 32;
        ThroughputPanel, InboundPanel { row-span: 2; }
        TimelinePanel { row-span: 2; column-span: 1; }
        #flows { height: 2; margin-bottom: 1; }
    }
    .-wide.-tall Panels {
        grid-size: 3; grid-columns: 54 1fr 1fr; grid-rows: 9 7 1fr 11; min-height: 36;
        ProofsPanel, ThroughputPanel { row-span: 2; }
        TimelinePanel { row-span: 2; column-span: 2; }
        #flows { height: 4; margin-bottom: 1; }
    }
    .-normal.-tall Panels, .-wide.-tall Panels {
        #life { layout: vertical; }
        #ends { width: 1fr; text-align: left; }
    }
    """

    def compose(self) -> ComposeResult:
        """The panels."""
        for panel in self._order():
            yield panel()

    def order(self) -> None:
        """As the size of the screen needs it."""
        order = self._order()

        def place(panel: Widget) -> int:
            return order.index(type(panel))

        if [type(each) for each in self.children] != list(order):
            self.sort_children(key=place)

    def _order(self) -> tuple[type[Panel], ...]:
        width = next((each for each in ORDERS if each and self.screen.has_class(each)), "")
        return ORDERS[width if self.screen.has_class("-tall") else ""]
