"""What a tunnel of ours changes on the machine around its device, kept as it has to be and put back in the end."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from vpnpf.errors import Unavailable
from vpnpf.interfaces import TunnelOptions
from vpnpf.io.resolver import SystemResolver
from vpnpf.tunnels import routing
from vpnpf.tunnels.arp import ArpReplies
from vpnpf.tunnels.endpoints import Endpoints
from vpnpf.tunnels.names import table_of
from vpnpf.tunnels.namespace import ProfileNamespace
from vpnpf.tunnels.rp_filter import ReversePathFilter
from vpnpf.tunnels.whole import in_thread


class Surroundings:
    """For every back end that has a device of its own."""

    def __init__(self, options: TunnelOptions) -> None:
        runtime, keep = Path(options.runtime), Path(options.state or options.runtime) / "endpoints.json"
        outside = options.outside
        self.table = table_of(options.profile)
        self.endpoints = Endpoints(keep, outside.enter) if outside else Endpoints(keep)
        self.rp_filter = ReversePathFilter(runtime / "rp_filter")
        self.arp = ArpReplies(runtime / "arp_ignore")
        self.resolver = ProfileNamespace(options.profile).files if outside else SystemResolver()
        self._held = options.held

    async def prepare(self) -> None:
        """Before there are routes: the kernel's settings. Raises Unavailable."""
        await in_thread(self.rp_filter.loosen)
        # Where /proc/sys is not ours to write, a tunnel is still worth having.
        with contextlib.suppress(Unavailable):
            await in_thread(self.arp.narrow)

    async def ask(self, dns: tuple[str, ...]) -> None:
        """Let this machine ask the tunnel's resolvers, if it has any. Raises Unavailable."""
        if dns:
            await in_thread(self.resolver.take, dns)

    async def heal(self, dns: tuple[str, ...]) -> None:
        """Put right what somebody changed since.

        None of it is worth a tunnel that works: the packet filter lets no DNS out beside it, and a filter that drops
        the server's answers is seen by their absence.
        """
        for change in (self.rp_filter.loosen, self.arp.narrow):
            with contextlib.suppress(Unavailable):
                await in_thread(change)
        with contextlib.suppress(Unavailable):
            await self.ask(dns)

    async def let_go(self) -> None:
        """The routes through the device go with it; what the lock holds is not ours to take away."""
        if not self._held:
            await routing.clear(self.table)

    def undo(self) -> tuple[Callable[[], Awaitable[object]], ...]:
        """The steps that put back what `prepare` and `ask` changed, for `whole.all_of`."""
        return (
            lambda: in_thread(self.rp_filter.restore),
            lambda: in_thread(self.arp.restore),
            lambda: in_thread(self.resolver.give_back),
        )
