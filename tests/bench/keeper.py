"""Many leases in one process, each with a supervisor and a real socket: `python -m tests.bench.keeper COUNT SECONDS BLOCK LIFETIME`.

Prints what it measured as JSON. What is not the lease is a double, looked at rarely.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from pathlib import Path

from tests.bench import gateways
from vpnpf.core.schedule import Timing
from vpnpf.core.state import initial
from vpnpf.events import LeaseRenewed, PortGranted, PortLost, StopRequested
from vpnpf.hub import Hub
from vpnpf.io.clock import BootClock
from vpnpf.io.udp import TunnelIO
from vpnpf.model import Endpoint, ForwardSpec, MappingRequest, ProfileSpec, Tunnel, TunnelHealth, TunnelPlan
from vpnpf.supervisor import Supervisor
from vpnpf.testing import FakeAccount, FakeFirewall
from vpnpf.workers import Workers
from vpnpf_providers.protonvpn import ProtonVpn

RARELY = 1e6
TIMING = Timing(tunnel=RARELY, firewall=RARELY, client=RARELY, sockets=RARELY, soonest_count=RARELY)
FORWARD = ForwardSpec("torrent", client_local=False)
SETTLED = 1 / 12
"""Share of a lease from the last start until it is measured."""
EXCHANGES = 400


class Backend:
    """A tunnel that is there (`interfaces.TunnelBackend`)."""

    async def up(self, plan: TunnelPlan) -> Tunnel:
        return Tunnel(plan, "loopback", plan.gateway)

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        return TunnelHealth(0.0)

    async def down(self) -> None:
        pass


class Memory:
    """A store that keeps nothing (`interfaces.Store`)."""

    def load(self, name):
        return None

    def save(self, name, value):
        pass


class Last(FakeFirewall):
    """A packet filter that remembers the last rule set only."""

    async def apply(self, policy, now):
        self.policies.clear()
        return await super().apply(policy, now)


class Ear(Hub):
    """Measures how late each renewal is."""

    def __init__(self, figures) -> None:
        super().__init__()
        self._figures = figures
        self._due = None

    def publish(self, state, moments) -> None:
        super().publish(state, moments)
        for moment in moments:
            match moment.notice:
                case LeaseRenewed(lease=lease):
                    self._figures.late.append(moment.at - self._due)
                    self._due = lease.granted_at + lease.lifetime / 2
                case PortGranted(lease=lease):
                    self._due = lease.granted_at + lease.lifetime / 2
                    self._figures.granted += 1
                case PortLost():
                    self._figures.lost += 1


class Figures:
    """What is counted while it runs."""

    def __init__(self) -> None:
        self.late = []
        """Seconds from the time that a renewal was due to its answer."""
        self.granted = self.lost = 0


def supervisor(number: int, block: int, clock: BootClock, figures: Figures) -> Supervisor:
    """One profile with one lease, from an address of its own."""
    own = f"127.{block}.{number // 250}.{number % 250 + 1}/32"
    plan = TunnelPlan("lo", Endpoint("127.0.0.1", 51820), (own,), gateway=gateways.address(number))
    provider = ProtonVpn({})
    workers = Workers(
        backend=Backend(),
        firewall=Last(),
        provider=provider,
        provider_io=lambda tunnel: TunnelIO(tunnel, clock, FakeAccount()),
        clients={},
        sockets=None,
        store=Memory(),
        leases=Memory(),
        clock=clock,
        leases_name="leases",
    )
    spec = ProfileSpec(f"profile-{number}", "protonvpn", (FORWARD,))
    return Supervisor(initial(spec, plan, clock.now(), timing=TIMING), workers, clock, Ear(figures))


async def keep(count: int, seconds: float, block: int, lifetime: float) -> dict[str, float]:
    """Hold so many leases for so long; their starts are spread over half of a lease, as those of people are."""
    clock, figures = BootClock(), Figures()
    memory = resident()
    running = []
    begun = time.monotonic()
    for number in range(count):
        running.append(supervisor(number, block, clock, figures))
        running[-1].task = asyncio.create_task(running[-1].run())
        await asyncio.sleep(max(0.0, begun + number * lifetime / 2 / count - time.monotonic()))
    await asyncio.sleep(SETTLED * lifetime)
    figures.late.clear()
    cpu, start = time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    cpu, lasted = time.process_time() - cpu, time.monotonic() - start
    late = sorted(figures.late)
    grown = resident() - memory
    exchange = await exchanges(running[0], clock)
    for one in running:
        one.post(StopRequested(force=True))
    await asyncio.gather(*(one.task for one in running))
    return {
        "count": count,
        "seconds": lasted,
        "renewals": len(late),
        "due": count * lasted / (lifetime / 2),
        "granted": figures.granted,
        "lost": figures.lost,
        "latest": late[-1],
        "median": statistics.median(late),
        "core": 100 * cpu / lasted,
        "cpu": 1000 * cpu / len(late),
        "memory": grown / count,
        "exchange": exchange,
    }


async def exchanges(one: Supervisor, clock: BootClock) -> float:
    """Milliseconds of an exchange: renewals one after the other, two exchanges each."""
    tunnel, lease = one.machine.tunnel, one.machine.forwards[0].lease
    provider, io = ProtonVpn({}), TunnelIO(tunnel, clock, FakeAccount())
    begun = time.perf_counter()
    for _ in range(EXCHANGES // 2):
        await provider.acquire(io, tunnel, MappingRequest(FORWARD, lease, renewal=True))
    return 1000 * (time.perf_counter() - begun) / EXCHANGES


def resident() -> float:
    """KB that this process has in memory."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4.096


if __name__ == "__main__":
    leases, duration, addresses, grant = sys.argv[1:]
    kept = asyncio.run(keep(int(leases), float(duration), int(addresses), float(grant)))
    print(json.dumps(kept))  # noqa: T201 - who started it reads this
