"""The report, whole, and where it is saved."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Button, Input, Log

from vpnpf.errors import UsageError, VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.saving import place_for, save
from vpnpf.tui.sheets.sheet import Sheet


class Report(Sheet[str]):
    """Ends with the path it was saved to."""

    DEFAULT_CSS = """
    Report > #sheet { height: 90%; width: 94%; max-width: 130; }
    Report Log { height: 1fr; background: $boost; padding: 0 1; }
    Report #said { margin: 1 0; }
    Report Horizontal { height: auto; }
    Report Input { width: 1fr; margin-top: 1; }
    Report Button { margin-left: 2; }
    """
    HEADING = "report"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("pageup", "turn('up')", "Page up", show=False),
        Binding("pagedown", "turn('down')", "Page down"),
        Binding("escape", "leave", "Back"),
    ]

    def __init__(self, profile: str, text: str) -> None:
        super().__init__()
        self._profile = profile
        self._text = text

    def content(self) -> ComposeResult:
        """The text, and the path."""
        yield Log(highlight=False)
        yield Line("Without keys, passwords, names and public addresses. Read it before you post it.", id="said")
        with Horizontal():
            yield Input(id="path", compact=True)
            yield Button("Save", id="save", variant="primary")

    def on_mount(self) -> None:
        """Show it from its beginning."""
        log = self.query_one(Log)
        log.auto_scroll = False
        log.write_lines([printable(line) for line in self._text.splitlines()])
        path = self.query_one("#path", Input)
        try:
            path.value = str(place_for(self._profile))
        except OSError:  # the current directory is gone
            path.value = str(Path.home() / f"vpnpf-report-{self._profile}.txt")
        path.focus()

    def on_input_submitted(self) -> None:
        """Save it."""
        self._begin()

    def on_button_pressed(self) -> None:
        """Likewise."""
        self._begin()

    def _begin(self) -> None:
        self.run_worker(self._save(self.query_one("#path", Input).value.strip()), exclusive=True)

    async def _save(self, named: str) -> None:
        """In a thread: a disk may be slow. What went wrong is said, and the path stays to be changed."""
        try:
            if not named:
                raise UsageError("saving the report", "no file is named", "type where to write it")
            path = await asyncio.to_thread(save, self._text, named)
        except VpnpfError as error:
            hint = f"\nWhat to do: {printable(error.hint)}" if error.hint else ""
            self.query_one("#said", Line).say(f"✗ {printable(str(error))}{hint}")
        else:
            self.dismiss(path)

    def action_turn(self, which: str) -> None:
        """Scroll while the path has the focus."""
        log = self.query_one(Log)
        log.scroll_page_down() if which == "down" else log.scroll_page_up()
