"""The host on the internet: it knocks at forwarded ports, and it answers what comes out of the tunnel.

peer = Peer(lab.internet)
outcome = await peer.connect_tcp(EXIT, 41877)          # outcome.result is Result.CONNECTED ...
async with Echo(lab.internet, INTERNET, 80) as web:    # TCP and UDP
    ...
    assert web.seen[0].source == EXIT                  # who it came from
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

from mock_provider.host import Host

UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EACCES, errno.EPERM})


class Result(StrEnum):
    """How it ended."""

    CONNECTED = "connected"
    """TCP: the handshake was done. UDP: an answer came."""
    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    """The network said so; from the mock's exit: no such forward."""
    TIMED_OUT = "timed out"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One knock."""

    result: Result
    seconds: float
    data: bytes = b""
    """What was answered, if anything was awaited."""

    @property
    def connected(self) -> bool:
        """Whether the far side answered."""
        return self.result is Result.CONNECTED


class Peer:
    """Knocks at ports from a namespace."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def connect_tcp(
        self,
        address: str,
        port: int,
        *,
        deadline: float = 1.0,
        send: bytes = b"",
        source: tuple[str, int] | None = None,
    ) -> Outcome:
        """Open a connection and close it; with `send`, wait for an answer to that too."""
        return await self._knock(socket.SOCK_STREAM, (address, port), deadline, send, source)

    async def send_udp(
        self,
        address: str,
        port: int,
        data: bytes = b"knock",
        *,
        deadline: float = 1.0,
        source: tuple[str, int] | None = None,
    ) -> Outcome:
        """Send a datagram and wait for one back."""
        return await self._knock(socket.SOCK_DGRAM, (address, port), deadline, data, source)

    async def _knock(
        self, kind: int, to: tuple[str, int], deadline: float, send: bytes, source: tuple[str, int] | None
    ) -> Outcome:
        loop, start = asyncio.get_running_loop(), time.monotonic()
        data = b""
        result = Result.CONNECTED
        with self.host.socket(_family(to[0]), kind) as sock:
            try:
                if source:
                    sock.bind(source)
                async with asyncio.timeout(deadline):
                    await loop.sock_connect(sock, to)
                    if send:
                        await loop.sock_sendall(sock, send)
                        data = await loop.sock_recv(sock, 65535)
            except TimeoutError:  # also the kernel's own ETIMEDOUT
                result = Result.TIMED_OUT
            except ConnectionError:
                result = Result.REFUSED
            except OSError as error:
                if error.errno not in UNREACHABLE:
                    raise
                result = Result.UNREACHABLE
        return Outcome(result, time.monotonic() - start, data)


@dataclass(frozen=True, slots=True)
class Seen:
    """A connection or a datagram that arrived at an Echo."""

    protocol: str
    source: str
    source_port: int
    data: bytes


class Echo:
    """A TCP and a UDP listener that send back what they get; an async context manager."""

    def __init__(self, host: Host, address: str, port: int) -> None:
        self.host = host
        self.address = address
        self.port = port
        """0: chosen by the kernel, the same for TCP and UDP, once entered."""
        self.seen: list[Seen] = []
        """Each connection as it was accepted (data empty) and each datagram, in order."""
        self._arrived = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._sockets = contextlib.ExitStack()

    async def __aenter__(self) -> Self:
        try:
            self._open()
        except BaseException:
            self._sockets.close()
            raise
        # Callbacks, not tasks that wait in accept: cancelling those can lose a connection that was just accepted.
        loop = asyncio.get_running_loop()
        loop.add_reader(self._tcp, self._accept)
        loop.add_reader(self._udp, self._answer)
        return self

    def _open(self) -> None:
        for attempt in range(10):
            self._tcp = self._sockets.enter_context(self.host.socket(_family(self.address), socket.SOCK_STREAM))
            self._udp = self._sockets.enter_context(self.host.socket(_family(self.address), socket.SOCK_DGRAM))
            self._tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._tcp.bind((self.address, self.port))
            try:
                self._udp.bind(self._tcp.getsockname()[:2])
            except OSError:
                if self.port or attempt == 9:
                    raise
                self._sockets.close()  # that number is taken for UDP: another one
                continue
            break
        self.port = self._tcp.getsockname()[1]
        self._tcp.listen(64)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sock in (self._tcp, self._udp):
            asyncio.get_running_loop().remove_reader(sock)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._sockets.close()

    async def until(self, number: int = 1, deadline: float = 5.0) -> None:
        """Wait until so many arrived. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while len(self.seen) < number:
                self._arrived.clear()
                await self._arrived.wait()

    def _note(self, protocol: str, sender: tuple[str, int], data: bytes) -> None:
        self.seen.append(Seen(protocol, sender[0], sender[1], data))
        self._arrived.set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):  # it went away again, or no more are waiting
            while True:
                connection, sender = self._tcp.accept()
                self._sockets.enter_context(connection)  # closed then at the latest
                connection.setblocking(False)
                self._note("tcp", sender, b"")
                task = asyncio.create_task(self._echo(connection))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    async def _echo(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        with connection, contextlib.suppress(OSError):
            while data := await loop.sock_recv(connection, 65536):
                await loop.sock_sendall(connection, data)

    def _answer(self) -> None:
        with contextlib.suppress(OSError):  # nothing more to read, or an ICMP error of an earlier answer
            while True:
                data, sender = self._udp.recvfrom(65536)
                self._note("udp", sender, data)
                self._udp.sendto(data, sender)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET
