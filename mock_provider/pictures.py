"""Pictures of the face for README and docs, from a real run: the mock provider, a real qBittorrent, vpnpf and its socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mock_provider import svg
from mock_provider.demo import Lab, Stage, on_stage, story
from mock_provider.traffic import lively
from vpnpf.errors import VpnpfError

if TYPE_CHECKING:
    from textual.pilot import Pilot
    from textual.screen import Screen

    from vpnpf.tui.app import Face

PROFILE = "home"
HOME = Path("/mnt/ada")
"""Whose files are found; /mnt is our own (see `cli.pictures`)."""
LIFETIME = 6
WIDE, NARROW = (120, 40), (80, 24)
SHEETS = {
    "policy": ("p",),
    "policy-plan": ("p", "down", "enter"),
    "allow-list": ("a",),
    "exposure": ("x",),
    "client": ("t",),
}
"""Pictures of what opens over the dashboard, by name, and the keys that lead there."""
RATES = 8
"""Readings of the traffic that the small one has at least."""
Visit = Callable[[int], Awaitable[None]]
_STEP = 1.0
"""Seconds between two frames of the moving one."""
_AFTER = 5.0
"""Seconds that it goes on after the story."""


async def take(into: Path) -> None:
    """Write them all into a directory. Raises VpnpfError if the run does not go as it should."""
    from vpnpf.tui.app import Face  # noqa: PLC0415
    from vpnpf.tui.link import SocketLink  # noqa: PLC0415

    into = _whole(into)
    places = into / "screenshots"
    places.mkdir(parents=True, exist_ok=True)
    stage = Stage(colour=False)
    stage.tell = lambda _text: None

    def face(lab: Lab) -> Face:
        return Face(SocketLink(PROFILE, (lab.runtime,)))

    async def play(lab: Lab) -> None:
        async with lively(lab.provider.lab) as visit:
            await _pose(lab, visit)
        await _first_start(lab, places)

    async def _pose(lab: Lab, visit: Visit) -> None:
        async with face(lab).run_test(size=WIDE) as pilot:
            frames: list[tuple[float, svg.Frame]] = []
            filming = asyncio.create_task(_film(pilot, frames))
            visiting = asyncio.create_task(_visitors(lab, visit))
            await story(stage, lab)
            await asyncio.sleep(_AFTER)
            filming.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await filming
            ends = frames[-1][0] + 4 * _STEP
            _write(into / "face.svg", svg.moving(frames, ends, WIDE[0], "vpnpf: a port that is kept"))
            await _shoot(pilot, places / "dashboard-dark.svg")
            pilot.app.theme = "light"
            await _shoot(pilot, places / "dashboard-light.svg")
            pilot.app.theme = "dark"
            for name, keys in SHEETS.items():
                for key in keys:
                    await pilot.press(key)
                    await _settled(pilot)
                await _shoot(pilot, places / f"{name}.svg")
                while len(pilot.app.screen_stack) > 1:
                    await pilot.press("escape")
                    await _settled(pilot)
        small = face(lab)
        async with small.run_test(size=NARROW) as pilot:
            await _until(pilot, lambda: small.view.port is not None)
            await _until(pilot, lambda: len(small.view.rates) >= RATES)
            await _shoot(pilot, places / "dashboard-small.svg")
        visiting.cancel()

    await on_stage(stage, LIFETIME, play, PROFILE)
    failed = [f"{act.claim}: {act.evidence}" for act in stage.acts if not act.held]
    if failed:
        raise VpnpfError("taking the pictures", "; ".join(failed), "look at what the demo says")


async def _first_start(lab: Lab, places: Path) -> None:
    """The questions, with a file that was downloaded."""
    from vpnpf.tui.app import Face  # noqa: PLC0415
    from vpnpf.tui.screens.wizard import Wizard  # noqa: PLC0415

    downloads = HOME / "Downloads"
    _make(downloads)
    lab.provider.client_config(downloads / "proton-nl-9.conf")
    os.environ.update(HOME=str(HOME))
    os.environ.pop("SUDO_UID", None)
    asked = Face(None, first=lambda: cast("Screen[None]", Wizard(HOME / "config.toml")))
    async with asked.run_test(size=(100, 30)) as pilot:
        for name in ("provider", "file"):
            await _until(pilot, lambda: bool(asked.screen.query("Page OptionList")))
            await _shoot(pilot, places / f"first-start-{name}.svg")
            await pilot.press("enter")
            await _settled(pilot)


def _make(directory: Path) -> None:
    directory.mkdir(parents=True)
    os.chdir(HOME)  # what lies in the working directory is offered, too


async def _film(pilot: Pilot[str], frames: list[tuple[float, svg.Frame]]) -> None:
    """A frame each second, until it is cancelled."""
    began = time.monotonic()
    while True:
        frames.append((round(time.monotonic() - began, 1) if frames else 0.0, _frame(pilot)))
        await asyncio.sleep(_STEP)


def _frame(pilot: Pilot[str]) -> svg.Frame:
    app = pilot.app
    return svg.frame(app.screen._compositor.render_strips(app.size))  # noqa: SLF001 - what the terminal is given


async def _shoot(pilot: Pilot[str], path: Path) -> None:
    pilot.app.clear_notifications()
    await _settled(pilot)
    _write(path, svg.still(_frame(pilot), pilot.app.size.width, f"vpnpf: {path.stem}"))


def _whole(path: Path) -> Path:
    return path.absolute()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


async def _settled(pilot: Pilot[str]) -> None:
    """A second and a bit: what is shown live is shown then."""
    await pilot.pause(1.2)


async def _until(pilot: Pilot[str], condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await pilot.pause(0.05)


async def _visitors(lab: Lab, visit: Visit) -> None:
    """Strangers come in, now and then several, until it is cancelled."""
    for number in itertools.count():
        port = int(lab.product.forward()["external_port"] or 0) if lab.product.state else 0
        for _ in range(1 + number % 3 if port else 0):
            await visit(port)
        await asyncio.sleep(1.5 + number % 4)
