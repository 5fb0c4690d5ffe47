"""A tunnel, and what comes of the datagrams that are sent through it."""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeVar

from msgspec import Struct

from vpnpf.errors import NoAnswer, Refused, Transient, Unsupported
from vpnpf.interfaces import Http, Igd
from vpnpf.model import Endpoint, Tunnel, TunnelPlan
from vpnpf.protocol.announcement import Announcement
from vpnpf.protocol.exchange import Exchange, Transmission
from vpnpf.testing.account import FakeAccount
from vpnpf.testing.clock import FakeClock
from vpnpf.testing.http import FakeHttp

T = TypeVar("T")

FIRST_DYNAMIC_PORT, LAST_DYNAMIC_PORT = 49152, 65535


class Fate(Enum):
    """What becomes of a datagram that brings no answer."""

    SILENT = "lost, or not answered"
    REFUSED = "ICMP port unreachable"


class Sent(Struct, frozen=True):
    """A datagram on its way to the far side."""

    at: float
    """When it was sent."""
    address: str
    port: int
    data: bytes


Reply = bytes | Fate
FarSide = Callable[[Sent], Reply]


def scripted(answers: Mapping[tuple[str, int, bytes], Reply | Sequence[Reply]]) -> FarSide:
    """Answers that are known beforehand, by address, port and request; of several the last one stays.

    What is not written down raises AssertionError, so that a test shows the request it forgot.
    """
    left = {key: [value] if isinstance(value, bytes | Fate) else list(value) for key, value in answers.items()}

    def answer(sent: Sent) -> Reply:
        rest = left.get((sent.address, sent.port, sent.data))
        if not rest:
            raise AssertionError(f"nothing is written down for {sent.data.hex()} to {sent.address} port {sent.port}")
        return rest.pop(0) if len(rest) > 1 else rest[0]

    return answer


@dataclass(kw_only=True, eq=False)
class Network:
    """What is wrong with the way to the far side. Nothing is, to begin with; set it at any time."""

    refuse: bool = False
    """ICMP port unreachable comes back; the far side sees nothing."""
    drop: bool = False
    """Requests are lost; the far side sees nothing."""
    drop_answers: bool = False
    """The far side obeys, and its answers are lost."""
    delay: float = 0.0
    """Seconds from a request to what comes back."""
    duplicate: bool = False
    """Every datagram arrives twice: the far side obeys twice, and both answers come twice."""
    gone: bool = False
    """The tunnel device is gone: every exchange raises Transient."""
    meets: Callable[[Sent], bool] = field(default=lambda _sent: True)
    """The datagrams that all of this meets; the others find nothing wrong."""

    _counted: list[Fate] = field(default_factory=list, init=False)

    def refuse_next(self, datagrams: int = 1) -> None:
        """Refuse so many datagrams; what is counted comes before the switches, in the order it was asked for."""
        self._counted += [Fate.REFUSED] * datagrams

    def drop_next(self, datagrams: int = 1) -> None:
        """Lose so many datagrams."""
        self._counted += [Fate.SILENT] * datagrams

    def _fate(self) -> Fate | None:
        """What becomes of the next datagram on its way; None: it arrives."""
        if self._counted:
            return self._counted.pop(0)
        if self.refuse:
            return Fate.REFUSED
        return Fate.SILENT if self.drop else None


class FakeIO(Network, FakeAccount):
    """All that a provider can do to the world (`interfaces.ProviderIO`), without a world."""

    def __init__(
        self,
        far_side: FarSide,
        *,
        clock: FakeClock | None = None,
        address: str = "10.2.0.2",
        account: FakeAccount | None = None,
    ) -> None:
        Network.__init__(self)
        FakeAccount.__init__(self, account)
        self.address = address
        """The tunnel's own address."""
        self.far_side = far_side
        self.clock = clock or FakeClock()
        self.sent: list[Sent] = []
        """Every datagram, in order, tries that are repeated too."""
        self.exchanges: list[str] = []
        """What each exchange said it was doing, in order."""
        self.announcements: asyncio.Queue[Announcement] = asyncio.Queue()
        """What the gateway tells everybody; put one in and `hear` returns."""
        self.igds: dict[str, Igd] = {}
        """The internet gateway devices that are there, by address."""
        self.http: Http = FakeHttp(lambda asked: Refused(f"{asked.method} {asked.url}", "connection refused"))
        """Nobody is asked by HTTP unless this is replaced."""
        self._next_port = FIRST_DYNAMIC_PORT
        self._drawn = 0

    def now(self) -> float:
        """Seconds as on CLOCK_BOOTTIME."""
        return self.clock.now()

    def wall(self) -> float:
        """Seconds since 1970 in UTC; they go on with `now`."""
        return self.clock.wall()

    def random_port(self) -> int:
        """49152, then 49153, and so on."""
        port = self._next_port
        self._next_port = port + 1 if port < LAST_DYNAMIC_PORT else FIRST_DYNAMIC_PORT
        return port

    def random_bytes(self, count: int) -> bytes:
        """Other bytes each time, and the same in every run."""
        self._drawn += 1
        return bytes((7 * self._drawn + place) % 256 for place in range(count))

    def own_address(self, gateway: str) -> str:
        """`address`. Raises Unsupported for a gateway of the other family."""
        if (":" in gateway) != (":" in self.address):
            raise Unsupported(f"asking {gateway}", f"the tunnel has only {self.address}")
        return self.address

    async def exchange(self, exchange: Exchange[T], address: str, port: int) -> T:
        """As `interfaces.ProviderIO.exchange`, by the same schedule. Raises NoAnswer, Refused, Transient, Unsupported.

        What is on its way when it ends is lost, as with a socket that is closed.
        """
        self.exchanges.append(exchange.doing)
        try:
            ipaddress.ip_address(address)
        except ValueError:
            raise Unsupported(exchange.doing, f'"{address}" is not an IP address, and no name is looked up') from None
        transmission = Transmission(exchange, self.now())
        coming: list[tuple[float, Reply]] = []
        while not transmission.over(self.now()):
            if (datagram := transmission.due(self.now())) is not None:
                if self.gone:
                    raise Transient(exchange.doing, "No such device")
                sent = Sent(self.now(), address, port, datagram)
                self.sent.append(sent)
                coming += self._bring(sent)
            await asyncio.sleep(0)  # others may run, and whoever waits for this may give up here
            coming.sort(key=lambda arrival: arrival[0])
            at, reply = coming[0] if coming else (math.inf, Fate.SILENT)
            self.clock.advance_to(min(at, transmission.deadline))
            if at > self.now():
                continue
            coming.pop(0)
            if reply is Fate.REFUSED:
                transmission.refusals += 1
            elif isinstance(reply, bytes) and (answer := exchange.parse(reply)) is not None:
                return answer
        if transmission.refused:
            raise Refused(exchange.doing, "connection refused")
        raise NoAnswer(exchange.doing, f"no answer in {exchange.schedule.total:g} s")

    async def hear(self, address: str) -> Announcement:
        """What was left in `announcements`, first in first out; waits while there is nothing. Raises Transient if gone."""
        if self.gone:
            raise Transient(f"listening for announcements of {address}", "No such device")
        return await self.announcements.get()

    async def igd(self, gateway_address: str) -> Igd:
        """One of `igds`. Raises NoAnswer if there is none at that address, Transient if the device is gone."""
        doing = f"looking for a UPnP gateway at {gateway_address}"
        if self.gone:
            raise Transient(doing, "No such device")
        if gateway_address not in self.igds:
            raise NoAnswer(doing, "no answer in 4.5 s")
        return self.igds[gateway_address]

    def _bring(self, sent: Sent) -> list[tuple[float, Reply]]:
        """Take a datagram to the far side; returns what comes back, and when."""
        met = self.meets(sent)
        fate = self._fate() if met else None
        if fate is not None:
            replies: list[Reply] = [fate]
        else:
            times = 2 if met and self.duplicate else 1
            replies = [self.far_side(sent) for _ in range(times)] * times
            if met and self.drop_answers:
                replies = [Fate.SILENT if isinstance(reply, bytes) else reply for reply in replies]
        at = sent.at + (self.delay if met else 0.0)
        return [(at, reply) for reply in replies if reply is not Fate.SILENT]


def a_tunnel(
    gateway: str = "10.2.0.1", address: str = "10.2.0.2/32", *, interface: str = "vpf-test", notes: tuple[str, ...] = ()
) -> Tunnel:
    """A tunnel that is up, as a provider is handed one; `notes` are the comments of its configuration."""
    endpoint = Endpoint("198.51.100.10", 51820)
    plan = TunnelPlan(interface, endpoint, (address,), dns=(gateway,), gateway=gateway, notes=notes)
    return Tunnel(plan, "fake", gateway)
