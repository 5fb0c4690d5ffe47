"""The NAT-PMP and PCP gateway on the wire: sockets of the server's namespace around `pcp.PcpMachine`.

gateway.refuse = True                          # switches: see faults.py
await gateway.until(lambda: len(gateway.log) >= 4)
await gateway.reset_epoch()
gateway.lifetime = 4
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mock_provider import pcp_wire
from mock_provider.faults import Fate, Faults
from mock_provider.host import Host
from mock_provider.nat import Nat
from mock_provider.natpmp import MAPPING_LENGTH, PORT, Dnat, Step
from mock_provider.pcp import PcpMachine
from mock_provider.topology import EXIT
from mock_provider.wireguard import GATEWAY

ICMP_FILTER = 1
SOL_RAW = 255
WRONG_PORT = 6667


@dataclass(frozen=True, slots=True)
class Request:
    """A datagram that came in, and what became of it."""

    at: float
    """Seconds on the event loop's clock."""
    client: str
    data: bytes
    fate: Fate
    answer: bytes | None

    @property
    def opcode(self) -> int:
        """0: external address, 1: UDP mapping, 2: TCP mapping, -1: too short to say. PCP: 0: ANNOUNCE, 1: MAP."""
        return self.data[1] if len(self.data) > 1 else -1

    @property
    def is_pcp(self) -> bool:
        """Whether it is PCP; else it is NAT-PMP, or nothing known."""
        return len(self.data) > 1 and self.data[0] == 2

    @property
    def ports(self) -> tuple[int, int, int] | None:
        """Internal port, wished external port and lifetime asked for; None: no mapping request."""
        if self.is_pcp:
            return pcp_wire.asked(self.data)
        return struct.unpack_from("!HHI", self.data, 4) if len(self.data) >= MAPPING_LENGTH else None

    @property
    def granted(self) -> tuple[int, int, int, int] | None:
        """Result, internal port, external port and lifetime as answered; None: no mapping answer."""
        if self.answer is None or len(self.answer) < 16:
            return None
        if self.answer[0] == 2:
            return pcp_wire.granted(self.answer)
        result, _epoch, internal, external, lifetime = struct.unpack_from("!HIHHI", self.answer, 2)
        return result, internal, external, lifetime

    def __str__(self) -> str:
        """One line for a person."""
        asked = f"opcode {self.opcode}"
        if self.is_pcp:
            asked = pcp_wire.words(self.data)
        elif self.opcode == 0:
            asked = "external address?"
        elif self.opcode in (1, 2) and self.ports:
            internal, wish, lifetime = self.ports
            asked = f"{'udp' if self.opcode == 1 else 'tcp'} internal {internal}, wish {wish}, {lifetime} s"
        said = str(self.fate)
        if self.fate is Fate.ANSWERED and self.granted:
            result, internal, external, lifetime = self.granted
            said = f"result {result}" if result else f"internal {internal}, external {external}, {lifetime} s"
        return f"{self.client}: {asked} -> {said}"


class Gateway(Faults):
    """A gateway that listens; an async context manager. Its switches are those of Faults."""

    def __init__(
        self,
        host: Host,
        nat: Nat,
        *,
        address: str = GATEWAY,
        mode: str = "proton",
        speaks: str = "natpmp-only",
        lifetime: int = 60,
        exit_address: str = EXIT,
        on_request: Callable[[Request], None] = lambda _request: None,
    ) -> None:
        super().__init__()
        self._host = host
        self._nat = nat
        self.address = address
        self._loop = asyncio.get_running_loop()
        self.machine = PcpMachine(
            self,
            now=self._loop.time(),
            speaks=speaks,
            mode=mode,
            lifetime=lifetime,
            exit_address=exit_address,
        )
        self.log: list[Request] = []
        """Every datagram that came in, in order."""
        self._on_request = on_request
        self._standing: frozenset[Dnat] = frozenset()
        self._arrived: asyncio.Queue[tuple[bytes, tuple[str, int]]] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        self._sockets = contextlib.ExitStack()

    @property
    def lifetime(self) -> int:
        """Seconds; the longest grant from now on."""
        return self.machine.lifetime

    @lifetime.setter
    def lifetime(self, seconds: int) -> None:
        self.machine.lifetime = seconds

    @property
    def mappings(self) -> frozenset[Dnat]:
        """The forwards that stand now, as the kernel was told."""
        return self._standing

    @property
    def external_ports(self) -> frozenset[int]:
        """The external ports that are forwarded now."""
        return frozenset(rule.external_port for rule in self.mappings)

    async def reset_epoch(self) -> None:
        """Lose all mappings and start the epoch at 0, as a gateway that was restarted."""
        async with self._lock:
            await self._apply(self.machine.reset_epoch(self._loop.time()))

    async def until(self, condition: Callable[[], bool], deadline: float = 10.0) -> None:
        """Wait for a condition on the log or the mappings. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                waiter = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait({waiter, self._worker}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    waiter.cancel()
                if self._worker.done():
                    self._worker.result()

    async def __aenter__(self) -> Self:
        try:
            self._socket = self._bound(socket.SOCK_DGRAM, 0, (self.address, PORT))
            self._other_port = self._bound(socket.SOCK_DGRAM, 0, (self.address, WRONG_PORT))
            self._other_address = self._bound(socket.SOCK_DGRAM, 0, (EXIT, PORT))
            self._icmp = self._bound(socket.SOCK_RAW, socket.IPPROTO_ICMP, (self.address, 0))
            self._icmp.setsockopt(SOL_RAW, ICMP_FILTER, b"\xff" * 4)  # it only sends
        except BaseException:
            self._sockets.close()
            raise
        self._loop.add_reader(self._socket, self._read)
        self._worker = asyncio.create_task(self._work(), name="mock gateway")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._socket)
        self._worker.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker  # a gateway that died of an error says so here
        finally:
            self._sockets.close()

    def _bound(self, kind: int, proto: int, address: tuple[str, int]) -> socket.socket:
        made = self._sockets.enter_context(self._host.socket(socket.AF_INET, kind, proto))
        made.bind(address)
        return made

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._arrived.put_nowait(self._socket.recvfrom(2048))

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout_at(self.machine.next_expiry):
                    data, sender = await self._arrived.get()
            except TimeoutError:
                async with self._lock:
                    await self._apply(self.machine.expire(self._loop.time()))
                continue
            async with self._lock:
                await self._serve(data, sender)

    async def _serve(self, data: bytes, sender: tuple[str, int]) -> None:
        fate = self.fate(data[1] if len(data) > 1 else -1)
        answer = None
        if fate in (Fate.ANSWERED, Fate.ANSWER_LOST):
            step = self.machine.handle(data, sender[0], self._loop.time())
            answer = step.answer
            await self._apply(step)  # the forward stands before its answer is out
            if answer is None:
                fate = Fate.MALFORMED
        if fate is Fate.REFUSED:
            _try(self._icmp, port_unreachable(sender, (self.address, PORT), len(data)), (sender[0], 0))
        elif fate is Fate.ANSWERED and answer is not None:
            self._send(answer, sender)
        request = Request(self._loop.time(), sender[0], data, fate, answer)
        self.log.append(request)
        self._on_request(request)
        self._changed.set()

    def _send(self, answer: bytes, to: tuple[str, int]) -> None:
        source = self._socket
        if self.wrong_source:
            source = self._other_port if self.wrong_source == "port" else self._other_address
        for _ in range(2 if self.duplicate else 1):
            if self.delay:
                self._loop.call_later(self.delay, _try, source, answer, to)
            else:
                _try(source, answer, to)

    async def _apply(self, step: Step) -> None:
        if step.remove or step.add:
            await self._nat.apply(step.remove, step.add)
            self._standing = (self._standing - set(step.remove)) | set(step.add)
        self._changed.set()


def port_unreachable(client: tuple[str, int], gateway: tuple[str, int], length: int) -> bytes:
    """ICMP type 3 code 3 for a datagram of `length` bytes, as a kernel sends it for a closed port (RFC 792)."""
    source, destination = socket.inet_aton(client[0]), socket.inet_aton(gateway[0])
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + length, 0, 0x4000, 64, 17, 0, source, destination)
    header = header[:10] + _checksum(header) + header[12:]
    datagram = struct.pack("!HHHH", client[1], gateway[1], 8 + length, 0)
    message = struct.pack("!BBHI", 3, 3, 0, 0) + header + datagram
    return message[:2] + _checksum(message) + message[4:]


def _checksum(data: bytes) -> bytes:
    """The internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF).to_bytes(2, "big")


def _try(source: socket.socket, data: bytes, to: tuple[str, int]) -> None:
    """Send, or lose it: with the tunnel down there is no way to the client, and the network does not say so."""
    with contextlib.suppress(OSError):
        source.sendto(data, to)
