"""A stream of packets that must not leave beside the tunnel: a program, and how a run holds it.

One process with a socket for each kind of probe, each to a port of its own, so that a packet on the cable tells
what it was. It counts what it tried to send: a packet that the kernel refuses at once was a probe all the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mock_provider.host import Host
from mock_provider.topology import INTERNET, INTERNET6, ROUTER

TICK = 0.005
"""Seconds between two bursts."""
REPORT = 0.05
"""Seconds between two lines of counts."""
BEHIND = 0.25
"""Seconds of probes that are made up for at most, after the process did not run."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of probe."""

    name: str
    target: str
    port: int
    rate: int
    """Packets a second."""
    bound: bool = False
    """To the uplink (SO_BINDTODEVICE)."""
    forwarded: bool = False
    """From the container behind the client."""
    tcp: bool = False


KINDS = (
    Kind("IPv4", INTERNET, 4401, 300),
    Kind("IPv6", INTERNET6, 4402, 350),
    Kind("DNS to the LAN", ROUTER, 53, 300),
    Kind("DNS to a third party", INTERNET, 53, 150),
    Kind("IPv4 by the uplink", INTERNET, 4403, 350, bound=True),
    Kind("IPv6 by the uplink", INTERNET6, 4404, 250, bound=True),
    Kind("IPv4 forwarded", INTERNET, 4405, 250, forwarded=True),
    Kind("IPv6 forwarded", INTERNET6, 4406, 150, forwarded=True),
    Kind("TCP", INTERNET, 4407, 20, tcp=True),
)
BOUND = frozenset(kind.name for kind in KINDS if kind.bound)
ENDPOINTS = {(kind.target, kind.port): kind.name for kind in KINDS}


class Probes:
    """The program at work; an async context manager."""

    def __init__(self, client: Host, container: Host, *, kinds: Iterable[Kind] = KINDS) -> None:
        self._hosts = (client, container)
        self._kinds = tuple(kinds)
        self.sent: Mapping[str, int] = {}
        """Probes so far by kind, whatever became of them."""
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    @property
    def total(self) -> int:
        """All probes so far."""
        return sum(self.sent.values())

    async def __aenter__(self) -> Self:
        argv = [__file__, *(host.name for host in self._hosts), *(kind.name for kind in self._kinds)]
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        self._process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=PIPE, env=env)
        self._reader = asyncio.create_task(self._read())
        await self.more(1)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._reader is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        await self._reader
        await self._process.wait()

    async def more(self, each: int = 5, deadline: float = 10.0) -> None:
        """Wait until so many more of each kind were tried. Raises TimeoutError."""
        before = {kind.name: self.sent.get(kind.name, 0) for kind in self._kinds}
        async with asyncio.timeout(deadline):
            while not all(self.sent.get(name, 0) >= count + each for name, count in before.items()):
                assert self._reader is not None
                assert not self._reader.done(), "the probes ended"
                self._changed.clear()
                await self._changed.wait()

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.sent = json.loads(line)
            self._changed.set()
        self._changed.set()


class _Sender:
    """The socket of one kind."""

    def __init__(self, kind: Kind, host: Host) -> None:
        self.kind = kind
        self.host = host
        self.count = 0
        self._due = 1.0
        self._family = socket.AF_INET6 if ":" in kind.target else socket.AF_INET
        self._socket = host.socket(self._family, socket.SOCK_DGRAM)
        if kind.bound:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")

    def send_for(self, seconds: float) -> None:
        """Send what is due after so many seconds."""
        self._due += seconds * self.kind.rate
        number = int(self._due)
        self._due -= number
        self.count += number
        to = (self.kind.target, self.kind.port)
        for _ in range(number):
            with contextlib.suppress(OSError):  # refused at once: the best answer
                if self.kind.tcp:
                    self._connect(to)
                else:
                    self._socket.sendto(b"probe", to)

    def _connect(self, to: tuple[str, int]) -> None:
        with self.host.socket(self._family, socket.SOCK_STREAM) as caller, contextlib.suppress(BlockingIOError):
            caller.connect(to)


def main(client: str, container: str, *names: str) -> None:
    """Send until SIGTERM."""
    ended = False

    def end(*_: object) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    hosts = {False: Host("client", client), True: Host("container", container)}
    senders = [_Sender(kind, hosts[kind.forwarded]) for kind in KINDS if kind.name in names]
    last = told = time.monotonic()
    while not ended:
        now = time.monotonic()
        for sender in senders:
            sender.send_for(min(BEHIND, now - last))
        last = now
        if now - told > REPORT:
            told = now
            _tell(senders)
        time.sleep(TICK)
    _tell(senders)


def _tell(senders: Iterable[_Sender]) -> None:
    line = json.dumps({sender.kind.name: sender.count for sender in senders}) + "\n"
    with contextlib.suppress(BrokenPipeError):
        os.write(1, line.encode())


if __name__ == "__main__":
    main(*sys.argv[1:])
