"""What is wrong, how often, when it is tried next, and what to do. Not there while nothing is."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content

from vpnpf.control.seen import SeenProblem
from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel, lines, styled
from vpnpf.tui.view import Reach, View


class ProblemsPanel(Panel):
    """All problems, right below the banner."""

    TITLE = "problems"
    DEFAULT_CSS = """
    ProblemsPanel { display: none; height: auto; border: round $error; border-title-color: $error; border-title-style: bold; }
    ProblemsPanel.-any { display: block; }
    """

    def compose(self) -> ComposeResult:
        """Words."""
        yield Line(id="problems")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        problems = view.seen.problems if view.seen and view.reach is Reach.ATTACHED else ()
        if self.has_class("-any") != bool(problems):
            self.set_class(bool(problems), "-any")
        if not problems:
            return
        title = f"{len(problems)} problems" if len(problems) > 1 else "problem"
        if self.border_title != title:
            self.border_title = title
        told = words.hint(view)
        self.query_one("#problems", Line).say(lines(part for each in problems for part in _lines(each, view.now, told)))


def _lines(problem: SeenProblem, now: float, told: str) -> Iterator[Content]:
    """`told`: the hint that the banner has already."""
    times = ", ".join(filter(None, (words.times(problem), words.again(problem, now))))
    doing = (f"{words.sentence(problem.doing)}: ", "bold")
    yield styled(("✗ ", "bold $error"), doing, problem.message, (f" ({times})", "$text-muted"))
    if problem.hint and problem.hint != told:
        yield styled(("  What to do: ", "bold"), problem.hint)
