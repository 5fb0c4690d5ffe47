"""Something to look at: a download and an upload through the tunnel.

async with lively(provider.lab):
    ...
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator

from mock_provider.host import Host
from mock_provider.topology import INTERNET, Lab

PORT = 8443
DOWN, UP = 620_000, 240_000
"""Bytes a second, in the middle."""
_STEP = 0.1
_SILENT = 1.5
"""Seconds without a byte after which another connection is tried."""


@contextlib.asynccontextmanager
async def lively(lab: Lab) -> AsyncIterator[None]:
    """For as long as the body runs."""
    started: list[Process] = []

    async def begin(host: Host, *words: object) -> None:
        argv = (sys.executable, "-m", "mock_provider.traffic", *map(str, words))
        started.append(await host.popen(argv, stdout=DEVNULL, stderr=DEVNULL))

    try:
        await begin(lab.internet, "serve", INTERNET, PORT)
        await begin(lab.client, "load", INTERNET, PORT)
        yield
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGKILL)
        await asyncio.gather(*(process.wait() for process in started))


async def _serve(address: str, port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await _both(reader, writer, DOWN)

    async with await asyncio.start_server(answer, address, port) as server:
        await server.serve_forever()


async def _load(address: str, port: int) -> None:
    while True:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(2):
                reader, writer = await asyncio.open_connection(address, port)
            await _both(reader, writer, UP)
        await asyncio.sleep(0.5)


async def _both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: int) -> None:
    """Until nothing has come for a while: a connection from before the tunnel leads nowhere any more."""
    pumping = asyncio.create_task(_pump(writer, rate))
    try:
        with contextlib.suppress(OSError, TimeoutError):
            await _drain(reader)
    finally:
        pumping.cancel()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await pumping
        writer.transport.abort()


async def _pump(writer: asyncio.StreamWriter, rate: int) -> None:
    while True:
        wave = 1 + 0.55 * math.sin(time.monotonic() / 4) + random.uniform(-0.3, 0.3)
        writer.write(bytes(int(rate * wave * _STEP)))
        await writer.drain()
        await asyncio.sleep(_STEP)


async def _drain(reader: asyncio.StreamReader) -> None:
    there = True
    while there:
        async with asyncio.timeout(_SILENT):
            there = bool(await reader.read(65536))


def main() -> None:
    """`python -m mock_provider.traffic serve|load ADDRESS PORT`."""
    doing, address, port = sys.argv[1:]
    with contextlib.suppress(OSError, TimeoutError):
        asyncio.run({"serve": _serve, "load": _load}[doing](address, int(port)))


if __name__ == "__main__":
    main()
