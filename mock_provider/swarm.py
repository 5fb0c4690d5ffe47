"""Strangers with a torrent: they shake hands with a torrent client as BitTorrent wants it (BEP 3), and stay a while.

torrent = Torrent.made()
await client.add_torrent(torrent.file)             # a client without an active torrent takes nobody in
async with Swarm(lab, torrent) as swarm:
    swarm.visit(EXIT, port)                        # each time somebody else, each from an address of their own
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import os
from types import TracebackType
from typing import Self

from msgspec import Struct

from mock_provider.topology import Lab

ADDRESSES = tuple(
    f"{net}.{host}"
    for hosts in zip((41, 7, 211, 98, 150, 23, 187, 64), (140, 19, 203, 88, 5, 231, 112, 176), strict=True)
    for net, host in zip(("203.0.113", "192.0.2"), hosts, strict=True)
)
"""Theirs: a client takes one connection of an address."""
STAYS = 30.0
"""Seconds that one stays."""
HANDSHAKE = b"\x13BitTorrent protocol"
LENGTH = 68
"""Bytes of a handshake."""
_NET = "192.0.2.0/24"
"""The second network, behind the same cable as the first."""


class Torrent(Struct, frozen=True):
    """One small file that nobody has."""

    file: bytes
    hash: bytes

    @classmethod
    def made(cls, announce: str = "") -> Torrent:
        """A new one; `announce`: its tracker's address, if it has one."""
        piece = os.urandom(64)
        hashes = hashlib.sha1(piece, usedforsecurity=False).digest()
        info = {"length": len(piece), "name": "piece", "piece length": 16384, "pieces": hashes}
        hashed = hashlib.sha1(bencoded(info), usedforsecurity=False).digest()
        return cls(bencoded({**({"announce": announce} if announce else {}), "info": info}), hashed)

    def handshake(self) -> bytes:
        """What somebody says first who has a part in it."""
        return HANDSHAKE + bytes(8) + self.hash + b"-VP0001-" + os.urandom(6).hex().encode()


def bencoded(value: object) -> bytes:
    """BEP 3. Raises TypeError."""
    match value:
        case int():
            return b"i%de" % value
        case str():
            return bencoded(value.encode())
        case bytes():
            return b"%d:%s" % (len(value), value)
        case dict():
            return b"d" + b"".join(bencoded(key) + bencoded(value[key]) for key in sorted(value)) + b"e"
    raise TypeError(value)


class Swarm:
    """All of them, on the lab's internet; an async context manager. A lab with a neighbour has no room for it."""

    def __init__(self, lab: Lab, torrent: Torrent) -> None:
        self._lab = lab
        self._torrent = torrent
        self._next = itertools.cycle(ADDRESSES)
        self._there: set[asyncio.Task[None]] = set()
        self.taken_in = 0
        """How many were answered with a handshake for the torrent."""

    async def __aenter__(self) -> Self:
        lines = "\n".join(f"addr add {address}/32 dev eth0" for address in ADDRESSES)
        await self._lab.internet.must(("ip", "-batch", "-"), stdin=lines + "\n")
        await self._lab.router.must(("ip", "route", "add", _NET, "dev", "wan-internet"))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._there:
            task.cancel()
        await asyncio.gather(*self._there, return_exceptions=True)

    @property
    def there(self) -> int:
        """How many are connected, or about to be."""
        return len(self._there)

    async def left(self) -> None:
        """Wait until nobody is."""
        while self._there:
            await asyncio.wait(self._there)

    def visit(self, address: str, port: int) -> None:
        """Have somebody connect, and stay."""
        task = asyncio.create_task(self._visit(next(self._next), (address, port)), name="stranger")
        self._there.add(task)
        task.add_done_callback(self._there.discard)

    async def _visit(self, own: str, to: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        with self._lab.internet.socket() as sock, contextlib.suppress(OSError, TimeoutError):
            sock.bind((own, 0))
            async with asyncio.timeout(STAYS):
                await loop.sock_connect(sock, to)
                await loop.sock_sendall(sock, self._torrent.handshake())
                said = b""
                while data := await loop.sock_recv(sock, 4096):
                    if len(said) < LENGTH:
                        said += data
                        self.taken_in += len(said) >= LENGTH and said[28:48] == self._torrent.hash
