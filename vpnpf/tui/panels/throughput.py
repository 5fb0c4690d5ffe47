"""How much goes through the tunnel: down and up over the last minutes, five at most."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container, Horizontal
from textual.widgets import Sparkline

from vpnpf.tui import words
from vpnpf.tui.history import RATES
from vpnpf.tui.panels.panel import Line, Panel, styled
from vpnpf.tui.view import View

SPANS = ((30, "one minute"), (60, "two minutes"), (RATES, "five minutes"))
"""Rates that a plot has room for, and what that is in time: the shortest that holds what there is."""
COLUMN = 3
"""Rates that make about a column: the plot moves on by that many, and the figure beside it is always the newest."""
PLOT = 3
"""Rows from which on a plot has an axis."""


class ThroughputPanel(Panel):
    """Two plots with one scale each, from 0 to the most that was seen."""

    TITLE = "throughput"
    DEFAULT_CSS = """
    ThroughputPanel {
        #none { color: $text-muted; display: none; }
        &.-none { #none { display: block; } Plot { display: none; } }
    }
    """

    def compose(self) -> ComposeResult:
        """Down, and up."""
        yield Line("no traffic figures", id="none")
        yield Plot("↓", "down", id="down")
        yield Plot("↑", "up", id="up")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        self.set_class(not view.rates, "-none")
        if view.rates:
            self.query_one("#down", Plot).show([each.received for each in view.rates])
            self.query_one("#up", Plot).show([each.sent for each in view.rates])
            down, up = max(each.received for each in view.rates), max(each.sent for each in view.rates)
            tall = self.query_one("#down", Plot).tall
            self.subtitle(spanned(len(view.rates))[1] if tall else f"most ↓ {words.rate(down)} ↑ {words.rate(up)}")
        else:
            self.subtitle("")


def spanned(rates: int) -> tuple[int, str]:
    """How many rates a plot has room for, and what that is in time."""
    return next(each for each in SPANS if rates <= each[0])


class Plot(Container):
    """One direction."""

    DEFAULT_CSS = """
    Plot {
        height: 1fr; layout: horizontal;
        .now { width: 15; height: 1; }
        Horizontal { height: 1fr; }
        .axis { display: none; width: 13; height: 1fr; text-align: right; color: $text-muted; padding: 0 1 0 0; }
        Sparkline { height: 1fr; width: 1fr; }
        &.-axis { layout: vertical; .axis { display: block; } .now { width: 1fr; } }
    }
    Plot#down Sparkline > .sparkline--max-color { color: $primary; }
    Plot#down Sparkline > .sparkline--min-color { color: $primary 60%; }
    Plot#up Sparkline > .sparkline--max-color { color: $success; }
    Plot#up Sparkline > .sparkline--min-color { color: $success 60%; }
    """

    def __init__(self, sign: str, name: str, *, id: str) -> None:  # noqa: A002 - Textual's
        super().__init__(id=id)
        self._sign, self._name = sign, name
        self._rates: list[float] = []
        self._behind = 0

    def compose(self) -> ComposeResult:
        """The rate now, the scale, and the plot."""
        yield Line(classes="now")
        with Horizontal():
            yield Line(classes="axis")
            yield Sparkline([])

    @property
    def tall(self) -> bool:
        """Whether there is room for an axis."""
        return self.size.height >= PLOT

    def on_resize(self) -> None:
        """An axis, or none."""
        self.set_class(self.tall, "-axis")
        self._say()

    def show(self, rates: list[float]) -> None:
        """The oldest first, in bytes a second."""
        if rates == self._rates:
            return
        self._rates = rates
        if self._behind == 0:
            # One 0 at least, so that the scale begins there.
            self.query_one(Sparkline).data = [*[0.0] * (spanned(len(rates))[0] + 1 - len(rates)), *rates]
        self._behind = (self._behind + 1) % COLUMN
        self._say()

    def _say(self) -> None:
        if not self._rates:
            return
        name = f" {self._name}" if self.tall else ""
        now = (words.rate(self._rates[-1]), "bold")
        self.query_one(".now", Line).say(styled(f"{self._sign}{name} ", now))
        rows = max(1, self.size.height - 2)
        self.query_one(".axis", Line).say(words.rate(max(self._rates)) + "\n" * rows + "0")
