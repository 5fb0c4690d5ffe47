"""A scenario on a gateway with sockets, by the event loop's clock.

    async with playing(parse("at 30s rotate"), gateway):
        await gateway.until(lambda: len(gateway.log) > 8)

When the body ends so does the scenario, and the switches are as they were before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from mock_provider.gateway import Gateway
from mock_provider.natpmp import Step
from mock_provider.perform import Performer
from mock_provider.scenario import Change, Playback, Scenario


@contextlib.asynccontextmanager
async def playing(
    scenario: Scenario, gateway: Gateway, *, on_change: Callable[[Change], None] = lambda _change: None
) -> AsyncIterator[asyncio.Task[None]]:
    """Play a scenario while the body runs; yields the task that does it, which is done when nothing is left to do.

    `on_change` is told of each change once it is made. An error in playing is raised when the body ends.
    """
    performer = Performer(gateway.behaviour, interface=gateway.interface)
    if scenario.seed is not None:
        gateway.reseed(scenario.seed)
    task = asyncio.create_task(_play(scenario, gateway, performer, on_change), name="mock scenario")
    try:
        yield task
    finally:
        task.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        finally:
            await gateway.act(lambda _behaviour, now: performer.put_back(now))


async def _play(
    scenario: Scenario, gateway: Gateway, performer: Performer, on_change: Callable[[Change], None]
) -> None:
    loop = asyncio.get_running_loop()
    playback = Playback(scenario, loop.time())
    while (due := playback.next_due) is not None:
        await asyncio.sleep(due - loop.time())
        for change in playback.due(loop.time()):
            await _perform(gateway, performer, change)
            on_change(change)


async def _perform(gateway: Gateway, performer: Performer, change: Change) -> None:
    def act(_behaviour: object, now: float) -> Step:
        return performer.perform(change, now)

    await gateway.act(act)
