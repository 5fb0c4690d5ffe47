"""The composition root: a configuration becomes plug-ins, adapters and an engine that can run.

The only place that sees everything. Whatever can be known to be wrong is found here, before anything on the
machine has changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from msgspec.structs import replace

from vpnpf import plugins
from vpnpf.accounts import StoredAccount
from vpnpf.config import load
from vpnpf.control.policy_verbs import Ruling
from vpnpf.core.state import initial
from vpnpf.errors import VpnpfError
from vpnpf.firewall.explain import explain
from vpnpf.firewall.lock import Lock
from vpnpf.hub import Hub
from vpnpf.interfaces import (
    ClientOptions,
    Clock,
    Outside,
    Provider,
    Supplying,
    TorrentClient,
    TunnelBackend,
    TunnelOptions,
)
from vpnpf.io import counters, netns
from vpnpf.io.clock import BootClock
from vpnpf.io.exit_check import HttpExitCheck
from vpnpf.io.http import HttpClient
from vpnpf.io.process import find
from vpnpf.io.relay import Relay
from vpnpf.io.sockets import KernelSockets
from vpnpf.io.udp import TunnelIO
from vpnpf.leases import from_store, moved
from vpnpf.model import Entry, LockMode, Protocol
from vpnpf.plugins import Group
from vpnpf.policy_store import PolicyStore
from vpnpf.secret_places import read_account
from vpnpf.secrets import reader
from vpnpf.settings import ClientSettings, Config, ProfileSettings
from vpnpf.store import (
    FileStore,
    InstanceLock,
    make_private,
    runtime_directory,
    secrets_directory,
    state_directory,
)
from vpnpf.supervisor import Supervisor
from vpnpf.supply import Supply
from vpnpf.tunnels.namespace import ProfileNamespace
from vpnpf.uses import from_store as uses_from_store
from vpnpf.workers import NOBODY, Workers

LOCKDOWN = "lockdown"
"""Below the state directory: what is put up at boot."""


@dataclass(frozen=True, slots=True)
class Run:
    """An engine that is ready to go; a context manager that holds its locks, and undoes at its end what was made for it."""

    supervisor: Supervisor
    hub: Hub
    clock: Clock
    locks: contextlib.ExitStack
    leave: Callable[[], str]
    """Leaves the tunnel's own network namespace, if it has one; says why that could not be removed, if so."""
    relays: tuple[Relay, ...]
    """Into that namespace; whoever runs the engine serves them."""
    policies: PolicyStore
    """The port policy it began with, and where that was from."""
    settings: ProfileSettings
    """What it was made from."""
    outside: Outside | None = None
    """The machine's own network namespace, if the tunnel has another and we are in it."""

    async def let_out(self) -> None:
        """Take away the lock that was left in force for an engine that was to follow. Raises VpnpfError.

        Nothing is taken from another profile that runs here meanwhile.
        """
        with alone():
            await make_lock().remove()

    @property
    def profile(self) -> str:
        """Its name."""
        return self.supervisor.machine.spec.name

    def traffic(self, interface: str) -> tuple[int, int] | None:
        """Bytes that a device received and sent since it exists, or None."""
        return counters.traffic(interface)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.locks.close()


async def prepare(profile: str | None, config: Path | None) -> Run:
    """Read, check and build everything for a profile that has this process for itself; as `read` and `build` raise."""
    settings = read(profile, config).profile(profile)
    with contextlib.ExitStack() as stack:
        stack.enter_context(only(settings.spec.name))
        run = await build(settings, Hub())
        stack.push(run.locks)
        return dataclasses.replace(run, locks=stack.pop_all())


def read(profile: str | None, config: Path | None) -> Config:
    """Read the configuration, and see that a profile of it can run here; changes nothing, also beside one that runs.

    Raises ConfigError, UsageError, Unavailable, PermissionDenied or Failure.
    """
    found = load(config, ended=True)
    settings = found.profile(profile)
    namespace = ProfileNamespace(settings.spec.name) if settings.tunnel.namespace else None
    with netns.outside() if namespace else contextlib.nullcontext() as outside:
        backend = backend_of(settings, outside)
        backend.check_config()
        backend.check_machine()
        find("nft")
        if namespace:
            namespace.check_machine()
        for client in settings.clients.values():
            _client(client)
    return found


def stays_closed(running: ProfileSettings, following: ProfileSettings) -> bool:
    """Whether nothing may leave between two engines: both lock this machine, and not a network namespace of the tunnel's."""
    both = (running, following)
    return not any(each.tunnel.namespace or each.spec.lock is LockMode.OFF for each in both)


async def look_ahead(settings: ProfileSettings) -> None:
    """Have looked up, while there is a way, what an engine needs to know before it begins. Raises ConfigError, Failure."""
    await backend_of(settings).plan()


async def build(settings: ProfileSettings, hub: Hub, timeline: tuple[Entry, ...] = ()) -> Run:
    """An engine for a profile that `read` found to be right, and whose lock (`only`) is held.

    It publishes to `hub`; `timeline` is what came before it. The loop's own threads are new afterwards if the profile has a
    network namespace, and again when it was left. Raises ConfigError, Unavailable, PermissionDenied or Failure, with all as it was.
    """
    name = settings.spec.name
    namespace = ProfileNamespace(name) if settings.tunnel.namespace else None
    with contextlib.ExitStack() as stack:
        outside = stack.enter_context(netns.outside()) if namespace else None
        clock, secrets = BootClock(), FileStore(secrets_directory())
        account = account_of(settings, secrets)
        provider = plugins.provider(settings.spec.provider)(settings.options)
        supply = supply_of(settings, provider, account, outside)
        backend = backend_of(settings, outside, supply)
        clients = {forward: _client(client) for forward, client in settings.clients.items()}
        leave: Callable[[], str] = _nothing
        relays: tuple[Relay, ...] = ()
        if namespace is None:
            stack.enter_context(alone())
        elif outside:
            leave = _leaving(namespace)
            stack.callback(leave)
            await namespace.move_in(outside)
            # A thread stays where it was begun: those that were idle outside are left, and end.
            _new_threads(asyncio.get_running_loop())
            relays = tuple(stack.enter_context(Relay(place, outside.enter)) for place in settings.tunnel.publish)
        plan = await backend.plan()
        store = FileStore(state_directory())
        policies = PolicyStore(store, name, settings.spec.policy, settings.timed)
        spec = replace(
            settings.spec,
            policy=policies.load(clock.now(), clock.wall() - clock.now()),
            namespace=namespace.name if namespace else "",
        )
        leases, uses = f"leases-{name}", f"uses-{name}"
        workers = Workers(
            backend=backend,
            firewall=make_lock(namespace.name if namespace else ""),
            provider=provider,
            provider_io=lambda tunnel: TunnelIO(tunnel, clock, account),
            clients=clients,
            sockets=KernelSockets(),
            store=store,
            clock=clock,
            leases=secrets,
            leases_name=leases,
            uses_name=uses,
            exit_check=HttpExitCheck(settings.exit_check) if settings.exit_check else NOBODY,
        )
        machine = initial(
            spec,
            plan,
            clock.now(),
            from_store(moved(store, secrets, leases)),
            servers=supply.servers if supply else max(1, len(settings.tunnel.configs)),
            announces=provider.manifest.announces,
            exit_check=settings.exit_check is not None,
            watched=True,
            switchable=provider.manifest.port_switch,
            remaps=not provider.manifest.keeps_port,
            fixed=provider.manifest.fixed_ports,
            uses=uses_from_store(store.load(uses), clock.wall() - clock.now()),
        )
        supervisor = Supervisor(replace(machine, timeline=timeline), workers, clock, hub)
        return Run(supervisor, hub, clock, stack.pop_all(), leave, relays, policies, settings, outside)


def backend_of(
    settings: ProfileSettings, outside: Outside | None = None, supply: Supply | None = None
) -> TunnelBackend:
    """The tunnel back end of a profile. Raises Unavailable if a plug-in is broken.

    `outside` is where the tunnel's own packets leave, if the profile has a network namespace and we go into it. `supply` is
    as `supply_of` gives it; it is made here if it is left out.
    """
    name, tunnel = settings.spec.name, settings.tunnel
    if supply is None and tunnel.type in plugins.manifest(Group.PROVIDERS, settings.spec.provider).supplies:
        provider = plugins.provider(settings.spec.provider)(settings.options)
        supply = supply_of(settings, provider, account_of(settings, FileStore(secrets_directory())), outside)
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
        outside=outside,
        supply=supply,
    )
    return plugins.tunnel(tunnel.type)(options)


def supply_of(
    settings: ProfileSettings, provider: Provider, account: StoredAccount, outside: Outside | None = None
) -> Supply | None:
    """What makes the configuration of a profile's tunnel, if its provider does; nobody is asked yet."""
    kind = settings.tunnel.type
    if kind not in provider.manifest.supplies:
        return None
    return Supply(cast("Supplying", provider), kind, settings.spec.name, account, BootClock(), outside)


def account_of(settings: ProfileSettings, secrets: FileStore) -> StoredAccount:
    """The account at the provider of a profile; nothing is read yet."""
    provider = settings.spec.provider
    read = reader(settings.account) if settings.account else partial(read_account, provider)
    return StoredAccount(provider, secrets, read)


def _suffixed(username: str, suffix: str) -> str:
    """A user name with what a provider wants at its end; names may have several such parts, in any order."""
    return username if not username or f"{suffix}+" in f"{username}+" else f"{username}{suffix}"


def _client(settings: ClientSettings) -> TorrentClient:
    options = ClientOptions(settings.url, settings.username, reader(settings.password))
    return plugins.client(settings.type)(HttpClient(), options)


def only(profile: str) -> InstanceLock:
    """Held by whoever has to do with the tunnel of a profile, in whatever namespace: by a run also while it is stopped.

    Entering it raises Unavailable.
    """
    return InstanceLock(make_private(runtime_directory()), f"profile-{profile}", f"runs the profile {profile}")


def alone() -> InstanceLock:
    """Held by whoever has to do with the packet filter of this network namespace, which has one default route too.

    Entering it raises Unavailable.
    """
    namespace = Path("/proc/self/ns/net").stat().st_ino
    what = "runs another profile in this network namespace"
    return InstanceLock(make_private(runtime_directory()), f"namespace-{namespace}", what)


def make_lock(namespace: str = "") -> Lock:
    """The packet filter and the routes of the network namespace that we are in; one with a name is not the machine's."""
    return Lock(state_directory() / (f"{LOCKDOWN}-{namespace}" if namespace else LOCKDOWN))


def ruling(run: Run) -> Ruling:
    """What the rule set that was put up says of a new flow from the internet; nothing where that cannot be said."""

    def said(protocol: Protocol, port: int, source: str) -> dict[str, object]:
        applied = run.supervisor.machine.applied
        try:
            found = explain(applied, protocol, port, source, run.clock.now()) if applied is not None else None
        except (ValueError, VpnpfError):
            return {}
        if found is None or not found.label:
            return {}
        to = f", to {found.to}" if found.to else ""
        return {"admitted": found.verdict == "accept", "kernel": f"{found.chain}: {found.rule} ({found.label}){to}"}

    return said


def _leaving(namespace: ProfileNamespace) -> Callable[[], str]:
    loop = asyncio.get_running_loop()

    def leave() -> str:
        said = namespace.leave()
        _new_threads(loop)
        return said

    return leave


def _new_threads(loop: asyncio.AbstractEventLoop) -> None:
    """Have what the loop does in threads done in new ones. The old ones end when they are idle, with their executor."""
    loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))


def _nothing() -> str:
    return ""
