# ruff: noqa: T201 - it talks to a person
"""What port policies cost, with real packets: `make policies`, as root. Prints a table; succeeds if all budgets are kept.

- 10,000 entries from none to read back, by `Nft.apply` as a whole.
- Throughput of a wireguard-go tunnel (iperf3, TCP) without and with 10,000 entries, turn by turn.
- A change of the mode, from the call to the first packet that is treated the new way, with 10,000 entries standing.
- 1,000 changes of the mode under established outbound flows that carry data: how many break.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Self

from msgspec.structs import replace

from tests.system.firewall_lab import GATEWAY, TUNNEL, WEB, Lab, boottime, connect, connected, forward, inside, policy
from tests.system.tunnel_lab import device_name, plan_of, real_tunnel
from vpnpf.firewall.nft import Nft
from vpnpf.model import FirewallPolicy, FirewallStage, Opening, PolicyMode, PortPolicy, Protocol

ENTRIES = 10_000
APPLY_AT_MOST = 150.0
"""ms."""
COST_AT_MOST = 2.0
"""Per cent of the throughput."""
SWITCH_AT_MOST = 50.0
"""ms."""
MODES = (PolicyMode.ALLOW_LIST, PolicyMode.BLOCK_ALL, PolicyMode.OPEN_ALL)
CONNECTED = FirewallStage.CONNECTED


def entries(count: int, now: float) -> tuple[Opening, ...]:
    """Of 20: 16 single ports, 2 of them for some hours, 2 ranges, 1 for an IPv4 prefix, 1 for an IPv6 prefix."""
    made = []
    for number in range(count):
        protocol, first, kind = tuple(Protocol)[number % 2], 1024 + number // 2 * 12, number // 2 % 20
        last = first + 9 if kind < 2 else first
        sources: tuple[str, ...] = ()
        if kind == 2:
            sources = (f"10.{number // 250 % 250}.{number % 250}.0/24",)
        elif kind == 3:
            sources = (f"2001:db8:{number:x}::/48",)
        made.append(Opening(first, last, protocol, sources, ends_at=now + 7200 if kind in {4, 5} else None))
    return tuple(sorted(made, key=lambda each: (each.first, each.last, each.protocol)))


def listed(count: int, mode: PolicyMode = PolicyMode.ALLOW_LIST, **plan: object) -> FirewallPolicy:
    return policy(CONNECTED, forward(40000), inbound=PortPolicy(mode, openings=entries(count, boottime())), **plan)


@dataclass(slots=True)
class Row:
    """One line of the table."""

    what: str
    values: list[float]
    unit: str
    at_most: float | None = None
    figure: float = field(init=False)

    def __post_init__(self) -> None:
        self.figure = statistics.median(self.values)

    @property
    def kept(self) -> bool:
        """Whether it is within the budget."""
        return self.at_most is None or self.figure <= self.at_most


# -- 10,000 entries ---------------------------------------------------------------------------------


async def apply_many(lab: Lab, rounds: int) -> list[Row]:
    """From none, the same again, and one entry more."""
    none, many = policy(CONNECTED, forward(40000)), listed(ENTRIES)
    more = replace(many, inbound=replace(many.inbound, openings=(Opening(7, 7, Protocol.TCP), *many.inbound.openings)))
    times: dict[str, list[float]] = {"from none": [], "the same again": [], "one entry more": []}
    spent: list[float] = []
    for _ in range(rounds):
        nft = Nft()
        with inside(lab.client):
            await nft.apply(none, boottime())
            for name, wanted in zip(times, (many, many, more), strict=True):
                before, cpu = time.perf_counter(), _cpu()
                reading = await nft.apply(wanted, boottime())
                times[name].append((time.perf_counter() - before) * 1000)
                if name == "from none":
                    spent.append((_cpu() - cpu) * 1000)
                assert reading.intact, reading.evidence
                assert len(reading.openings) == len(wanted.inbound.openings)
            await nft.remove()
    rows = [Row(f"{ENTRIES} entries, {name}", some, "ms") for name, some in times.items()]
    rows[0].at_most = APPLY_AT_MOST
    return [*rows, Row("  of the first: processor time, nft's too", spent, "ms")]


def _cpu() -> float:
    return sum(
        each.ru_utime + each.ru_stime
        for each in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


# -- throughput -------------------------------------------------------------------------------------


async def throughput(rounds: int, seconds: float) -> list[Row]:
    """Per cent that 10,000 entries cost, each turn against the mean of the turns before and after it."""
    with closing(Lab()) as lab:
        near = device_name()
        nft, without = Nft(prefix=lab.prefix), policy(CONNECTED, forward(40000), **plan_of(near))
        await nft.apply(without, boottime())
        with real_tunnel(lab, near) as tunnel, _iperf_server(lab):
            tunnel.handshake()
            many = listed(ENTRIES, **plan_of(near))
            speeds: dict[bool, list[float]] = {False: [], True: []}
            costs = []
            for reverse in (False, True):
                series = []
                for turn in range(2 * rounds + 1):
                    listing = turn % 2 == 1
                    assert (await nft.apply(many if listing else without, boottime())).intact
                    series.append(_iperf(lab, seconds, reverse=reverse))
                    speeds[listing].append(series[-1])
                around = zip(series[0::2], series[1::2], series[2::2], strict=False)
                costs += [100 - 200 * listed_speed / (before + after) for before, listed_speed, after in around]
    return [
        Row("tunnel without entries", speeds[False], "Mbit/s"),
        Row(f"tunnel with {ENTRIES} entries", speeds[True], "Mbit/s"),
        Row("  what they cost", costs, "%", COST_AT_MOST),
    ]


@contextmanager
def _iperf_server(lab: Lab) -> Iterator[None]:
    with inside(lab.router):
        server = subprocess.Popen(("iperf3", "-s", "-B", GATEWAY, "--forceflush"), stdout=subprocess.PIPE)
    try:
        assert server.stdout is not None
        while b"listening" not in (server.stdout.readline() or b"listening"):
            pass
        yield
    finally:
        server.kill()
        server.wait()


def _iperf(lab: Lab, seconds: float, *, reverse: bool) -> float:
    """Mbit/s that arrived."""
    command = ("iperf3", "-c", GATEWAY, "-B", TUNNEL, "-t", str(seconds), "-J", *(("-R",) if reverse else ()))
    with inside(lab.client):
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"] / 1e6)


# -- a change of the mode -----------------------------------------------------------------------------


async def switch_times(lab: Lab, rounds: int, count: int = ENTRIES) -> list[Row]:
    """From the call to the first packet that gets through, and to the last one that did."""
    opened, closed = [], []
    nft = Nft()
    server = lab.listen(lab.client, "udp", 22)
    shut, wide = listed(count, PolicyMode.BLOCK_ALL), listed(count, PolicyMode.OPEN_ALL)
    wide = replace(wide, inbound=replace(shut.inbound, mode=PolicyMode.OPEN_ALL))
    with inside(lab.client):
        await nft.apply(shut, boottime())
    with _callers(lab) as calling:
        for _ in range(rounds):
            for wanted, times in ((wide, opened), (shut, closed)):
                began = time.perf_counter()
                with inside(lab.client):
                    await nft.apply(wanted, boottime())
                calling.wait_for(3)
                first_new = next((at for at, came in calling.since(began, server) if came == (wanted is wide)), None)
                assert first_new is not None, "no packet was treated the new way"
                times.append((first_new - began) * 1000)
    return [
        Row(f"block-all to open-all, {count} entries standing", opened, "ms", SWITCH_AT_MOST),
        Row(f"open-all to block-all, {count} entries standing", closed, "ms", SWITCH_AT_MOST),
    ]


class _Calling:
    """New flows of one datagram each, as fast as a thread makes them; each says when it was sent."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._sent: list[float] = []
        self._made = threading.Condition()
        self.stop = threading.Event()

    def run(self) -> None:
        """Until told to stop."""
        with inside(self._lab.server):
            while not self.stop.is_set():
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as caller:
                    caller.bind((WEB, 0))
                    at = time.perf_counter()
                    caller.sendto(repr(at).encode(), (TUNNEL, 22))
                with self._made:
                    self._sent.append(at)
                    self._made.notify_all()
                # Else the thread would keep the interpreter from what is measured.
                self.stop.wait(0.0005)

    def wait_for(self, more: int) -> None:
        """Until some more were sent."""
        with self._made:
            enough = len(self._sent) + more
            assert self._made.wait_for(lambda: len(self._sent) >= enough, 5.0)

    def since(self, began: float, server: socket.socket) -> list[tuple[float, bool]]:
        """(when it was sent, whether it arrived) of all that were sent since then."""
        arrived = set()
        try:
            while True:
                arrived.add(float(server.recv(99)))
        except BlockingIOError:
            return [(at, at in arrived) for at in list(self._sent) if at >= began]


@contextmanager
def _callers(lab: Lab) -> Iterator[_Calling]:
    calling = _Calling(lab)
    thread = threading.Thread(target=calling.run)
    thread.start()
    try:
        yield calling
    finally:
        calling.stop.set()
        thread.join()


# -- established flows --------------------------------------------------------------------------------


class Flows:
    """Outbound TCP connections that send a line and wait for it to come back, over and over, in a thread."""

    def __init__(self, lab: Lab, count: int, far: str, address: str) -> None:
        listener = lab.listen(far, "tcp", 7777, address)
        self._near = [lab.socket(lab.client, "tcp", TUNNEL) for _ in range(count)]
        for each in self._near:
            connect(each, address, 7777)
        assert len(connected(self._near)) == count
        self._far: list[socket.socket] = []
        while len(self._far) < count:
            self._far.append(listener.accept()[0])
        self.turns = dict.fromkeys(self._near, 0)
        self.broken: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        for each in (*self._near, *self._far):
            each.close()

    def _run(self) -> None:
        with selectors.DefaultSelector() as ready:
            for each in (*self._near, *self._far):
                each.setblocking(False)
                ready.register(each, selectors.EVENT_READ)
            for each in self._near:
                each.send(b"line\n")
            while not self._stop.is_set():
                for key, _ in ready.select(0.2):
                    try:
                        data = key.fileobj.recv(4096)  # type: ignore[union-attr]
                        if not data:
                            raise ConnectionError("closed")
                        key.fileobj.send(data)  # type: ignore[union-attr]
                    except OSError as error:
                        self.broken.append(str(error))
                        ready.unregister(key.fileobj)
                        continue
                    if key.fileobj in self.turns:
                        self.turns[key.fileobj] += 1  # type: ignore[index]

    def stalled(self, patience: float = 5.0) -> int:
        """Flows over which nothing comes back any more."""
        before, deadline = dict(self.turns), time.monotonic() + patience
        while time.monotonic() < deadline:
            if all(self.turns[each] > before[each] for each in self._near):
                return 0
            time.sleep(0.01)
        return sum(self.turns[each] <= before[each] for each in self._near)


async def switches(lab: Lab, count: int, flows: int = 20) -> tuple[int, int]:
    """(flows that broke, lines that came back) during so many changes of the mode."""
    nft = Nft()
    wanted = listed(50)
    with inside(lab.client):
        await nft.apply(wanted, boottime())
    with Flows(lab, flows, lab.server, GATEWAY) as carried:
        for number in range(count):
            changed = replace(wanted, inbound=replace(wanted.inbound, mode=MODES[number % 3]))
            with inside(lab.client):
                reading = await nft.apply(changed, boottime())
            assert reading.intact, reading.evidence
        broken = len(carried.broken) + carried.stalled()
        return broken, sum(carried.turns.values())


def table(rows: list[Row]) -> str:
    """The rows for a person."""
    lines = [f"{'':<48} {'median':>10} {'least':>9} {'most':>9} {'at most':>10}"]
    for row in rows:
        budget = "" if row.at_most is None else f"{row.at_most:>8g} {row.unit}  {'kept' if row.kept else 'NOT KEPT'}"
        lines.append(f"{row.what:<48} {row.figure:>10.1f} {min(row.values):>9.1f} {max(row.values):>9.1f}  {budget}")
    return "\n".join(lines)


async def measured(options: argparse.Namespace) -> list[Row]:
    """All rows."""
    with closing(Lab()) as lab:
        rows = await apply_many(lab, options.rounds)
        rows += await switch_times(lab, options.rounds)
        broken, lines = await switches(lab, options.switches)
    rows += [
        Row(f"flows of 20 that broke in {options.switches} changes", [float(broken)], "", 0.0),
        Row("  lines that came back over them", [float(lines)], ""),
    ]
    return rows + await throughput(options.rounds, options.seconds)


def main() -> int:
    """Measure, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10, help="turns of each (default: 10)")
    parser.add_argument("--switches", type=int, default=1000, help="changes of the mode (default: 1000)")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each turn of iperf3 (default: 2)")
    rows = asyncio.run(measured(parser.parse_args()))
    print(table(rows))
    return 0 if all(row.kept for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
