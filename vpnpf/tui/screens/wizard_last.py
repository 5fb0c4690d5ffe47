"""The last page: what will be written and done, before anything is."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import ScrollableContainer, Vertical
from textual.message import Message

from vpnpf.printable import printable
from vpnpf.setup import placing
from vpnpf.setup.finding import FILE
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.screens.wizard_course import Course


class LastPage(Vertical):
    """Shows the text of the configuration, and what comes with it."""

    DEFAULT_CSS = """
    LastPage { height: 1fr; padding: 0 1; }
    LastPage #text { text-style: bold; color: $text-accent; }
    LastPage #file { height: 1fr; border: round $panel-lighten-2; padding: 0 1; }
    LastPage #file Line { width: auto; text-wrap: nowrap; }
    LastPage #file:focus { border: round $accent; }
    LastPage #mistake { color: $text-error; text-style: bold; }
    """

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "answer", "Write it", key_display="⏎")]

    class Agreed(Message):
        """It may be written."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course

    def compose(self) -> ComposeResult:
        """Where it goes, the text, and the rest."""
        found = self._course.found
        target = printable(str(found.directory / FILE))
        added = f"This is added to {target}; what is in it stays." if found.standing else f"This goes to {target}."
        yield Line(f"{added} Nothing is written yet.", id="text")
        for line in todo(self._course):
            yield Line(f"· {line}")
        with ScrollableContainer(id="file") as file:
            file.border_title = FILE
            text = placing.preview(found, self._course.answers)
            yield Line("\n".join(printable(line) for line in text.strip().splitlines()))
        yield Line(id="mistake")

    def on_mount(self) -> None:
        """The text can be scrolled at once."""
        self.query_one("#file").focus()

    def mistaken(self, said: str) -> None:
        """As `Page.mistaken`."""
        self.query_one("#mistake", Line).say(f"✗ {printable(said)}" if said else "")

    def action_answer(self) -> None:
        """As on the pages before, Enter goes on."""
        self.answer()

    def answer(self) -> None:
        """It is agreed."""
        self.post_message(self.Agreed())


def todo(course: Course) -> list[str]:
    """What else will be done, each in words."""
    found, answers = course.found, course.answers
    lines = []
    copied = [path.name for path in answers.files or () if path.parent != found.directory]
    if copied:
        lines.append(f"a copy of {printable(', '.join(copied))} goes beside it, for your eyes only")
    if answers.has_secret:
        where = "into your keyring" if answers.keep == "keyring" else "into a file of its own beside it, mode 0600"
        lines.append(f"the password goes {where}")
    if answers.account_user:
        lines.append(
            f"vpnpf logs in at {found.provider(answers.provider or '').name} and keeps the login apart from it"
        )
    lines.append("then vpnpf starts and gets the port" if found.root else "then it can be started, as root")
    return lines
