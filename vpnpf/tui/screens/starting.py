"""Starting a profile's daemon from a screen, and looking at it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual.app import App

from vpnpf.errors import Unavailable, VpnpfError
from vpnpf.printable import printable
from vpnpf.tui.found import running
from vpnpf.tui.link import SocketLink
from vpnpf.tui.sheets.died import Died
from vpnpf.tui.sheets.working import Done, Say, Working

if TYPE_CHECKING:
    from vpnpf.control.seen import Seen
    from vpnpf.tui.app import Face

_ERROR, _HINT = "error: ", "  hint: "
"""How a line of `vpnpf run` begins that says why it ends, and what to do."""
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
    """Start its daemon and wait on a sheet until it is READY or has a problem; then look at it, the hint to the problem too.

    Who stops waiting looks at it as it is.
    """
    cast("Face", app).configs[profile] = config
    said: list[str] = []
    cancelled = threading.Event()

    async def begin(say: Say) -> bool:
        from vpnpf import launch  # noqa: PLC0415 - only who starts one

        loop = asyncio.get_running_loop()

        def told(line: str) -> None:
            said.append(line)
            loop.call_soon_threadsafe(say, printable(line, 200))

        try:
            await asyncio.to_thread(launch.bring_up, profile, config, told, cancelled=cancelled, wanted=_enough)
        finally:
            cancelled.set()
        return True

    def over(done: Done[bool] | None) -> None:
        app.run_worker(_ended(app, profile, config, done, said))

    app.push_screen(Working(f"starting {profile}", begin), over)


def _enough(seen: Seen) -> bool:
    """Whether there is more to see on the dashboard than a line says."""
    return seen.phase in {"ready", "failed"} or bool(seen.problems)


def _why(error: VpnpfError, said: Sequence[str]) -> VpnpfError:
    """Why it ended, as it said itself, with its hint: that says more than with which status. Else the error as it is."""
    place = next((number for number, line in enumerate(said) if line.startswith(_ERROR)), None)
    if place is None:
        return error
    hints = [line.removeprefix(_HINT) for line in said[place + 1 :] if line.startswith(_HINT)]
    cause = said[place].removeprefix(_ERROR)
    return Unavailable(error.doing, cause, hints[0] if hints else error.hint)


async def _ended(app: App[object], profile: str, config: Path | None, done: Done[bool] | None, said: list[str]) -> None:
    there = await asyncio.to_thread(running, (profile,))
    if any(each.profile == profile and each.open for each in there):
        look_at(app, profile)
    if done is not None and done.error is not None:

        def over(again: bool | None) -> None:
            if again:
                start(app, profile, config)

        app.push_screen(Died(_why(done.error, said), said[-_LAST:]), over)
