"""The NAT-PMP and PCP gateway on the wire: sockets of the server's namespace around `pcp.PcpMachine`.

gateway.refuse = True                          # switches: see faults.py
await gateway.until(lambda: len(gateway.log) >= 4)
await gateway.reset_epoch()
await gateway.vanish()                         # its socket is closed, until `come_back`
await gateway.announce(times=3)
gateway.lifetime = 4
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from mock_provider import pcp_wire
from mock_provider.behaviour import ANNOUNCEMENTS, FIRST_GAP, Behaviour, Message
from mock_provider.faults import Fate, Faults
from mock_provider.host import Host
from mock_provider.icmp import port_unreachable
from mock_provider.mangle import Send, Source
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
    """What the gateway had to say."""
    sends: tuple[Send, ...] = ()
    """What was sent because of it."""

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
        self._entered = False
        self._socket: socket.socket | None = None
        """None: the gateway is gone."""
        super().__init__()
        self._host = host
        self._nat = nat
        self.address = address
        self.interface = ""
        """The device that announcements leave by, unless they are told another."""
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
        self.behaviour = Behaviour(self, self.machine)
        """The machine with all that is wrong with it."""
        self._standing: frozenset[Dnat] = frozenset()
        self._arrived: asyncio.Queue[tuple[bytes, tuple[str, int]] | None] = asyncio.Queue()
        """None: time to look when something is due next."""
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

    async def act(self, change: Callable[[Behaviour, float], Step | None]) -> None:
        """Let something happen to the gateway: a call of its behaviour, given the time."""
        async with self._lock:
            await self._apply(change(self.behaviour, self._loop.time()) or Step())
            self._arrived.put_nowait(None)

    async def reset_epoch(self) -> None:
        """Lose all mappings and start the epoch at 0, as a gateway that was restarted."""
        await self.act(Behaviour.reset_epoch)

    async def forget(self) -> None:
        """Lose all mappings while the epoch goes on, so that nobody can tell."""
        await self.act(lambda behaviour, _now: behaviour.forget())

    async def vanish(self, *, forget: bool = False) -> None:
        """Close the socket, as the switch `gone` does; with `forget` all mappings are lost too."""
        await self.act(lambda behaviour, now: behaviour.vanish(now, forget=forget))

    async def come_back(self) -> None:
        """Listen again, with the mappings if they were not to be forgotten."""
        await self.act(Behaviour.come_back)

    async def announce(
        self,
        times: int = ANNOUNCEMENTS,
        *,
        gap: float = FIRST_GAP,
        interface: str | None = None,
        message: Message | None = None,
    ) -> None:
        """Begin to multicast the external address to 224.0.0.1:5350 (RFC 6886 section 3.2.1); see `Behaviour.announce`.

        `interface`: the device to send from, if not the usual one. Raises OSError if there is none of this name.
        """
        device = interface if interface is not None else self.interface
        with self._host.inside():
            socket.if_nametoindex(device)
        await self.act(lambda b, now: b.announce(now, times, gap=gap, interface=device, message=message))

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
            if not self.gone:
                self._open()
            self._other_port = self._bound(socket.SOCK_DGRAM, 0, (self.address, WRONG_PORT))
            self._other_address = self._bound(socket.SOCK_DGRAM, 0, (self.machine.exit_address, PORT))
            self._icmp = self._bound(socket.SOCK_RAW, socket.IPPROTO_ICMP, (self.address, 0))
            self._icmp.setsockopt(SOL_RAW, ICMP_FILTER, b"\xff" * 4)  # it only sends
        except BaseException:
            self._close()
            self._sockets.close()
            raise
        self._entered = True
        self._worker = asyncio.create_task(self._work(), name="mock gateway")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered = False
        self._close()
        self._worker.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await self._worker  # a gateway that died of an error says so here
        finally:
            self._sockets.close()

    def __setattr__(self, name: str, value: object) -> None:
        """Let the socket follow `gone`, so that the refusals are the kernel's own, which sends few (RFC 1812 4.3.2.8)."""
        super().__setattr__(name, value)
        if name == "gone" and self._entered:
            if value:
                self._close()
            elif self._socket is None:
                self._open()

    def _open(self) -> None:
        made = self._host.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            made.bind((self.address, PORT))
        except BaseException:
            made.close()
            raise
        self._socket = made
        self._loop.add_reader(made, self._read, made)

    def _close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _bound(self, kind: int, proto: int, address: tuple[str, int]) -> socket.socket:
        made = self._sockets.enter_context(self._host.socket(socket.AF_INET, kind, proto))
        made.bind(address)
        return made

    def _read(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                self._arrived.put_nowait(sock.recvfrom(2048))

    async def _work(self) -> None:
        while True:
            try:
                async with asyncio.timeout_at(self.behaviour.next_due):
                    arrived = await self._arrived.get()
            except TimeoutError:
                async with self._lock:
                    step, sends = self.behaviour.tick(self._loop.time())
                    await self._apply(step)
                    self._send(sends)
                continue
            if arrived is not None:
                async with self._lock:
                    await self._serve(*arrived)

    async def _serve(self, data: bytes, sender: tuple[str, int]) -> None:
        outcome = self.behaviour.receive(data, sender, self._loop.time())
        await self._apply(outcome.step)  # the forward stands before its answer is out
        if outcome.fate is Fate.REFUSED:
            _try(self._icmp, port_unreachable(sender, (self.address, PORT), len(data)), (sender[0], 0))
        self._send(outcome.sends)
        request = Request(self._loop.time(), sender[0], data, outcome.fate, outcome.step.answer, outcome.sends)
        self.log.append(request)
        self._on_request(request)
        self._changed.set()

    def _send(self, sends: Iterable[Send]) -> None:
        sources = {
            Source.GATEWAY: self._socket,
            Source.PORT: self._other_port,
            Source.ADDRESS: self._other_address,
        }
        for send in sends:
            source = sources[send.source]
            if source is None:
                continue  # it is gone
            if send.interface:
                self._send_from(source, send.interface)
            if send.delay:
                self._loop.call_later(send.delay, _try, source, send.data, send.to)
            else:
                _try(source, send.data, send.to)

    def _send_from(self, source: socket.socket, interface: str) -> None:
        with self._host.inside(), contextlib.suppress(OSError):  # without the device, the datagram is lost
            index = socket.if_nametoindex(interface)
            source.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, struct.pack("@4x4xi", index))

    async def _apply(self, step: Step) -> None:
        if step.remove or step.add:
            await self._nat.apply(step.remove, step.add)
            self._standing = (self._standing - set(step.remove)) | set(step.add)
        self._changed.set()


def _try(source: socket.socket, data: bytes, to: tuple[str, int]) -> None:
    """Send, or lose it: with the tunnel down there is no way to the client, and the network does not say so."""
    with contextlib.suppress(OSError):
        source.sendto(data, to)
