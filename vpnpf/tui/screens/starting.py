"""Starting a profile's daemon from a screen, and looking at it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, cast

from textual.app import App

from vpnpf.control.client import Connection
from vpnpf.errors import VpnpfError
from vpnpf.tui.found import running
from vpnpf.tui.link import SocketLink
from vpnpf.tui.sheets.told import Told
from vpnpf.tui.sheets.working import Done, Say, Working

if TYPE_CHECKING:
    from vpnpf.tui.app import Face


def look_at(app: App[object], profile: str) -> None:
    """Follow its daemon, on the dashboard."""
    face = cast("Face", app)
    while len(face.screen_stack) > 1:
        face.pop_screen()
    face.attach(SocketLink(Connection(profile), profile))
    face.screen.refresh_bindings()


def start(app: App[object], profile: str, config: Path | None) -> None:
    """Start its daemon and wait until it is READY, on a sheet; then look at it. Who stops waiting looks at it as it is."""

    async def begin(say: Say) -> bool:
        from vpnpf import launch  # noqa: PLC0415 - only who starts one

        await launch.start(profile, config, say)
        return True

    def over(done: Done[bool] | None) -> None:
        app.run_worker(_ended(app, profile, done.error if done else None))

    app.push_screen(Working(f"starting {profile}", begin), over)


async def _ended(app: App[object], profile: str, error: VpnpfError | None) -> None:
    there = await asyncio.to_thread(running, (profile,))
    if any(each.profile == profile and each.open for each in there):
        look_at(app, profile)
    if error is not None:
        app.push_screen(Told(error))
