"""The composition root: a configuration becomes plug-ins, adapters and an engine that can run.

The only place that sees everything. Whatever can be known to be wrong is found here, before anything on the
machine has changed.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from vpnpf import plugins
from vpnpf.config import load
from vpnpf.core.state import initial
from vpnpf.firewall.lock import Lock
from vpnpf.hub import Hub
from vpnpf.interfaces import ClientOptions, Clock, TorrentClient, TunnelBackend, TunnelOptions
from vpnpf.io.clock import BootClock
from vpnpf.io.exit_check import HttpExitCheck
from vpnpf.io.http import HttpClient
from vpnpf.io.process import find
from vpnpf.io.sockets import KernelSockets
from vpnpf.io.udp import TunnelIO
from vpnpf.leases import from_store
from vpnpf.model import LockMode
from vpnpf.plugins import Group
from vpnpf.secrets import reader
from vpnpf.settings import ClientSettings, ProfileSettings
from vpnpf.store import FileStore, InstanceLock, make_private, runtime_directory, state_directory
from vpnpf.supervisor import Supervisor
from vpnpf.workers import NOBODY, Workers

LOCKDOWN = "lockdown"
"""Below the state directory: what is put up at boot."""


@dataclass(frozen=True, slots=True)
class Run:
    """An engine that is ready to go; a context manager that holds its locks."""

    supervisor: Supervisor
    hub: Hub
    clock: Clock
    locks: contextlib.ExitStack

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.locks.close()


async def prepare(profile: str | None, config: Path | None) -> Run:
    """Read, check and build everything for a profile; changes nothing but our own directories.

    Raises ConfigError, UsageError, Unavailable, PermissionDenied or Failure.
    """
    settings = load(config).profile(profile)
    name = settings.spec.name
    backend = backend_of(settings)
    backend.check_config()
    backend.check_machine()
    find("nft")
    provider = plugins.provider(settings.spec.provider)(settings.options)
    clients = {forward: _client(client) for forward, client in settings.clients.items()}
    with contextlib.ExitStack() as stack:
        for lock in _locks(name):
            stack.enter_context(lock)
        plan = await backend.plan()
        clock, hub, store = BootClock(), Hub(), FileStore(state_directory())
        leases = f"leases-{name}"
        workers = Workers(
            backend=backend,
            firewall=make_lock(),
            provider=provider,
            provider_io=lambda tunnel: TunnelIO(tunnel, clock),
            clients=clients,
            sockets=KernelSockets(),
            store=store,
            clock=clock,
            leases_name=leases,
            exit_check=HttpExitCheck(settings.exit_check) if settings.exit_check else NOBODY,
        )
        machine = initial(
            settings.spec,
            plan,
            clock.now(),
            from_store(store.load(leases)),
            servers=max(1, len(settings.tunnel.configs)),
            announces=provider.manifest.announces,
            exit_check=settings.exit_check is not None,
            watched=True,
        )
        return Run(Supervisor(machine, workers, clock, hub), hub, clock, stack.pop_all())


def backend_of(settings: ProfileSettings) -> TunnelBackend:
    """The tunnel back end of a profile. Raises Unavailable if the plug-in is broken."""
    name, tunnel = settings.spec.name, settings.tunnel
    options = TunnelOptions(
        profile=name,
        configs=tuple(map(str, tunnel.configs)),
        runtime=str(runtime_directory() / f"profile-{name}"),
        state=str(state_directory() / f"profile-{name}"),
        lan=settings.spec.lan,
        interface=tunnel.interface,
        gateway=tunnel.gateway,
        username=_suffixed(tunnel.username, plugins.manifest(Group.PROVIDERS, settings.spec.provider).username_suffix),
        password=reader(tunnel.password),
        namespace=tunnel.namespace,
        held=settings.spec.lock is not LockMode.OFF,
    )
    return plugins.tunnel(tunnel.type)(options)


def _suffixed(username: str, suffix: str) -> str:
    """A user name with what a provider wants at its end; names may have several such parts, in any order."""
    return username if not username or f"{suffix}+" in f"{username}+" else f"{username}{suffix}"


def _client(settings: ClientSettings) -> TorrentClient:
    options = ClientOptions(settings.url, settings.username, reader(settings.password))
    return plugins.client(settings.type)(HttpClient(), options)


def _locks(profile: str) -> tuple[InstanceLock, InstanceLock]:
    """One process for a profile, and one for a network namespace: it has one default route and one packet filter."""
    directory = make_private(runtime_directory())
    return InstanceLock(directory, f"profile-{profile}", f"runs the profile {profile}"), alone()


def alone() -> InstanceLock:
    """Held by whoever has to do with the packet filter of this network namespace. Entering it raises Unavailable."""
    namespace = Path("/proc/self/ns/net").stat().st_ino
    what = "runs another profile in this network namespace"
    return InstanceLock(make_private(runtime_directory()), f"namespace-{namespace}", what)


def make_lock() -> Lock:
    """The packet filter and the routes of this network namespace."""
    return Lock(state_directory() / LOCKDOWN)
