"""Work that takes a while: what it is, since when, and a way to stop waiting for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import ClassVar, Generic, TypeVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Center
from textual.widgets import Button, ProgressBar

from vpnpf.errors import VpnpfError
from vpnpf.tui.panels.panel import Line
from vpnpf.tui.sheets.sheet import Sheet

Value = TypeVar("Value")
Say = Callable[[str], None]


class Done(Generic[Value]):
    """What came of it: a value, an error, or neither, if it was cancelled."""

    def __init__(self, value: Value | None = None, error: VpnpfError | None = None, *, cancelled: bool = False) -> None:
        self.value, self.error, self.cancelled = value, error, cancelled


class Working(Sheet[Done[Value]]):
    """Runs something in the background and ends with what came of it."""

    DEFAULT_CSS = """
    Working > #sheet { max-width: 60; padding: 1 2; }
    Working ProgressBar { width: 1fr; margin: 1 0; }
    Working Bar { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Cancel")]

    def __init__(self, title: str, work: Callable[[Say], Awaitable[Value]], left: str = "") -> None:
        """`work` is given a way to say how far it is. `left`: what goes on though nobody waits, said when it is cancelled."""
        super().__init__()
        self.heading = title
        self._work = work
        self._left = left
        self._doing: asyncio.Task[None] | None = None  # Textual has a _task of its own
        self._began = 0.0
        self._said = "asked"

    def content(self) -> ComposeResult:
        """How far it is, and the way out."""
        yield Line(id="far")
        yield ProgressBar(total=None, show_eta=False, show_percentage=False)
        with Center():
            yield Button("Cancel", id="cancel")

    def on_mount(self) -> None:
        """Begin."""
        self._began = asyncio.get_running_loop().time()
        self._doing = asyncio.create_task(self._run(), name=f"working: {self.heading}")
        self.set_interval(1.0, self._tell)
        self._tell()

    def on_unmount(self) -> None:
        """Nobody is left to hear of it."""
        if self._doing is not None:
            self._doing.cancel()

    def say(self, text: str) -> None:
        """How far it is."""
        self._said = text
        self._tell()

    def on_button_pressed(self) -> None:
        """The only one is to cancel."""
        self.action_leave()

    def action_leave(self) -> None:
        """Stop waiting."""
        if self._doing is not None:
            self._doing.cancel()
        if self._left:
            self.app.notify(self._left, markup=False)
        self.dismiss(Done(cancelled=True))

    def _tell(self) -> None:
        waited = asyncio.get_running_loop().time() - self._began
        self.query_one("#far", Line).say(f"{self._said}, {waited:.0f} s")

    async def _run(self) -> None:
        try:
            done = Done(await self._work(self.say))
        except VpnpfError as error:
            done = Done(error=error)
        self.dismiss(done)
