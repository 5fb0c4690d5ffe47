"""Something to look at: a download and an upload through the tunnel, and strangers who stay a while, as a torrent has them.

async with lively(provider.lab) as visit:
await visit(port)                  # one who connects to the port from the internet, for some seconds
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
from collections.abc import AsyncIterator, Awaitable, Callable

from mock_provider.host import Host
from mock_provider.topology import EXIT, INTERNET, Lab

PORT = 8443
DOWN, UP = 900_000, 220_000
"""Bytes a second, in the middle."""
STAYS = 25.0
"""Seconds that a stranger stays."""
_STEP = 0.1


@contextlib.asynccontextmanager
async def lively(lab: Lab) -> AsyncIterator[Callable[[int], Awaitable[None]]]:
    """For as long as the body runs; gives what has a stranger connect to a port of the exit address."""
    started: list[Process] = []

    async def begin(host: Host, *words: object) -> None:
        argv = (sys.executable, "-m", "mock_provider.traffic", *map(str, words))
        started.append(await host.popen(argv, stdout=DEVNULL, stderr=DEVNULL))

    async def visit(port: int) -> None:
        await begin(lab.internet, "stay", EXIT, port)

    try:
        await begin(lab.internet, "serve", INTERNET, PORT)
        await begin(lab.client, "load", INTERNET, PORT)
        yield visit
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


async def _stay(address: str, port: int) -> None:
    async with asyncio.timeout(STAYS):
        reader, _writer = await asyncio.open_connection(address, port)
        await reader.read()


async def _both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: int) -> None:
    with contextlib.suppress(OSError):
        await asyncio.gather(_pump(writer, rate), _drain(reader))
    writer.close()


async def _pump(writer: asyncio.StreamWriter, rate: int) -> None:
    while True:
        wave = 1 + 0.55 * math.sin(time.monotonic() / 4) + random.uniform(-0.3, 0.3)
        writer.write(bytes(int(rate * wave * _STEP)))
        await writer.drain()
        await asyncio.sleep(_STEP)


async def _drain(reader: asyncio.StreamReader) -> None:
    while await reader.read(65536):
        pass


def main() -> None:
    """`python -m mock_provider.traffic serve|load|stay ADDRESS PORT`."""
    doing, address, port = sys.argv[1:]
    with contextlib.suppress(OSError, TimeoutError):
        asyncio.run({"serve": _serve, "load": _load, "stay": _stay}[doing](address, int(port)))


if __name__ == "__main__":
    main()
