"""Pictures of the face for README and docs, from a real run: the mock provider, a real qBittorrent, vpnpf and its socket."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mock_provider.demo import PROOFS, Lab, Stage, on_stage, story
from mock_provider.demo_face import visitors
from mock_provider.filming import SETTLED, filmed, shoot, until
from mock_provider.swarm import Swarm
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
PAUSE = 1.2
"""Seconds that each part of the story is left to be looked at in the film."""
WIDE = (120, 40)
SIZES = {"small": (80, 24), "large": (200, 60)}
THEMES = ("dark", "light", "contrast")
PLAN = ("p", "down", "enter")
SHEETS = {
    "policy": ("p",),
    "policy-plan": PLAN,
    "allow-list": ("a",),
    "exposure": ("x",),
    "client": ("t",),
    "servers": ("s",),
    "help": ("question_mark",),
}
"""Pictures of what opens over the dashboard, by name, and the keys that lead there."""
QUESTIONS = ("provider", "file", "client", "policy", "name", "last")
"""Of the first start, in their order."""
UNSEEN = ("client", "name")
"""Those of which there is no picture."""
LONGEST = 150.0
RATES = 10
"""Readings of the traffic that are plotted there, at least."""
BUSY = 50_000
"""Bytes a second each way, at least."""
PEERS = 5
"""Who came in and is there, in a picture of the dashboard."""


async def take(into: Path) -> None:
    """Write them all into a directory. Raises VpnpfError if the run does not go as it should."""
    into = _whole(into)
    places = into / "screenshots"
    places.mkdir(parents=True, exist_ok=True)
    stage = Stage(colour=False)
    stage.tell = lambda _text: None

    async def play(lab: Lab) -> None:
        async with lively(lab.provider.lab), Swarm(lab.provider.lab, lab.torrent) as swarm:
            visiting = asyncio.create_task(visitors(lab, swarm), name="visitors")
            try:
                async with asyncio.timeout(LONGEST):  # an app that died would be waited for
                    await _dashboard(stage, lab, into / "face.svg", places)
            finally:
                visiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await visiting
        await _first_start(lab, places)

    await on_stage(stage, LIFETIME, play, PROFILE)
    failed = [f"{act.claim}: {act.evidence}" for act in stage.acts if not act.held]
    if failed:
        raise VpnpfError("taking the pictures", "; ".join(failed), "look at what the demo says")


async def _dashboard(stage: Stage, lab: Lab, film: Path, places: Path) -> None:
    from vpnpf.tui.app import Face  # noqa: PLC0415 - Textual takes a while
    from vpnpf.tui.link import SocketLink  # noqa: PLC0415 - likewise

    face = Face(SocketLink(PROFILE, (lab.runtime,)))
    async with face.run_test(size=WIDE) as pilot:
        await until(pilot, lambda: _phase(face) == "ready", "READY")
        await face.link.ask("POST", "/v1/stop")
        await lab.product.until(lambda state: state["phase"] == "stopped")
        await until(pilot, lambda: _phase(face) == "stopped", "STOPPED")
        async with filmed(pilot, film, "vpnpf: a port that is kept"):
            await pilot.pause(PAUSE)
            await pilot.press("d")
            await story(stage, lab, PAUSE)
            await asyncio.sleep(PAUSE)
            for key in PLAN:
                await pilot.press(key)
                await pilot.pause(PAUSE)
            await pilot.pause(PAUSE)
            await _back(pilot)
            await until(pilot, lambda: _handsome(face), "a dashboard to look at")
            await pilot.pause(1.0)
        for name, keys in SHEETS.items():
            for key in keys:
                await pilot.press(key)
                await pilot.pause(SETTLED)
            await shoot(pilot, places / f"{name}.svg", f"vpnpf: {name}")
            await _back(pilot)
        for theme in THEMES:
            face.theme = theme
            await _pose(pilot, face, places / f"dashboard-{theme}.svg")
        face.theme = THEMES[0]
        for name, size in SIZES.items():
            await pilot.resize_terminal(*size)
            await _pose(pilot, face, places / f"dashboard-{name}.svg")


def _phase(face: Face) -> str:
    return face.view.seen.phase if face.view.seen else ""


async def _back(pilot: Pilot[str]) -> None:
    while len(pilot.app.screen_stack) > 1:
        await pilot.press("escape")
        await pilot.pause(SETTLED)


async def _pose(pilot: Pilot[str], face: Face, path: Path) -> None:
    """Take the picture when there is something to see."""
    await pilot.pause(SETTLED)
    await until(pilot, lambda: _handsome(face), "a dashboard to look at")
    await shoot(pilot, path, "vpnpf: the dashboard")


def _handsome(face: Face) -> bool:
    """All proofs hold, somebody is there, and the next renewal is about half way."""
    from vpnpf.tui import words  # noqa: PLC0415 - Textual takes a while

    view, forward = face.view, face.view.forward
    if view.seen is None or forward is None or view.seen.phase != "ready":
        return False
    held = all(name in forward.proofs and forward.proofs[name].ok for name in PROOFS)
    if len(view.rates) < RATES or min(view.rates[-1].received, view.rates[-1].sent) < BUSY:
        return False
    peers = sum(each.connected and each.came_in for each in forward.peers)
    done = words.renewal(view).done
    return held and peers >= PEERS and done is not None and 0.3 <= done <= 0.6


async def _first_start(lab: Lab, places: Path) -> None:
    """The questions, with files that were downloaded."""
    from vpnpf.tui.app import Face  # noqa: PLC0415
    from vpnpf.tui.screens.wizard import Wizard  # noqa: PLC0415

    downloads = HOME / "Downloads"
    _make(downloads)
    for name, site in zip(("nl-9", "is-2", "ch-31"), lab.provider.servers, strict=True):
        site.client_config(downloads / f"proton-{name}.conf")
    os.environ.update(HOME=str(HOME))
    os.environ.pop("SUDO_UID", None)
    asked = Face(None, first=lambda: cast("Screen[None]", Wizard(HOME / "config.toml")))
    async with asked.run_test(size=WIDE) as pilot:
        for name in QUESTIONS:
            await until(pilot, lambda: bool(asked.screen.query("Page, LastPage")), f"the question {name}")
            if name not in UNSEEN:
                await shoot(pilot, places / f"first-start-{name}.svg", "vpnpf: the first start")
            if name != QUESTIONS[-1]:  # on the last one it would write, and start a daemon
                await pilot.press("enter")
                await pilot.pause(SETTLED)


def _make(directory: Path) -> None:
    directory.mkdir(parents=True)
    os.chdir(HOME)  # what lies in the working directory is offered, too


def _whole(path: Path) -> Path:
    return path.absolute()
