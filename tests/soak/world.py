"""A profile with the real supervisor, workers and provider, in front of simulated gateways, in virtual time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from mock_provider.behaviour import Behaviour
from mock_provider.faults import Faults
from mock_provider.natpmp import PORT, Machine
from mock_provider.simulation import GATEWAY, SimulatedIO
from tests.soak.virtual import LoopClock
from vpnpf.core.schedule import Timing
from vpnpf.core.state import initial
from vpnpf.errors import LeaseLost, NoAnswer, Refused
from vpnpf.events import StopRequested
from vpnpf.hub import Hub
from vpnpf.interfaces import Manifest
from vpnpf.model import (
    Connection,
    Endpoint,
    ForwardSpec,
    ListeningSocket,
    ListenSettings,
    Phase,
    ProfileSpec,
    Protocol,
    Rekeyed,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)
from vpnpf.protocol.exchange import Transmission
from vpnpf.supervisor import Supervisor
from vpnpf.testing import FakeFirewall, Fate, Sent
from vpnpf.workers import Workers

PLAN = TunnelPlan("vpf-soak", Endpoint("203.0.113.1", 51820), ("10.2.0.2/32",), mark=7, table=7, gateway=GATEWAY)
FORWARD = ForwardSpec("torrent", client="qbittorrent")
ROUND_TRIP = 0.02
"""Seconds to the gateway and back."""
KEEPALIVE = 120.0
"""Seconds after which a WireGuard peer that sends something shakes hands anew (REKEY_AFTER_TIME)."""


class Network(SimulatedIO):
    """The way to the gateway of whichever server the tunnel leads to. Waiting is the loop's, so others run meanwhile."""

    def __init__(self, faults: Faults, clock: LoopClock, machine: Callable[[], Machine]) -> None:
        super().__init__(Behaviour(faults, machine()), clock=clock)
        self._machine = machine
        self.announced = deque(maxlen=1)
        self.cut = False
        """Whether the tunnel leads nowhere."""
        self.grants: Callable[[], None] = lambda: None

    def move(self) -> None:
        """Another server, whose gateway has the same faults and knows nothing of us."""
        self.behaviour.machine = self._machine()

    def holds(self, port: int, protocols: tuple[Protocol, ...]) -> bool:
        """Whether the gateway forwards this port in every protocol now."""
        self.catch_up()
        held = {(rule.external_port, rule.protocol) for rule in self.behaviour.machine.table}
        return not self.cut and all((port, protocol) in held for protocol in protocols)

    def keeps(self, port: int, seconds: float) -> bool:
        """Whether the gateway would forward this port in both protocols so many seconds longer, left alone."""
        self.catch_up()
        ends = [
            mapping.expires
            for held in self.behaviour.machine._reservations
            for mapping in held.live.values()
            if mapping.external_port == port
        ]
        return not self.cut and len(ends) == len(Protocol) and min(ends) > self.clock.now() + seconds

    async def exchange(self, exchange, address, port):
        clock = self.clock
        transmission = Transmission(exchange, clock.now())
        coming = []
        while not transmission.over(now := clock.now()):
            if (datagram := transmission.due(now)) is not None and (address, port) == (GATEWAY, PORT) and not self.cut:
                sent = Sent(now, address, port, datagram)
                coming += [(at + ROUND_TRIP, reply) for at, reply in self._bring(sent)]
                coming.sort(key=lambda arrival: arrival[0])
            until = min(coming[0][0], transmission.deadline) if coming else transmission.deadline
            await asyncio.sleep(until - clock.now())
            while coming and coming[0][0] <= clock.now():
                _, reply = coming.pop(0)
                if reply is Fate.REFUSED:
                    transmission.refusals += 1
                elif (answer := exchange.parse(reply)) is not None:
                    return answer
        if transmission.refused:
            raise Refused(exchange.doing, "connection refused")
        raise NoAnswer(exchange.doing, f"no answer in {exchange.schedule.total:g} s")


class Backend:
    """A tunnel without packets (`interfaces.TunnelBackend`)."""

    def __init__(self, network: Network, clock: LoopClock) -> None:
        self.network = network
        self.clock = clock
        self.server = 0
        self.ups = 0
        self.rekeys = 0
        self.device = False
        self.dead_since = None
        """When the server went; None: it is there."""
        self.arrived = asyncio.Event()
        """Set when the tunnel is up."""

    def die(self, *, device: bool) -> None:
        """The server goes, or even the device. The next one is another."""
        self.network.cut = True
        self.dead_since = self.clock.now()
        self.device = not device
        self.server += 1
        self.arrived.clear()

    async def plan(self, server: int = 0) -> TunnelPlan:
        endpoint = Endpoint(f"203.0.113.{self.server % 250 + 1}", 51820)
        return replace(PLAN, endpoint=endpoint, server=server, identity=f"server {self.server}")

    async def up(self, plan: TunnelPlan) -> Tunnel:
        await asyncio.sleep(0.3)
        if self.dead_since is not None:
            if plan.identity != f"server {self.server}":
                raise NoAnswer("bringing the tunnel up", "no handshake")
            self.network.move()
        self.ups += 1
        self.dead_since, self.network.cut, self.device = None, False, True
        self.arrived.set()
        return Tunnel(plan, "fake", GATEWAY)

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        if not self.device:
            raise LeaseLost("looking at the tunnel", "the device is gone")
        now = self.clock.now()
        age = now % KEEPALIVE if self.dead_since is None else now - self.dead_since + self.dead_since % KEEPALIVE
        return TunnelHealth(age, rx=1, tx=1)

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        self.rekeys += 1
        if self.dead_since is not None:
            raise NoAnswer("shaking hands anew", "no handshake")
        return Rekeyed(TunnelHealth(0.0))

    async def down(self) -> None:
        self.device = False


class Client:
    """A torrent client, and the sockets that it opens (`interfaces.TorrentClient`, `interfaces.Sockets`)."""

    manifest = Manifest(id="qbittorrent", name="qBittorrent", summary="", verified="mock")

    def __init__(self) -> None:
        self.settings = ListenSettings(6881, "")
        self.changes = 0

    async def get_listen(self) -> ListenSettings:
        return self.settings

    async def set_listen(self, wanted: ListenSettings) -> None:
        self.settings = wanted
        self.changes += 1

    async def listening(self, port: int) -> tuple[ListeningSocket, ...]:
        if port != self.settings.port:
            return ()
        return tuple(ListeningSocket(protocol, "10.2.0.2", port) for protocol in Protocol)

    async def connected(self, port: int) -> tuple[Connection, ...]:
        del port
        return ()


class Memory:
    """A store (`interfaces.Store`) that forgets when it ends."""

    def __init__(self) -> None:
        self.kept = {}

    def load(self, name):
        return self.kept.get(name)

    def save(self, name, value):
        self.kept[name] = value


class Ear(Hub):
    """A hub that hands each notice on at once, so that the world can be looked at as it was at that moment."""

    def __init__(self, heard) -> None:
        super().__init__()
        self._heard = heard

    def publish(self, state, moments) -> None:
        super().publish(state, moments)
        for moment in moments:
            self._heard(moment)


class Profile:
    """One profile with all that belongs to it."""

    def __init__(self, provider, heard, *, mode: str = "proton", lifetime: int = 60, timing: Timing | None = None):
        self.clock = LoopClock(asyncio.get_running_loop())
        self.faults = Faults()
        self.network = Network(
            self.faults, self.clock, lambda: Machine(self.faults, now=self.clock.now(), mode=mode, lifetime=lifetime)
        )
        self.backend = Backend(self.network, self.clock)
        self.client = Client()
        self.firewall = FakeFirewall()
        self.firewall.policies = deque(maxlen=1)
        workers = Workers(
            backend=self.backend,
            firewall=self.firewall,
            provider=provider,
            provider_io=lambda _tunnel: self.network,
            clients={FORWARD.name: self.client},
            sockets=self.client,
            store=Memory(),
            leases=Memory(),
            clock=self.clock,
            leases_name="leases",
        )
        spec = ProfileSpec("soak", provider.manifest.id, (FORWARD,))
        machine = initial(spec, replace(PLAN, identity="server 0"), self.clock.now(), timing=timing)
        self.supervisor = Supervisor(machine, workers, self.clock, Ear(heard))

    @property
    def phase(self) -> Phase:
        return self.supervisor.machine.phase

    @property
    def lease(self):
        return self.supervisor.machine.forwards[0].lease

    def has_port(self) -> bool:
        """Whether a port is held, and the gateway forwards the very same."""
        lease = self.lease
        return lease is not None and self.network.holds(lease.external_port, lease.protocols)

    async def __aenter__(self):
        self._running = asyncio.create_task(self.supervisor.run())
        return self

    async def __aexit__(self, *_error):
        self.supervisor.post(StopRequested())
        await self._running
