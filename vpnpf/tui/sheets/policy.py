"""What the internet may reach: the three modes, each with what it means."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.content import Content
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from vpnpf.control.messages import Json
from vpnpf.printable import printable
from vpnpf.tui.link import Link
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.plan import Plan
from vpnpf.tui.sheets.sheet import Sheet

MODES = {
    "allow-list": "Only what is listed can come in, like your forwarded ports.",
    "open-all": "Every port is open: strangers can reach whatever listens.",
    "block-all": "Nobody can come in, not even on a forwarded port.",
}


class Policy(Sheet[Json]):
    """Choosing shows the plan; ends with what the daemon answered once it is in force."""

    DEFAULT_CSS = """
    Policy > #sheet { max-width: 84; }
    Policy OptionList { height: auto; max-height: 60vh; background: transparent; margin: 1 0; }
    """
    HEADING = "what may the internet reach?"
    KEYS = "↑ ↓ enter: see the plan"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "choose", "See the plan"),
        Binding("escape", "leave", "Back"),
    ]

    def __init__(self, link: Link, now: Json) -> None:
        """`now`: what `GET /v1/policy` answers."""
        super().__init__()
        self._link = link
        self._mode = _mode(now.get("policy"))
        self._now = now
        self._changes: list[dict[str, object]] = []

    def content(self) -> ComposeResult:
        """Modes, and back to the configuration's."""
        options = []
        for mode, means in MODES.items():
            mark = ("  ✓ in force", "bold") if mode == self._mode else ""
            options.append(Option(Content.assemble((mode, "bold"), mark, f"\n  {means}\n")))
            self._changes.append({"set": [mode]})
        if self._now.get("differs"):
            own = _mode(self._now.get("configured"))
            options.append(
                Option(Content.assemble(("back to the configuration", "bold"), f"\n  Its own policy is {own}."))
            )
            self._changes.append({"reset": True})
        yield Line(self._standing())
        yield OptionList(*options, compact=True)
        yield Line("Nothing changes before you have seen the plan.")

    def on_mount(self) -> None:
        """Mark the one in force."""
        if self._mode in MODES:
            self.query_one(OptionList).highlighted = list(MODES).index(self._mode)

    def _standing(self) -> str:
        why = self._now.get("unapplied")
        if self._now.get("applied") is False:
            return f"✗ {self._mode} is NOT in force: {printable(str(why)) if why else 'it is being applied'}"
        if self._now.get("stage") not in {"connected", None}:
            return f"In force: {self._mode}. Without a tunnel nothing comes in."
        return f"In force: {self._mode}, as read back from the kernel."

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """See what it would bring."""

        def over(done: Json | None) -> None:
            if done is not None:
                self.dismiss(done)

        self.app.push_screen(Plan(self._link, self._changes[event.option_index]), over)

    def action_choose(self) -> None:
        """The one that is marked."""
        self.query_one(OptionList).action_select()


def _mode(policy: object) -> str:
    return printable(str(policy.get("mode")), 40) if isinstance(policy, dict) else "not known"
