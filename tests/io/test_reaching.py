"""How far many endpoints are, measured together."""

from __future__ import annotations

import asyncio

from vpnpf.errors import NoAnswer
from vpnpf.io.reaching import AT_ONCE, reached
from vpnpf.model import Endpoint, Protocol
from vpnpf.testing import FakeOutside


def endpoints(count: int) -> list[Endpoint]:
    return [Endpoint(f"198.51.100.{number}", 443, Protocol.TCP) for number in range(count)]


async def test_all_that_answer_are_there():
    async def reach(endpoint):
        if endpoint.address.endswith("3"):
            raise NoAnswer("connecting", "no answer in 2 s")
        return float(endpoint.address.rpartition(".")[2])

    found = await reached(reach, endpoints(20), 5)
    assert len(found) == 18
    assert found[endpoints(20)[7]] == 7.0


async def test_only_some_are_tried_at_a_time():
    running = most = 0
    gate = asyncio.Event()

    async def reach(_):
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == AT_ONCE:
            gate.set()
        await gate.wait()
        running -= 1
        return 1.0

    assert len(await reached(reach, endpoints(50), 5)) == 50
    assert most == AT_ONCE


async def test_who_is_late_is_left_out_and_keeps_nobody():
    async def reach(endpoint):
        if endpoint.address.endswith(".1"):
            await asyncio.Event().wait()
        return 1.0

    found = await reached(reach, endpoints(3), 0.05)
    assert set(found) == {endpoints(3)[0], endpoints(3)[2]}


async def test_nobody():
    async def reach(_):
        raise AssertionError

    assert await reached(reach, (), 5) == {}


async def test_the_double_does_alike():
    io = FakeOutside()
    io.distances = {"198.51.100.0": 0.1, "198.51.100.1": 9.0}
    assert await io.reach_all(endpoints(3), 5.0) == {endpoints(1)[0]: 0.1}
