"""T13 and T14: hostile answers by HTTP, and configuration files that run programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import zlib
from collections.abc import Awaitable, Callable

import httpx

from mock_provider.product import Product, unique_profile
from tests.attack.attack import Attack
from tests.attack.world import CONFIG, LISTEN, Score, Side
from vpnpf.api import ClientOptions
from vpnpf.clients.qbittorrent import QBittorrent
from vpnpf.errors import Failure
from vpnpf.io.http import HttpClient

MEBIBYTE = 1 << 20
BODY = 64
"""MiB of the huge answer."""
PATIENCE = 0.3
"""Seconds that a request of ours may take."""
SCRIPTS = {
    "PostUp": "PostUp = touch {marker}",
    "preup": "preup=touch {marker}",
    "tabs": "\tPostUp\t=\ttouch {marker} # %i",
    "carriage return": "PreUp = touch {marker}\r",
}
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def server(talk: Talk):
    """A server on loopback that leaves each request to `talk`; yields its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await reader.readuntil(b"\r\n\r\n")
            await talk(reader, writer)
        writer.transport.abort()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


async def get(made: Side, url: str) -> bytes:
    """The body of an answer, by vpnpf's client or by a usual one; empty: it was refused."""
    if made.guarded:
        with contextlib.suppress(Failure):
            return (await HttpClient(deadline=PATIENCE).request("GET", url)).body
        return b""
    async with httpx.AsyncClient(timeout=5, follow_redirects=True, trust_env=False) as usual:
        return (await usual.get(url)).content


def mebibytes(body: bytes) -> int:
    """Rounded up."""
    return -(-len(body) // MEBIBYTE)


async def huge(made: Side) -> Score:
    """An answer of 64 MiB: how much of it is taken."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (BODY * MEBIBYTE))
        for _ in range(BODY):
            writer.write(bytes(MEBIBYTE))
            await writer.drain()

    async with server(talk) as url:
        return Score(BODY, mebibytes(await get(made, url)))


async def bomb(made: Side) -> Score:
    """The same, compressed to a thousandth."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        packed = zlib.compress(bytes(BODY * MEBIBYTE), wbits=31)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed)
        await writer.drain()

    async with server(talk) as url:
        return Score(BODY, mebibytes(await get(made, url)))


async def drip(made: Side) -> Score:
    """A byte now and then, for ever: whether the request is still open when three times its time is over."""

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(PATIENCE / 10)

    async with server(talk) as url:
        try:
            async with asyncio.timeout(3 * PATIENCE):
                await get(made, url)
        except TimeoutError:
            return Score(1, 1)
    return Score(1, 0)


async def redirect(made: Side) -> Score:
    """Sent on to another server: whether that one is asked."""
    asked = 0

    async def other(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        await writer.drain()

    async with server(other) as elsewhere:

        async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(f"HTTP/1.1 302 Found\r\nlocation: {elsewhere}/\r\ncontent-length: 0\r\n\r\n".encode())
            await writer.drain()

        async with server(talk) as url:
            await get(made, url)
    return Score(1, asked)


async def deep(made: Side) -> Score:
    """JSON as deep as the limit allows: whether it comes out as an error that nobody expects."""
    body = b"[" * 60_000

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()

    async with server(talk) as url:
        try:
            if made.guarded:
                await QBittorrent(HttpClient(deadline=PATIENCE * 10), ClientOptions(url)).get_listen()
            else:
                json.loads(await get(made, url))
        except Failure:
            return Score(1, 0)
        except RecursionError:
            return Score(1, 1)
    raise AssertionError("that is no JSON, and it was taken")


# -- T14 -------------------------------------------------------------------------------------------


async def scripts(made: Side) -> Score:
    """Provider files with a command in them: whether it ran."""
    ran = []
    for name, text in SCRIPTS.items():
        marker = made.directory / f"ran-{name.replace(' ', '-')}"
        profile = unique_profile()
        path = made.directory / ("proton.conf" if made.guarded else f"{profile}.conf")
        path.touch(mode=0o600)
        lines = made.provider.customer.config.splitlines()
        lines = [line for line in lines if made.guarded or not line.startswith("DNS")]
        lines.insert(1, text.format(marker=marker))
        path.write_bytes("\n".join(lines).encode() + b"\n")
        if made.guarded:
            config = made.directory / "config.toml"
            config.write_text(CONFIG.format(profile=profile, listen=LISTEN, lock="on"))
            async with Product(made.client, made.directory, config, profile) as product:
                assert await product.ended() == 78, product.talk
        else:
            for verb in ("up", "down"):
                environment = "WG_QUICK_USERSPACE_IMPLEMENTATION=wireguard-go"
                await made.client.run(("env", environment, "wg-quick", verb, str(path)))
        ran += [name] * marker.exists()
    return Score(len(SCRIPTS), len(ran), tuple(name for name in SCRIPTS if name not in ran))


ATTACKS = (
    Attack("T13a", "HTTP: a body of 64 MiB", "httpx as it comes, MiB", huge, None, None),
    Attack("T13b", "HTTP: a compressed bomb", "httpx as it comes, MiB", bomb, None, None),
    Attack("T13c", "HTTP: a drip without end", "httpx as it comes", drip, None, None),
    Attack("T13d", "HTTP: redirect to another server", "httpx that follows", redirect, None, None),
    Attack("T13e", "HTTP: JSON 60,000 deep", "json.loads", deep, None, None),
    Attack("T14", "scripts in a tunnel file", "wg-quick", scripts, None, None),
)
