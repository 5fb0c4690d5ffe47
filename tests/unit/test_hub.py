"""One publisher, any number of readers: none of them delays it, each gets the newest state and what it missed."""

from __future__ import annotations

import asyncio

import pytest

from vpnpf.events import PhaseChanged
from vpnpf.hub import KEPT, Hub, Moment
from vpnpf.model import Phase, PortPolicy, State


def state(phase=Phase.READY, since=0.0):
    return State("home", "mock", phase, since, None, None, PortPolicy(), None, ())


def moments(*numbers):
    return tuple(Moment(float(number), PhaseChanged(Phase.STARTING, Phase.READY, str(number))) for number in numbers)


async def rest(reader):
    """What is left to read of a hub that was closed."""
    return [update async for update in reader.updates()]


async def test_a_reader_gets_state_and_notices():
    hub = Hub()
    with hub.subscribe() as reader:
        hub.publish(state(), moments(1, 2))
        hub.close()
        (update,) = await rest(reader)
    assert update.state == state()
    assert update.moments == moments(1, 2)
    assert update.missed == 0


async def test_a_late_reader_begins_with_the_state_of_now():
    hub = Hub()
    hub.publish(state(), moments(1))
    with hub.subscribe() as reader:
        hub.close()
        (update,) = await rest(reader)
    assert (update.state, update.moments) == (state(), ())


async def test_a_slow_reader_gets_the_newest_state_once_and_every_notice():
    hub = Hub()
    with hub.subscribe() as reader:
        for number in range(10):
            hub.publish(state(since=float(number)), moments(number))
        hub.close()
        (update,) = await rest(reader)
    assert update.state == state(since=9.0)
    assert update.moments == moments(*range(10))


@pytest.mark.parametrize("at_once", [1, 7, KEPT + 3])
async def test_a_reader_that_does_not_come_is_told_how_much_it_missed(at_once):
    hub = Hub()
    published = 0
    with hub.subscribe() as reader:
        while published < KEPT + 500:
            hub.publish(state(since=float(published)), moments(*range(published, published + at_once)))
            published += at_once
        hub.close()
        (update,) = await rest(reader)
    assert update.missed == published - KEPT
    assert [moment.at for moment in update.moments] == [float(at) for at in range(published - KEPT, published)]


async def test_what_was_missed_is_told_once():
    hub = Hub()
    with hub.subscribe() as reader:
        updates = reader.updates()
        hub.publish(state(), moments(*range(KEPT + 1)))
        assert (await anext(updates)).missed == 1
        hub.publish(state(), moments(1))
        assert (await anext(updates)).missed == 0


async def test_readers_do_not_take_from_each_other():
    hub = Hub()
    with hub.subscribe() as first, hub.subscribe() as second:
        hub.publish(state(), moments(1))
        hub.close()
        assert await rest(first) == await rest(second)


async def test_nothing_new_wakes_nobody():
    hub = Hub()
    with hub.subscribe() as reader:
        updates = reader.updates()
        hub.publish(state(), ())
        await anext(updates)
        hub.publish(state(), ())
        waiting = asyncio.ensure_future(anext(updates))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not waiting.done()
        hub.publish(state(), moments(1))
        assert (await waiting).moments == moments(1)


async def test_a_reader_that_waits_ends_when_the_hub_closes():
    hub = Hub()
    with hub.subscribe() as reader:
        waiting = asyncio.ensure_future(rest(reader))
        await asyncio.sleep(0)
        hub.close()
        assert await asyncio.wait_for(waiting, 1) == []


async def test_what_came_before_the_close_is_still_read():
    hub = Hub()
    with hub.subscribe() as reader:
        updates = reader.updates()
        hub.publish(state(Phase.STOPPING), ())
        await anext(updates)
        hub.publish(state(Phase.STOPPED), moments(1))
        hub.close()
        assert [update.state.phase for update in [each async for each in updates]] == [Phase.STOPPED]


async def test_who_comes_after_the_close_reads_the_last_state_and_does_not_wait():
    hub = Hub()
    hub.publish(state(Phase.STOPPED), ())
    hub.close()
    with hub.subscribe() as reader:
        (update,) = await asyncio.wait_for(rest(reader), 1)
    assert update.state.phase is Phase.STOPPED
    empty = Hub()
    empty.close()
    with empty.subscribe() as reader:
        assert await asyncio.wait_for(rest(reader), 1) == []


async def test_who_has_left_is_not_written_to():
    hub = Hub()
    with hub.subscribe() as reader:
        pass
    hub.publish(state(), moments(1))
    reader.close()
    assert await rest(reader) == []


async def test_who_is_cancelled_has_left():
    hub = Hub()

    async def read():
        with hub.subscribe() as reader:
            await rest(reader)

    reading = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert not hub._readers
