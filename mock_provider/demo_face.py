"""The show with vpnpf's face in front: the same story goes on behind it, and `q` ends it all."""

from __future__ import annotations

import asyncio
import contextlib
import itertools

from mock_provider.demo import Lab, Stage, on_stage, story, summary
from mock_provider.swarm import Swarm
from mock_provider.traffic import lively
from vpnpf.errors import VpnpfError

LIFETIME = 12
"""Seconds of a lease: a renewal every six is seen to count down."""
PAUSE = 3.0
"""Seconds that each part of the story is left to be looked at."""


async def show(*, colour: bool = True) -> Stage:
    """Play it until the person leaves; returns what was claimed until then. Raises VpnpfError if it cannot be built."""
    from vpnpf.tui.app import Face  # noqa: PLC0415 - only on a terminal
    from vpnpf.tui.link import SocketLink  # noqa: PLC0415

    stage = Stage(colour=colour)

    async def play(lab: Lab) -> None:
        face = Face(SocketLink(lab.profile, (lab.runtime,)))
        stage.tell = lambda text: face.notify(text, timeout=6, markup=False)
        async with lively(lab.provider.lab), Swarm(lab.provider.lab, lab.torrent) as swarm:
            behind = [asyncio.create_task(each) for each in (_behind(stage, lab), visitors(lab, swarm))]
            try:
                await face.run_async()
            finally:
                stage.tell = None
                for task in behind:
                    task.cancel()
                for task in behind:
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    await on_stage(stage, LIFETIME, play)
    summary(stage, "you ended it")
    return stage


async def _behind(stage: Stage, lab: Lab) -> None:
    try:
        await story(stage, lab, PAUSE)
        if stage.tell is not None:
            stage.tell("That was the whole story. It goes on until you leave with q.")
    except VpnpfError as error:
        # Stopped from the face, for one: that is the person's to do, and no claim that failed.
        if stage.tell is not None:
            stage.tell(f"The story ends here: {error.cause[:200]}")


async def visitors(lab: Lab, swarm: Swarm) -> None:
    """Once the first was seen to come in, more do: strangers, now and then several, until it is cancelled."""
    with contextlib.suppress(VpnpfError):
        await lab.product.until(lambda _state: bool(lab.product.forward()["proofs"]["reachable"]["ok"]), deadline=60.0)
    for number in itertools.count():
        forward = lab.product.forward() if lab.product.state else {}
        if forward.get("external_port") and forward.get("exit_address"):
            for _ in range((2, 1, 3, 1, 1)[number % 5]):
                swarm.visit(forward["exit_address"], int(forward["external_port"]))
        await asyncio.sleep(2 + number * 2 % 5)
