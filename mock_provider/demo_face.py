"""The show with vpnpf's face in front: the same story goes on behind it, and `q` ends it all."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from mock_provider.demo import Lab, Stage, on_stage, story, summary
from mock_provider.traffic import lively
from vpnpf.errors import VpnpfError

LIFETIME = 12
"""Seconds of a lease: a renewal every six is seen to count down."""
VISITS = 4.0
"""Seconds between two who connect, when the story is over."""


async def show(*, colour: bool = True) -> Stage:
    """Play it until the person leaves; returns what was claimed until then. Raises VpnpfError if it cannot be built."""
    from vpnpf.tui.app import Face  # noqa: PLC0415 - only on a terminal
    from vpnpf.tui.link import SocketLink  # noqa: PLC0415

    stage = Stage(colour=colour)

    async def play(lab: Lab) -> None:
        face = Face(SocketLink(lab.profile, (lab.runtime,)))
        stage.tell = lambda text: face.notify(text, timeout=6, markup=False)
        async with lively(lab.provider.lab) as visit:
            behind = asyncio.create_task(_behind(stage, lab, visit), name="story")
            try:
                await face.run_async()
            finally:
                stage.tell = None
                behind.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await behind

    await on_stage(stage, LIFETIME, play)
    summary(stage, "you ended it")
    return stage


async def _behind(stage: Stage, lab: Lab, visit: Callable[[int], Awaitable[None]]) -> None:
    """The story, then visitors, until it is cancelled."""
    try:
        await story(stage, lab)
        if stage.tell is not None:
            stage.tell("That was the whole story. It goes on until you leave with q.")
    except VpnpfError as error:
        # Stopped from the face, for one: that is the person's to do, and no claim that failed.
        if stage.tell is not None:
            stage.tell(f"The story ends here: {error.cause[:200]}")
    while True:
        await asyncio.sleep(VISITS)
        port = lab.product.forward()["external_port"] if lab.product.state else None
        if port:
            await visit(int(port))
