"""Starting a profile's daemon from a screen, and looking at it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual.app import App

from vpnpf.printable import printable
from vpnpf.tui.found import running
from vpnpf.tui.link import SocketLink
from vpnpf.tui.sheets.died import Died
from vpnpf.tui.sheets.working import Done, Say, Working

if TYPE_CHECKING:
    from vpnpf.tui.app import Face

_LAST = 8
"""Lines that it said, shown if it ends."""


def look_at(app: App[object], profile: str) -> None:
    """Follow its daemon, on the dashboard."""
    face = cast("Face", app)
    while len(face.screen_stack) > 1:
        face.pop_screen()
    face.attach(SocketLink(profile))
    face.refresh_bindings()


def start(app: App[object], profile: str, config: Path | None) -> None:
    """Start its daemon and wait until it is READY, on a sheet; then look at it. Who stops waiting looks at it as it is."""
    said: list[str] = []
    cancelled = threading.Event()

    async def begin(say: Say) -> bool:
        from vpnpf import launch  # noqa: PLC0415 - only who starts one

        loop = asyncio.get_running_loop()

        def told(line: str) -> None:
            said.append(line)
            loop.call_soon_threadsafe(say, printable(line, 200))

        try:
            await asyncio.to_thread(launch.bring_up, profile, config, told, cancelled=cancelled)
        finally:
            cancelled.set()
        return True

    def over(done: Done[bool] | None) -> None:
        app.run_worker(_ended(app, profile, done, said))

    app.push_screen(Working(f"starting {profile}", begin), over)


async def _ended(app: App[object], profile: str, done: Done[bool] | None, said: list[str]) -> None:
    there = await asyncio.to_thread(running, (profile,))
    if any(each.profile == profile and each.open for each in there):
        look_at(app, profile)
    if done is not None and done.error is not None:
        app.push_screen(Died(done.error, said[-_LAST:]))
