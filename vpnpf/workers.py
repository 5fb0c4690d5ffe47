"""Carrying out one piece of work by means of the interfaces. No decisions, no retries, no state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from vpnpf.core.proofs import differs
from vpnpf.errors import Transient, Unsupported, VpnpfError
from vpnpf.events import (
    Acquire,
    Announced,
    Answer,
    ApplyFirewall,
    CheckExit,
    CheckPort,
    CheckTunnel,
    ClientSeen,
    ExitSeen,
    FirewallApplied,
    FirewallRead,
    FirewallRemoved,
    FirewallStirred,
    FitMtu,
    LeaseGranted,
    LeaseReleased,
    LeasesSaved,
    Listen,
    MtuFitted,
    Order,
    PlanTunnel,
    PortTested,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    ReadSwitch,
    Rekey,
    Release,
    RemoveFirewall,
    SaveLeases,
    SaveUses,
    SetClient,
    SetSwitch,
    SocketsSeen,
    StartTunnel,
    StopTunnel,
    SwitchRead,
    TunnelCameUp,
    TunnelPlanned,
    TunnelRekeyed,
    TunnelSeen,
    TunnelStirred,
    TunnelStopped,
    UsesSaved,
    WatchFirewall,
    WatchTunnel,
)
from vpnpf.interfaces import (
    Announcing,
    Clock,
    ExitCheck,
    Firewall,
    PortTesting,
    Provider,
    ProviderIO,
    Sockets,
    Store,
    Switching,
    TorrentClient,
    TunnelBackend,
)
from vpnpf.leases import merged
from vpnpf.model import Connection, Lease, ListenSettings, Tunnel, TunnelHealth
from vpnpf.uses import to_store


class Nobody:
    """An exit check that was not configured (`interfaces.ExitCheck`)."""

    async def address(self, tunnel: Tunnel) -> str:
        """Raise Unsupported."""
        del tunnel
        raise Unsupported("asking which address the internet sees", "nobody to ask was configured")


NOBODY = Nobody()


@dataclass(frozen=True, slots=True)
class Workers:
    """Everything that acts on the world for one profile."""

    backend: TunnelBackend
    firewall: Firewall
    provider: Provider
    provider_io: Callable[[Tunnel], ProviderIO]
    clients: Mapping[str, TorrentClient]
    """By forward."""
    sockets: Sockets
    store: Store
    leases: Store
    """For leases: what a provider needs to renew one is a secret."""
    clock: Clock
    leases_name: str
    """Under which name they are kept there."""
    exit_check: ExitCheck = NOBODY
    uses_name: str = "uses"
    """Under which name the store keeps when openings were used."""

    async def carry_out(self, order: Order) -> Answer:  # noqa: C901, PLR0911 - one flat table of work
        """Do it and return what was learnt. Raises VpnpfError for what did not work."""
        work, generation = order.work, order.generation
        match work:
            case ApplyFirewall(policy=policy):
                reading = await self.firewall.apply(policy, self.clock.now())
                if not reading.intact:
                    raise Transient(
                        f"applying the rule set {policy.stage}", f"the kernel has another: {reading.evidence}"
                    )
                return FirewallApplied(generation, policy, reading)
            case ReadFirewall():
                return FirewallRead(generation, await self.firewall.read())
            case RemoveFirewall():
                await self.firewall.remove()
                return FirewallRemoved(generation)
            case PlanTunnel(server=server):
                return TunnelPlanned(generation, await self.backend.plan(server))
            case StartTunnel(plan=plan):
                tunnel = await self.backend.up(plan)
                # It waited for the first handshake.
                return TunnelCameUp(generation, tunnel, TunnelHealth(handshake_age=0.0))
            case CheckTunnel(tunnel=tunnel):
                return TunnelSeen(generation, await self.backend.check(tunnel))
            case Rekey(tunnel=tunnel):
                anew = await self.backend.rekey(tunnel)
                return TunnelRekeyed(generation, anew.health, anew.tunnel)
            case Listen(tunnel=tunnel):
                heard = await cast("Announcing", self.provider).listen(self.provider_io(tunnel), tunnel)
                return Announced(generation, heard.epoch, self.clock.now(), heard.rule)
            case CheckExit(tunnel=tunnel):
                return ExitSeen(generation, await self.exit_check.address(tunnel))
            case WatchTunnel(tunnel=tunnel):
                return TunnelStirred(generation, await self.backend.watch(tunnel))
            case FitMtu(tunnel=tunnel):
                return MtuFitted(generation, await self.backend.fit_mtu(tunnel))
            case WatchFirewall():
                await self.firewall.watch()
                return FirewallStirred(generation)
            case StopTunnel():
                await self.backend.down()
                return TunnelStopped(generation)
            case Acquire(forward=name, tunnel=tunnel, request=request):
                lease = await self.provider.acquire(self.provider_io(tunnel), tunnel, request)
                return LeaseGranted(generation, work.key, name, lease)
            case Release(forward=name, tunnel=tunnel, lease=lease):
                await self.provider.release(self.provider_io(tunnel), tunnel, lease)
                return LeaseReleased(generation, work.key, name)
            case SetClient(forward=name, wanted=wanted):
                settings = await self._set_client(name, wanted)
                return ClientSeen(generation, work.key, name, settings, set=True)
            case ReadClient(forward=name):
                settings = await self.clients[name].get_listen()
                return ClientSeen(generation, work.key, name, settings)
            case ReadSockets(forward=name, port=port):
                found = await self.sockets.listening(port)
                return SocketsSeen(generation, work.key, name, found, await self._connected(port))
            case CheckPort(forward=name, port=port):
                client = cast("PortTesting", self.clients[name])
                return PortTested(generation, work.key, name, port, await client.test_port())
            case ReadSwitch(tunnel=tunnel):
                switch = cast("Switching", self.provider)
                return SwitchRead(generation, await switch.get_switch(self.provider_io(tunnel), tunnel))
            case SetSwitch(tunnel=tunnel, wanted=told):
                switch, io = cast("Switching", self.provider), self.provider_io(tunnel)
                await switch.set_switch(io, tunnel, told)
                return SwitchRead(generation, await switch.get_switch(io, tunnel), told)
            case SaveLeases(identity=identity, leases=leases):
                await asyncio.to_thread(self._save, identity, leases)
                return LeasesSaved(generation, leases)
            case SaveUses(uses=uses):
                offset = self.clock.wall() - self.clock.now()
                await asyncio.to_thread(self.store.save, self.uses_name, to_store(uses, offset))
                return UsesSaved(generation, uses)

    def _save(self, identity: str, leases: tuple[tuple[str, Lease], ...]) -> None:
        self.leases.save(self.leases_name, merged(self.leases.load(self.leases_name), identity, leases))

    async def _connected(self, port: int) -> tuple[Connection, ...] | None:
        """Who is there is told to people and proves nothing: that it cannot be seen fails no look."""
        try:
            return await self.sockets.connected(port)
        except VpnpfError:
            return None

    async def _set_client(self, name: str, wanted: ListenSettings) -> ListenSettings:
        client = self.clients[name]
        await client.set_listen(wanted)
        settings = await client.get_listen()
        if settings != wanted:
            raise Transient(
                f"setting the listen port of {client.manifest.name}",
                f"it took the change and then said {differs(settings, wanted)}",
                "another program may be setting it too",
            )
        return settings
