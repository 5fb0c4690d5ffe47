"""A daemon with one lease that nobody asks anything, and one with a hundred watchers: `python -m tests.bench.daemon`.

As root: a real tunnel and gateway in network namespaces. Memory and processor time are those of the daemon's own process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from mock_provider.product import Product, unique_profile
from mock_provider.provider import MockProvider
from tests.figures import Figure, show
from vpnpf.control.client import Connection
from vpnpf.control.place import name_of, short

MEMORY = 45.0
"""MB resident."""
CORE = 0.2
"""Percent of one core."""
SETTLED = 30.0
"""Seconds from READY until a daemon is idle."""
WATCHERS = 100
DELAY = 0.1
"""Seconds by which watchers may make the latest renewal later."""
LATE = 0.5
"""Seconds after which a renewal has to have its answer, with them."""


@contextlib.asynccontextmanager
async def running(lifetime: int, *arguments: str) -> AsyncIterator[tuple[Product, Connection, Path]]:
    """A daemon with one lease that has a redirected port and no client; READY."""
    with tempfile.TemporaryDirectory(prefix="vpnpf-bench-") as name:
        directory, profile = Path(name), unique_profile()
        async with MockProvider(lifetime=lifetime) as provider:
            provider.client_config(directory / "proton.conf")
            config = directory / "config.toml"
            config.write_text(
                f'[profiles.{profile}]\nprovider = "protonvpn"\ntunnel = {{ type = "wireguard", config = "proton.conf" }}\n'
                'forwards.game = { protocols = ["tcp"], internal_port = 25565 }\n'
            )
            with provider.lab.client.socket() as server:
                server.bind(("0.0.0.0", 25565))
                server.listen()
                async with Product(provider.lab.client, directory, config, profile, arguments=arguments) as product:
                    runtime = directory / "runtime"
                    await ready(runtime / f"status-{profile}.json")
                    yield product, Connection(profile, (runtime,)), runtime / name_of(profile)
                    if await product.stop() != 0:
                        raise SystemExit(product.talk)


async def ready(status: Path) -> None:
    """Wait for a phase by the status file, which loads nothing."""

    def phase() -> str:
        return json.loads(status.read_text())["phase"] if status.exists() else ""

    async with asyncio.timeout(30):
        while await asyncio.to_thread(phase) != "ready":  # noqa: ASYNC110 - the file has no word for its change
            await asyncio.sleep(0.1)


def megabytes(pid: int) -> float:
    """Resident."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def spent(pid: int) -> float:
    """Seconds of processor time, of all its threads (proc(5), schedstat)."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return sum(int(each.joinpath("schedstat").read_text().split()[0]) for each in tasks) / 1e9


async def idle(seconds: float, settled: float = SETTLED) -> list[Figure]:
    """What it takes while nothing happens: a lease of a minute, as ProtonVPN's are."""
    async with running(60) as (product, connection, _):
        quiet = megabytes(product.pid)
        await asyncio.to_thread(connection.get, "/v1/state")
        # Proofs are looked at more often at first.
        await asyncio.sleep(settled)
        before, loop = spent(product.pid), asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(seconds)
        core = 100 * (spent(product.pid) - before) / (loop.time() - began)
        return [
            Figure("resident, READY", quiet, "MB", at_most=MEMORY),
            Figure("resident, READY, and asked once", megabytes(product.pid), "MB", at_most=MEMORY),
            Figure(f"processor in {seconds:g} s", core, "%", at_most=CORE),
        ]


async def watched(renewals: int, count: int = WATCHERS) -> list[Figure]:
    """How late renewals are without watchers, and with so many, one of which reads nothing: leases of two seconds."""
    async with running(2, "--events") as (product, _, path):
        without = await lateness(product, renewals)
        async with contextlib.AsyncExitStack() as stack:
            lines = [await stack.enter_async_context(watcher(path, stuck=number == 0)) for number in range(count)]
            with_them = await lateness(product, renewals)
            seen = [len(each) for each in lines[1:]]
            if min(seen) < renewals or lines[0]:
                raise SystemExit(f"they did not watch: {min(seen)} lines, {len(lines[0])} of the one that is stuck")
        return [
            Figure("latest renewal without watchers", max(without), "s"),
            Figure(f"latest with {count}, one stuck", max(with_them), "s", at_most=LATE),
            Figure("that much later", max(with_them) - max(without), "s", at_most=DELAY),
            Figure("median without", statistics.median(without), "s"),
            Figure("median with", statistics.median(with_them), "s"),
        ]


async def lateness(product: Product, renewals: int) -> list[float]:
    """Seconds from when each of so many renewals was due to when it was had."""
    begin = len(product.events)
    told = len(product.notices("renewed"))
    await product.until(lambda _: len(product.notices("renewed")) >= told + renewals, 60)
    found, due = [], None
    for event in product.events[begin:]:
        if event["event"] == "renewed" and due is not None:
            found.append((datetime.fromisoformat(event["time"]) - datetime.fromisoformat(due)).total_seconds())
        elif event["event"] == "state":
            due = event["forwards"][0]["renew_at"]
    return found


@contextlib.asynccontextmanager
async def watcher(path: Path, *, stuck: bool) -> AsyncIterator[list[bytes]]:
    """Somebody who watches the events; returns the lines that were read."""
    sock = socket.socket(socket.AF_UNIX)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
    with short(path.parent) as near:
        sock.connect(f"{near}/{path.name}")
    reader, writer = await asyncio.open_unix_connection(sock=sock, limit=1 << 20)
    writer.write(b"GET /v1/events HTTP/1.1\r\nhost: vpnpf\r\n\r\n")
    lines: list[bytes] = []

    async def read() -> None:
        while line := await reader.readline():
            if line.startswith(b"{"):
                lines.append(line)

    if stuck:
        writer.transport.pause_reading()  # type: ignore[attr-defined]  # a transport that reads, too
    reading = None if stuck else asyncio.create_task(read())
    try:
        yield lines
    finally:
        if reading is not None:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
        writer.transport.abort()


def main() -> int:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--renewals", type=int, default=20)
    given = parser.parse_args()
    alone = show("A daemon with one lease", asyncio.run(idle(given.seconds)))
    return show("And watched", asyncio.run(watched(given.renewals))) or alone


if __name__ == "__main__":
    sys.exit(main())
