"""What a change of the port policy would bring, before it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from msgspec import Struct
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.widgets import Button, Checkbox

from vpnpf.control.messages import Json, NotNow
from vpnpf.control.told import told
from vpnpf.errors import VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.link import Link
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet

MOST = 500
"""Lines of a plan that are shown."""
_CHANGED = "Somebody else changed the policy meanwhile. This is the plan against what is in force now:"


class Finding(Struct, frozen=True):
    """What a person should know before."""

    severity: str
    title: str
    why: str = ""
    advice: str = ""


class Planned(Struct, frozen=True):
    """What `POST /v1/policy/plan` answers."""

    policy: Json
    before: str
    changes: tuple[str, ...] = ()
    consequence: str = ""
    findings: tuple[Finding, ...] = ()
    ask: bool = False


def planned(answer: Json) -> Planned:
    """The answer as a value. Raises Unavailable for what is none."""
    return told(answer, Planned, "plan")


class Read(Checkbox):
    """A box that shows by more than its colour whether it is ticked."""

    @property
    def BUTTON_INNER(self) -> str:  # type: ignore[override]  # noqa: N802 - Textual's: what is between its sides
        """What is in it."""
        return "✓" if self.value else " "


class Plan(Sheet[Json]):
    """Shows the plan and, if it is wanted, puts it in force; ends with what the daemon answered."""

    DEFAULT_CSS = """
    Plan > #sheet { max-width: 92; }
    Plan VerticalScroll { height: auto; max-height: 50vh; }
    Plan VerticalScroll Line { padding-right: 1; }
    Plan .part { margin-top: 1; }
    Plan Horizontal { height: auto; margin-top: 1; align-horizontal: right; }
    Plan .under { padding-left: 4; }
    Plan Checkbox { margin-top: 1; background: transparent; }
    Plan Button { margin-left: 2; }
    """
    HEADING = "the plan"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back")]

    def __init__(self, link: Link, change: Mapping[str, object], plan: Planned | None = None) -> None:
        """`change`: as `POST /v1/policy/plan` has it. `plan`: what was answered to it already."""
        super().__init__()
        self._link = link
        self._change = change
        self._plan = plan
        self._applying = False

    def content(self) -> ComposeResult:
        """The plan, and what to do with it."""
        yield VerticalScroll(id="plan", can_focus=True)
        yield Line("Looking at what would change…", id="said")
        yield Read("I have read this, and want it all the same", id="read", compact=True)
        with Horizontal():
            yield Button("Back", id="back")
            yield Button("Apply", id="apply", variant="primary", disabled=True)

    def on_mount(self) -> None:
        """Ask for it, if that was not done."""
        self.query_one("#read").display = False
        self.query_one("#back").focus()
        if self._plan is None:
            self.run_worker(self._ask(""), exclusive=True)
        else:
            self.run_worker(self._lay_out(self._plan, ""), exclusive=True)

    async def _ask(self, note: str) -> None:
        try:
            plan = planned(await self._link.ask("POST", "/v1/policy/plan", self._change))
        except VpnpfError as error:
            self._wrong(error)
            return
        await self._lay_out(plan, note)

    async def _lay_out(self, plan: Planned, note: str) -> None:
        self._plan = plan
        scroll = self.query_one("#plan", VerticalScroll)
        await scroll.remove_children()
        lines = [_line(note), *_lines(plan)] if note else _lines(plan)
        await scroll.mount_all(lines)
        self.query_one("#said", Line).say("" if plan.changes else "Nothing would change: it is so already.")
        self.query_one("#said").display = not plan.changes
        box, apply = self.query_one("#read", Checkbox), self.query_one("#apply", Button)
        box.value = False
        box.display = plan.ask and bool(plan.changes)
        apply.disabled = plan.ask or not plan.changes
        (self.query_one("#back") if apply.disabled else apply).focus()

    def on_checkbox_changed(self, event: Checkbox.Changed) -> None:
        """Only what was read can be applied."""
        if self._plan is not None and self._plan.ask:
            self.query_one("#apply", Button).disabled = not event.value

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Apply it, or go back."""
        if event.button.id == "back":
            self.action_leave()
        elif self._plan is not None and not self._applying:
            self.run_worker(self._apply(self._plan), exclusive=True)

    async def _apply(self, plan: Planned) -> None:
        self._applying = True
        self.query_one("#apply", Button).disabled = True
        self._say("Putting it in force…")
        try:
            self.dismiss(await self._put(plan))
        except NotNow:
            await self._ask(_CHANGED)
        except VpnpfError as error:
            self._wrong(error)
            self.query_one("#apply", Button).disabled = False
        finally:
            self._applying = False

    async def _put(self, plan: Planned) -> Json:
        if not self._change.get("reset"):
            return await self._link.ask("PUT", "/v1/policy", {"policy": plan.policy, "before": plan.before})
        # The configuration's own is not put there by hand: it would stay though the configuration changes.
        now = await self._link.ask("GET", "/v1/policy")
        if now.get("digest") != plan.before:
            raise NotNow("setting the port policy", "it was changed by somebody else meanwhile")
        return await self._link.ask("DELETE", "/v1/policy")

    def _wrong(self, error: VpnpfError) -> None:
        self._say(f"✗ {printable(str(error))}" + (f"\nWhat to do: {printable(error.hint)}" if error.hint else ""))

    def _say(self, said: str) -> None:
        line = self.query_one("#said", Line)
        line.display = True
        line.say(said)

    def action_leave(self) -> None:
        """Go back; what was asked for goes on."""
        if self._applying:
            self.app.notify("It was asked for already, and is put in force all the same.", markup=False)
        self.dismiss(None)


def _line(said: str | Content, classes: str = "") -> Line:
    line = Line(classes=classes)
    line.say(said)
    return line


def _lines(plan: Planned) -> list[Line]:
    # One widget for all: there may be hundreds.
    lines = [_line(Content("\n").join(_change(each) for each in plan.changes[:MOST]))]
    if len(plan.changes) > MOST:
        lines.append(_line(f"… and {len(plan.changes) - MOST} lines more"))
    if plan.consequence:
        said = printable(plan.consequence)
        lines.append(_line(Content.assemble(("That means: ", "bold"), said, "."), "part"))
    return lines + finding_lines(plan.findings)


def _change(said: str) -> Content:
    style = {"+": "$text-success", "-": "$text-error"}.get(said[:1], "")
    return Content.assemble((printable(said, 500), style))


def finding_lines(findings: Sequence[Finding]) -> list[Line]:
    """Findings in plain words: what, why it matters, what to do."""
    lines = []
    for each in findings:
        grave = {"danger": ("✗ DANGER: ", "bold $text-error"), "warning": ("! WARNING: ", "bold $text-warning")}
        head = grave.get(each.severity, (f"· {each.severity.upper()}: ", "bold"))
        lines.append(_line(Content.assemble(head, (printable(each.title), "bold")), "part"))
        lines += [
            _line(f"{said} {printable(text)}", "under")
            for said, text in (("Why:", each.why), ("Do:", each.advice))
            if text
        ]
    return lines
