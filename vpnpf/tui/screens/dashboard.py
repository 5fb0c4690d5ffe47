"""The dashboard: all panels of one profile."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Grid
from textual.screen import Screen
from textual.widgets import Footer

from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.panels.port import PortPanel
from vpnpf.tui.view import View

SMALLEST = (80, 24)


class Dashboard(Screen[None]):
    """Shows a View on panels."""

    HORIZONTAL_BREAKPOINTS: list[tuple[int, str]] | None = [  # noqa: RUF012 - as Textual has it
        (0, "-tiny"),
        (SMALLEST[0], "-narrow"),
        (112, "-normal"),
        (170, "-wide"),
    ]
    VERTICAL_BREAKPOINTS: list[tuple[int, str]] | None = [(0, "-flat"), (SMALLEST[1], "-low"), (34, "-tall")]  # noqa: RUF012 - likewise
    DEFAULT_CSS = """
    Dashboard #panels { grid-size: 2; grid-columns: 34 1fr; grid-gutter: 0; }
    Dashboard.-wide #panels { grid-size: 3; grid-columns: 50 1fr 1fr; }
    Dashboard #small { display: none; padding: 1; }
    Dashboard.-tiny #panels, Dashboard.-flat #panels { display: none; }
    Dashboard.-tiny #small, Dashboard.-flat #small { display: block; }
    """

    def compose(self) -> ComposeResult:
        """The panels, in the order of the grid."""
        yield Line(id="small")
        with Grid(id="panels"):
            yield PortPanel()
        yield Footer(compact=True)

    def show(self, view: View) -> None:
        """Hand it on."""
        for panel in self.query(Panel):
            panel.show(view)
        small = self.query_one("#small", Line)
        if small.display:
            small.say(_small(view, self.size.width, self.size.height))


def _small(view: View, width: int, height: int) -> str:
    """What can be said where there is no room."""
    stands = view.seen.phase.upper() if view.seen else "nothing is known yet"
    port = f", port {view.port}" if view.port else ""
    needs = f"{SMALLEST[0]}x{SMALLEST[1]}"
    return f"{view.profile}: {stands}{port}\nThis terminal is {width}x{height}; vpnpf needs {needs}: make it larger."
