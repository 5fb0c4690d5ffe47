"""The first start: one question a page, what was found offered first, and nothing written before it was seen."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Button, Footer, LoadingIndicator

from vpnpf.errors import VpnpfError
from vpnpf.setup import finding, trying
from vpnpf.setup.checking import Mistaken, client_again
from vpnpf.setup.questions import Question
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.screens.starting import start
from vpnpf.tui.screens.wizard_course import Course
from vpnpf.tui.screens.wizard_last import LastPage
from vpnpf.tui.screens.wizard_page import Page
from vpnpf.tui.screens.wizard_writing import write
from vpnpf.tui.sheets.told import Told

_LOOKING = "Looking for configuration files of providers and for torrent clients on this machine …"


class Wizard(Screen[Course]):
    """Ends with the course so far when it is left, so that it can go on there; else on the dashboard."""

    DEFAULT_CSS = """
    Wizard { align: center middle; }
    Wizard > #wizard {
        width: 100%; max-width: 100; height: 1fr; max-height: 34;
        border: round $accent; border-title-color: $text; border-title-style: bold; border-subtitle-color: $text-muted;
        padding: 1 1 0 1;
    }
    Wizard #trail { color: $text-success; padding: 0 1; margin-bottom: 1; }
    Wizard #looking { color: $text-muted; padding: 0 1; }
    Wizard LoadingIndicator { height: 3; }
    Wizard #page { height: 1fr; }
    Wizard #buttons { height: 3; align-horizontal: right; }
    Wizard Button { width: auto; min-width: 14; margin-left: 2; }
    Wizard #next { min-width: 22; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "leave", "Start screen", show=False, priority=True),
        Binding("escape,q", "leave", "Start screen, nothing changed", key_display="esc"),
        Binding("backspace,alt+left", "back", "Back", key_display="⌫"),
    ]

    def __init__(self, config: Path | None = None, course: Course | None = None) -> None:
        """`config`: a configuration that was named; `course`: where to go on."""
        super().__init__()
        self._into = config.parent if config is not None and config.name == finding.FILE else None
        self._course = course
        self._busy = False
        self._trying = False

    def compose(self) -> ComposeResult:
        """The page with what was answered above, and the buttons below."""
        with Vertical(id="wizard") as box:
            box.border_title = "vpnpf: set up"
            yield Line(id="trail")
            with Vertical(id="page"):
                yield Line(_LOOKING, id="looking")
                yield LoadingIndicator()
            with Horizontal(id="buttons"):
                yield Button("Back", id="back", disabled=True)
                yield Button("Next", id="next", variant="primary", disabled=True)
        yield Footer(compact=True)

    def on_mount(self) -> None:
        """Look at the machine, unless it goes on."""
        self._busy = True
        self.run_worker(self._begin(), exclusive=True)

    async def _begin(self) -> None:
        if self._course is None:
            try:
                self._course = Course(await finding.look(self._into))
            except VpnpfError as error:
                self.app.pop_screen()
                self.app.push_screen(Told(error))
                return
        await self._turn()

    # -- pages ----------------------------------------------------------------------------------

    async def _turn(self, mistake: str = "") -> None:
        """Show the page where the course is."""
        course = self._course
        assert course is not None
        question = course.question
        page = LastPage(course) if question is None else Page(question, course.said(question))
        place = self.query_one("#page", Vertical)
        await place.remove_children()
        await place.mount(page)
        page.mistaken(mistake)
        trail = self.query_one("#trail", Line)
        trail.say("  ".join(f"✓ {each}" for each in course.trail))
        trail.display = bool(course.trail)
        box = self.query_one("#wizard")
        box.border_subtitle = "the last look" if question is None else f"question {course.number}"
        forward = self.query_one("#next", Button)
        forward.label = "Next" if question else "Write it and start" if course.found.root else "Write it"
        self._wait(busy=False)
        self.query_one("#back", Button).disabled = not course.begun

    @property
    def _page(self) -> Page | LastPage | None:
        return next((each for each in self.query_one("#page").children if isinstance(each, Page | LastPage)), None)

    def _wait(self, *, busy: bool) -> None:
        self._busy = busy
        self.query_one("#next", Button).disabled = busy
        self.query_one("#back", Button).disabled = busy
        if self._page is not None:
            self._page.disabled = busy

    # -- going on -------------------------------------------------------------------------------

    def on_page_answered(self, event: Page.Answered) -> None:
        """Take the answer; what it leads to may need a look at a file, or a client."""
        if not self._busy and self._page is not None:
            self._wait(busy=True)
            self.run_worker(self._take(event.values))

    async def _take(self, values: tuple[str, ...]) -> None:
        course, page = self._course, self._page
        assert course is not None
        assert isinstance(page, Page)
        try:
            await asyncio.to_thread(course.take, page.question, values)
        except Mistaken as mistake:
            self._wait(busy=False)
            page.mistaken(str(mistake))
            page.on_mount()
            return
        await self._turn(await self._try_client(page.question))

    async def _try_client(self, question: Question) -> str:
        """Whether the torrent client lets us in, once that can be known; what is wrong with the login."""
        course = self._course
        assert course is not None
        answers = course.answers
        if question.key not in {"client", "client_secret"} or not answers.client_type or answers.client_secret is None:
            return ""
        self.query_one("#trail", Line).say("trying the torrent client …")
        self._trying = True
        trial = await trying.client(answers)
        self._trying = False
        said = f"{trial.said}." + (f" Next: {trial.hint.rstrip('.')}." if trial.hint else "")
        if trial.good:
            course.refusals = 0
            self.notify(f"{trial.said} answers.", markup=False)
            return ""
        course.refusals += trial.good is False
        if trial.good is None or course.refusals >= trying.MOST_REFUSALS:
            then = "It is tried again whenever vpnpf runs."
            if trial.good is False:
                course.forget_secrets()
                then = "It is taken as it is: write the right one into its file before you start."
            self.notify(f"{said} {then}", severity="warning", markup=False, timeout=15)
            return ""
        course.ask_again(client_again(answers))
        return said

    def on_last_page_agreed(self) -> None:
        """Write it."""
        if not self._busy:
            self._wait(busy=True)
            self.run_worker(self._write())

    async def _write(self) -> None:
        course = self._course
        assert course is not None
        try:
            written, notes = await write(course)
        except VpnpfError as error:
            self._wait(busy=False)
            self.app.push_screen(Told(error))
            return
        for note in notes:
            self.app.notify(note, severity="warning", markup=False, timeout=15)
        # The course is over: the next profile begins with the first question.
        self.dismiss(None)
        if course.found.root:
            usual = written.config == finding.SYSTEM / finding.FILE
            start(self.app, written.profile, None if usual else written.config)
        else:
            self.app.notify(f"Written: {written.config}", markup=False)

    # -- keys and buttons -----------------------------------------------------------------------

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Back, or next."""
        if event.button.id == "back":
            self.action_back()
        elif self._page is not None:
            self._page.answer()

    def action_back(self) -> None:
        """One page back; what was answered stays."""
        if not self._busy and self._course is not None and self._course.back():
            # Two pages that come at once take each other away.
            self._wait(busy=True)
            self.run_worker(self._turn())

    def action_leave(self) -> None:
        """To the start screen: nothing was changed, unless it is being written right now."""
        if self._busy and isinstance(self._page, LastPage):
            return
        if self._course is not None:
            if self._trying:  # whether it is right is not known
                self._course.ask_again(client_again(self._course.answers))
            self._course.forget_secrets()
        self.dismiss(self._course)
