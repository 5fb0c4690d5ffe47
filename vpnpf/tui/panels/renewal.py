"""The lease: when it is renewed next, counting down, and when it ends."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container
from textual.widgets import ProgressBar

from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.view import View

STEPS = 24
"""Of the bar: the seconds are in words, and a bar that moves each second costs as much as the whole chain of proofs."""


class RenewalPanel(Panel):
    """Of the forward that is looked at."""

    TITLE = "renewal"
    DEFAULT_CSS = """
    RenewalPanel {
        Container { layout: horizontal; height: auto; }
        Line { height: 1; }
        #ends { width: 21; text-align: right; color: $text-muted; }
        ProgressBar { width: 1fr; Bar { width: 1fr; } }
        Bar > .bar--bar { color: $success; background: $border-blurred; }
        Bar > .bar--complete { color: $success; }
        &.-warn #said { color: $warning; text-style: bold; }
        &.-warn Bar > .bar--complete { color: $warning; }
    }
    """

    _drawn = (0.0, 0)

    def compose(self) -> ComposeResult:
        """When, how far that is, and the lease's end."""
        yield Line(id="said")
        with Container(id="life"):
            yield ProgressBar(total=STEPS, show_eta=False, show_percentage=False)
            yield Line(id="ends")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        lease = words.renewal(view)
        self.mark(lease.level)
        self.query_one("#said", Line).say(lease.said)
        self.query_one("#ends", Line).say(lease.ends)
        bar = self.query_one(ProgressBar)
        if bar.visible != (lease.done is not None):
            bar.visible = lease.done is not None
        drawn = (float(int((lease.done or 0.0) * STEPS)), bar.size.width)
        if self._drawn != drawn:
            # A bar rounds to the width that it has when it is told; told the same again it keeps the old.
            if self._drawn[1] != drawn[1]:
                bar.progress = 0.0
            bar.progress = drawn[0]
            self._drawn = drawn
