# ruff: noqa: T201 - it talks to a person
"""How soon all is well again: `python -m tests.faults.recovery`, part of `make faults`.

A datagram goes through the tunnel to a host on the internet every 20 ms, and comes back. Traffic is back when the
first that was sent after a moment returns.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import socket
import struct
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self

from mock_provider.peer import Echo
from mock_provider.topology import INTERNET
from tests.faults.world import World
from tests.figures import Figure, show

EVERY = 0.02
"""Seconds between two datagrams."""
ECHO_PORT = 7
PATIENCE = 90.0
BUDGETS = {
    "tunnel's program killed: traffic back after": 1.0,
    "uplink out for 3 s: traffic back after its return": 2.0,
    "server gone for 2 s: traffic back after its return": 5.0,
    "server gone for 8 s: traffic back after its return": 5.0,
    "server gone for 25 s: traffic back after its return": 5.0,
    "server gone for good: noticed after": 20.0,
    "server gone for good: next server and port after": 30.0,
    "server gone for good: client told, after that": 5.0,
}
"""Seconds that 95 of 100 may take."""
KILLED, CABLE, GONE2, GONE8, GONE25, NOTICED, NEXT, TOLD = BUDGETS

Times = dict[str, list[float]]


class Pulse:
    """Datagrams through the tunnel and back; an async context manager."""

    def __init__(self, world: World) -> None:
        self._socket = world.lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back: asyncio.Event = asyncio.Event()
        self._newest = 0.0
        """When the newest that came back was sent, on time.monotonic()."""
        self._arrived = 0.0
        self._after = math.inf
        """The first that was sent after this one is waited for."""
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        self._task = asyncio.create_task(self._send())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    async def back(self, since: float, patience: float = PATIENCE) -> float:
        """Seconds from that moment (time.monotonic) until one that was sent after it is back. Raises TimeoutError."""
        self._after = since
        self._back.clear()
        async with asyncio.timeout(patience):
            await self._back.wait()
        return self._arrived - since

    async def _send(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self._socket.sendto(struct.pack("d", time.monotonic()), (INTERNET, ECHO_PORT))
            await asyncio.sleep(EVERY)

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                (sent,) = struct.unpack("d", self._socket.recv(64))
                if sent > self._after:
                    self._arrived, self._after = time.monotonic(), math.inf
                    self._back.set()


@contextlib.asynccontextmanager
async def pulsing(world: World) -> AsyncIterator[Pulse]:
    """READY, with traffic that flows."""
    async with Echo(world.lab.internet, INTERNET, ECHO_PORT), Pulse(world) as pulse:
        await world.start()
        await world.ready()
        await pulse.back(time.monotonic())
        yield pulse


async def tunnel_killed(times: Times, number: int) -> None:
    """kill -9 of wireguard-go."""
    async with World() as world, pulsing(world) as pulse:
        for _ in range(number):
            killed = time.monotonic()
            await world.kill_tunnel()
            times[KILLED].append(await pulse.back(killed))
            await world.recovered()


async def uplink_out(times: Times, number: int) -> None:
    """The cable out for 3 s."""
    async with World() as world, pulsing(world) as pulse:
        for _ in range(number):
            await world.lab.router.must(("ip", "link", "set", "p-client", "down"))
            await asyncio.sleep(3)
            await world.lab.router.must(("ip", "link", "set", "p-client", "up"))
            times[CABLE].append(await pulse.back(time.monotonic()))
            await world.recovered()


async def server_gone(times: Times, number: int) -> None:
    """The only server is away for a while, without its sessions after that."""
    async with World() as world, pulsing(world) as pulse:
        for away, what in ((2, GONE2), (8, GONE8), (25, GONE25)) * number:
            await world.provider.server.kill()
            await asyncio.sleep(away)
            await world.provider.server.restart()
            times[what].append(await pulse.back(time.monotonic()))
            await world.recovered()


async def server_gone_for_good(times: Times, number: int) -> None:
    """Of two servers the one in use goes silent, and stays so until the other is in use."""
    async with World(servers=2, torrent=True) as world, pulsing(world) as pulse:
        assert world.client is not None
        product, sites = world.product, itertools.cycle(world.provider.servers)
        for site in itertools.islice(sites, number):
            before, events = product.state["server"]["number"], len(product.events)
            gone = time.monotonic()
            await site.mute()
            await product.until(lambda _, since=events: _noticed(product.events[since:]), PATIENCE)
            times[NOTICED].append(time.monotonic() - gone)
            await product.until(lambda state, was=before: state["server"]["number"] not in {None, was}, PATIENCE)
            await product.until(lambda state: bool(state["forwards"][0]["external_port"]), PATIENCE)
            granted = time.monotonic()
            times[NEXT].append(granted - gone)
            while (await world.client.preferences())["listen_port"] != world.port:
                assert time.monotonic() - granted < PATIENCE, "the torrent client was never told"
            times[TOLD].append(time.monotonic() - granted)
            await site.unmute()
            await world.ready()
            await pulse.back(time.monotonic())


def _noticed(events: list[dict[str, object]]) -> bool:
    """Whether the product has said that something is wrong with its tunnel."""
    return any(
        event["event"] == "remedy" or (event["event"] == "phase" and event["phase"] in {"blocked", "leasing"})
        for event in events
    )


PARTS: dict[str, tuple[Callable[[Times, int], Awaitable[None]], int]] = {
    "killed": (tunnel_killed, 50),
    "uplink": (uplink_out, 20),
    "gone": (server_gone, 6),
    "for-good": (server_gone_for_good, 6),
}
"""What is done, and how often."""


async def run(parts: dict[str, int]) -> Times:
    """Each part so many times, one after the other: nothing else is to take the processor."""
    times: Times = defaultdict(list)
    for name, number in parts.items():
        await PARTS[name][0](times, number)
    return times


def share(values: list[float], of_hundred: int) -> float:
    """The value that so many of 100 do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * of_hundred / 100) - 1)]


def figures(times: Times) -> list[Figure]:
    """The rows of the table."""
    return [Figure(what, share(times[what], 95), "s", at_most=BUDGETS[what]) for what in BUDGETS if what in times]


def main() -> int:
    """Do it, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--part", action="append", choices=PARTS, help="only this")
    parser.add_argument("--times", type=int, help="how often instead of the usual")
    options = parser.parse_args()
    parts = {name: options.times or PARTS[name][1] for name in options.part or PARTS}
    times = asyncio.run(run(parts))
    print(f"{'seconds':<62} {'times':>6} {'p50':>8} {'p95':>8} {'max':>8}")
    for what in BUDGETS:
        if values := times.get(what):
            row = "".join(f" {share(values, of):8.3f}" for of in (50, 95, 100))
            print(f"{what:<62} {len(values):>6}{row}")
    return show("Recovery, 95 of 100", figures(times))


if __name__ == "__main__":
    sys.exit(main())
