"""A profile with PIA for ninety days: the real supervisor, workers and provider, and everything else a double."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable

from msgspec.structs import replace

from tests.contract.pia_world import GATEWAY, OWN, PASSWORD, USER, options
from tests.soak.pia_far import Beside, Clock, Far, ways
from tests.soak.world import FORWARD, PLAN, Backend, Client, Ear
from vpnpf.core.schedule import Timing
from vpnpf.core.state import initial
from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer
from vpnpf.events import StopRequested
from vpnpf.hub import Moment
from vpnpf.interfaces import Configuration, Credentials, Offer
from vpnpf.leases import from_store
from vpnpf.model import ListeningSocket, ProfileSpec, Stirring, Tunnel, TunnelHealth, TunnelPlan
from vpnpf.supervisor import Supervisor
from vpnpf.testing import FakeFirewall, MemoryStore
from vpnpf.workers import Workers
from vpnpf_providers.pia import PrivateInternetAccess

REGIONS = "nl_amsterdam, de_berlin"
"""Where the profile may go: four servers."""
TIMING = Timing(tunnel=600.0, firewall=3600.0, client=3600.0, sockets=3600.0)
"""Looks at what is not the lease, rarer than usual; that a tunnel is dead is told at once, as usual."""
ACCOUNT_AGAIN = 60.0
"""Seconds until an account that lets nobody in is looked at again."""
NOTICED = 4.0
"""Seconds until it is noticed that a tunnel is dead."""


class Tunnels(Backend):
    """Tunnels that the provider makes (`interfaces.TunnelBackend`), without packets."""

    def __init__(self, far: Far, clock: Clock, provider: PrivateInternetAccess, outside: Beside) -> None:
        self.far, self.clock, self.provider, self.outside = far, clock, provider, outside
        self.ups = self.rekeys = 0
        self.device = False
        self.dead_since: float | None = None
        self.arrived = asyncio.Event()
        self.offer: Offer | None = None
        self.offers: tuple[Offer, ...] = ()

    async def plan(self, server: int = 0) -> TunnelPlan:
        self.offers = await self.provider.offers(self.outside, "wireguard")
        offer = self.offers[server % len(self.offers)]
        return replace(
            PLAN,
            addresses=(f"{OWN}/32",),
            gateway=GATEWAY,
            endpoint=offer.endpoint,
            identity=offer.identity,
            server=server,
            server_name=offer.server_name,
            place=offer.place,
            services=offer.services,
        )

    async def up(self, plan: TunnelPlan) -> Tunnel:
        offer = next(one for one in self.offers if one.server_name == plan.server_name)
        made = await self._configured(offer)
        await asyncio.sleep(0.3)
        if plan.server_name in self.far.dead:
            raise NoAnswer("bringing the tunnel up", "no handshake")
        self.far.current, self.offer = plan.server_name, offer
        self.device = True
        self.ups += 1
        return Tunnel(plan, "fake", made.gateway)

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        if not self.device:
            raise LeaseLost("looking at the tunnel", "the device is gone")
        if self.far.alive:
            self.dead_since = None
            return TunnelHealth(self.clock.now() % 120, rx=1, tx=1)
        since = self.clock.now() - self._dead()
        return TunnelHealth(since, rx=1, tx=2, silent_for=since)

    async def rekey(self, tunnel: Tunnel):
        assert self.offer is not None
        if not self.far.alive:
            await self._configured(self.offer, again=True)
        self.dead_since = None if self.far.alive else self._dead()
        return await super().rekey(tunnel)

    async def _configured(self, offer: Offer, *, again: bool = False) -> Configuration:
        """An account that lets nobody in is looked at again, as whoever hands it to a tunnel has to see to."""
        try:
            return await self.provider.configure(self.outside, "wireguard", offer, again=again)
        except Misconfigured as error:
            if self.outside.refusals:
                error.retry_after = error.retry_after or ACCOUNT_AGAIN
            raise

    async def watch(self, tunnel: Tunnel) -> Stirring:
        while self.far.alive and self.device:
            self.far.stirred.clear()
            await self.far.stirred.wait()
        await asyncio.sleep(NOTICED)
        self._dead()
        return Stirring("the server does not answer", NOTICED)

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        return tunnel.plan.mtu

    def _dead(self) -> float:
        if self.dead_since is None:
            self.dead_since = self.clock.now()
        return self.dead_since


class Torrent(Client):
    """A torrent client on the tunnel's address."""

    async def listening(self, port: int) -> tuple[ListeningSocket, ...]:
        return tuple(replace(one, address=OWN) for one in await super().listening(port))


class Profile:
    """A profile with PIA, and the machine that it is on."""

    def __init__(self, seed: int, heard: Callable[[Moment], None]) -> None:
        self._heard = heard
        self.clock = Clock(asyncio.get_running_loop())
        self.far = Far(self.clock)
        self.outside, self.inside = ways(self.far, self.clock, Credentials(USER, PASSWORD))
        self.store = MemoryStore()
        self.dice = random.Random(seed + 1000)
        self.asked = ""

    # -- vpnpf ---------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process: it knows what is stored."""
        provider = PrivateInternetAccess(options(region=REGIONS))
        self.backend = Tunnels(self.far, self.clock, provider, self.outside)
        self.client = Torrent()
        firewall = FakeFirewall()
        firewall.policies = deque(maxlen=1)
        workers = Workers(
            backend=self.backend,
            firewall=firewall,
            provider=provider,
            provider_io=lambda _tunnel: self.inside,
            clients={FORWARD.name: self.client},
            sockets=self.client,
            store=self.store,
            leases=self.store,
            clock=self.clock,
            leases_name="leases",
        )
        spec = ProfileSpec("soak", provider.manifest.id, (FORWARD,))
        machine = initial(
            spec,
            replace(PLAN, identity="pia"),
            self.clock.now(),
            from_store(self.store.load("leases")),
            timing=TIMING,
            servers=4,
            watched=True,
            remaps=not provider.manifest.keeps_port,
        )
        self.supervisor = Supervisor(machine, workers, self.clock, Ear(self._heard))
        self._running = asyncio.create_task(self.supervisor.run())

    async def stop(self) -> None:
        self.supervisor.post(StopRequested())
        await self._running

    async def kill(self) -> None:
        """As by kill -9: nothing is undone, and the tunnel goes."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)

    def ask(self, what: str) -> None:
        self.asked = what

    async def obey(self) -> None:
        """Restart if that was asked for."""
        what, self.asked = self.asked, ""
        if what:
            await (self.stop() if what == "restart" else self.kill())
            await asyncio.sleep(self.dice.uniform(1, 30))
            self.start()

    @property
    def port(self) -> int | None:
        lease = self.supervisor.machine.forwards[0].lease
        return None if lease is None else lease.external_port

    def has_port(self) -> bool:
        """Whether a port is held, and PIA forwards the very same."""
        return self.port is not None and self.far.has(self.port)

    # -- the machine ---------------------------------------------------------------------------

    def suspend(self) -> None:
        self.clock.asleep += self.dice.uniform(0.2, 9) * 3600

    def turn_clock(self) -> None:
        self.clock.wrong = self.dice.choice((-1, 1)) * self.dice.uniform(1, 45) * 60

    def set_clock(self) -> None:
        self.clock.wrong = 0.0
