"""What the internet may reach: the port policy in words, and what the provider's own switch says."""

from __future__ import annotations

from collections.abc import Iterator

from textual.app import ComposeResult
from textual.content import Content

from vpnpf.control.seen import Seen
from vpnpf.model import PolicyMode
from vpnpf.tui import words
from vpnpf.tui.panels.panel import Line, Panel, lines, styled
from vpnpf.tui.view import View


class PolicyPanel(Panel):
    """The policy in force."""

    TITLE = "policy"
    _plain = ""
    DEFAULT_CSS = """
    PolicyPanel.-flat Line { text-wrap: nowrap; text-overflow: ellipsis; }
    """

    def compose(self) -> ComposeResult:
        """Words."""
        yield Line(id="policy")

    def show(self, view: View) -> None:
        """As `Panel.show`."""
        line = self.query_one("#policy", Line)
        self.set_class(self.content_size.height <= 2, "-flat")  # noqa: PLR2004 - no room for what is wrapped
        said = lines(_lines(view, view.seen)) if view.seen else Content("")
        line.say(said)
        if self._plain != said.plain:
            self._plain = said.plain
            line.tooltip = Content(said.plain) if said.plain else None


def _lines(view: View, seen: Seen) -> Iterator[Content]:
    """The most important first: there may be no room for more than two."""
    if seen.disagree:
        yield styled((f"! {words.sentence(seen.disagree)}", "bold $warning"))
    name, _, means = words.mode(seen).partition(": ")
    wide = seen.policy.mode == PolicyMode.OPEN_ALL and not words.without_tunnel(seen)
    yield styled((f"! {name}" if wide else name, "bold $warning" if wide else "bold"), f": {means}" if means else "")
    opened = words.exposed(seen, view.now)
    if opened:
        yield styled(opened)
    for each in seen.unused:
        yield styled((f"! {words.unused(each)}", "$warning"))
    switch = words.switch(view)
    if switch:
        yield styled((switch, "$text-muted"))
    yield styled((words.stage(seen), "$text-muted"))
