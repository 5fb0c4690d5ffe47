"""A resolver of few words (RFC 1035, UDP only): it knows every name, and remembers who asked for which."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mock_provider.host import Host
from mock_provider.topology import INTERNET

TYPE_A, CLASS_IN = 1, 1
ANSWER = 0x8180
"""Flags: a response, recursion desired and available, no error."""
HEADER = struct.Struct("!HHHHHH")


@dataclass(frozen=True, slots=True)
class Query:
    """A question that came in."""

    client: str
    name: str
    type: int
    """1: A, 28: AAAA."""


def parse(data: bytes) -> tuple[str, int, int] | None:
    """Name, type and where the question ends; None: not a plain query."""
    if len(data) < HEADER.size or data[2] & 0x80 or HEADER.unpack_from(data)[2] != 1:
        return None
    labels, at = [], HEADER.size
    while at < len(data) and data[at]:
        length = data[at]
        labels.append(data[at + 1 : at + 1 + length].decode("ascii", "replace"))
        at += 1 + length
    if at + 5 > len(data):
        return None
    return ".".join(labels).lower(), int.from_bytes(data[at + 1 : at + 3], "big"), at + 5


def answer(data: bytes, address: str) -> bytes:
    """An A record for an A question, an empty answer for any other. `data` must be one that `parse` can read."""
    parsed = parse(data)
    assert parsed is not None
    _, kind, end = parsed
    records = b""
    if kind == TYPE_A:
        records = struct.pack("!HHHIH", 0xC00C, TYPE_A, CLASS_IN, 60, 4) + socket.inet_aton(address)
    identity = int.from_bytes(data[:2], "big")
    return HEADER.pack(identity, ANSWER, 1, bool(records), 0, 0) + data[HEADER.size : end] + records


class Dns:
    """A resolver that listens; an async context manager."""

    def __init__(self, host: Host, address: str, names: dict[str, str] | None = None) -> None:
        self._host = host
        self.address = address
        self.names = names or {}
        """Addresses of names; every other name is the host on the internet."""
        self.log: list[Query] = []
        self.silent = False

    async def __aenter__(self) -> Self:
        self._socket = self._host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self._socket.bind((self.address, 53))
        except BaseException:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()

    def _read(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                data, sender = self._socket.recvfrom(2048)
                if (parsed := parse(data)) is None:
                    continue
                name, kind, _ = parsed
                self.log.append(Query(sender[0], name, kind))
                if not self.silent:
                    self._socket.sendto(answer(data, self.names.get(name, INTERNET)), sender)
