"""What a tunnel back end is, and what it is made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Protocol

from msgspec import Struct

from vpnpf.interfaces.account import Configuration, Offer
from vpnpf.interfaces.plugin import Manifest
from vpnpf.model import Rekeyed, Stirring, Tunnel, TunnelHealth, TunnelPlan


def _no_password() -> str:
    return ""


class Outside(Struct, frozen=True):
    """The machine's own network namespace, seen from the tunnel's. `number`: its device and inode."""

    number: tuple[int, int]
    prefix: tuple[str, ...]
    """Put before the path of a program, it runs there; `prefix[0]` is a bare name."""
    enter: Callable[[], None]
    """Puts the calling thread there: one of its own, that ends afterwards. Raises OSError."""


class TunnelSupply(Protocol):
    """A `Supplying` provider, bound to its account and to the type of the tunnel."""

    async def offers(self) -> tuple[Offer, ...]:
        """As `Supplying.offers`. Raises Failure."""
        ...

    async def configure(self, plan: TunnelPlan, offer: Offer, *, again: bool = False) -> Configuration:
        """As `Supplying.configure`, asked beside the tunnel of this plan. Raises Failure."""
        ...


class TunnelOptions(Struct, frozen=True):
    """What a tunnel back end is made from."""

    profile: str
    """Name of the profile; device, routing table and mark follow from it, so that a killed run can be undone."""
    configs: tuple[str, ...]
    """Absolute paths of the provider's configuration files, one a server, in the order in which they are tried."""
    runtime: str
    """Absolute path of a directory (0700) for what must outlive the process but not a reboot."""
    lan: bool = True
    """Whether private prefixes on directly connected links stay reachable outside the tunnel."""
    state: str = ""
    """As `runtime`, for what must outlive a reboot; empty: the same directory."""
    interface: str = ""
    """Device of somebody else's making that is to be adopted."""
    gateway: str = ""
    """Address in the tunnel that the provider's gateway answers on; empty: as the tunnel says."""
    username: str = ""
    password: Callable[[], str] = _no_password
    """Reads the secret when it is needed. Raises Misconfigured if it cannot be had."""
    namespace: bool = False
    """Whether the tunnel has a network namespace of its own."""
    held: bool = False
    """Whether a lock has the rules and the unreachable route, so that they are not the tunnel's to take away."""
    outside: Outside | None = None
    """Where the tunnel's own packets leave if it has; then this process is inside from `plan` on. None: here."""
    supply: TunnelSupply | None = None
    """The provider, if it makes the configuration itself; then there are no `configs`."""


class TunnelBackend(Protocol):
    """Brings a tunnel up, watches it, takes it down and leaves the machine as it was."""

    manifest: ClassVar[Manifest]

    def __init__(self, options: TunnelOptions) -> None: ...

    def check_config(self) -> None:
        """Read the provider's file; changes nothing, asks nobody. Raises ConfigError with every mistake."""
        ...

    def check_machine(self) -> None:
        """See that this machine has what `up` needs. Raises Unavailable or PermissionDenied."""
        ...

    async def plan(self, server: int = 0) -> TunnelPlan:
        """Read a server's configuration and resolve its endpoint; changes nothing. Raises ConfigError, Failure.

        `server` counts through `TunnelOptions.configs`.
        """
        ...

    async def up(self, plan: TunnelPlan) -> Tunnel:
        """Device, addresses, routes, rules, resolver, first handshake. Raises Failure; then nothing is left."""
        ...

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        """One look at handshake and counters; puts back routes that somebody took. Raises Failure: it is gone."""
        ...

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        """Shake hands anew in place: device, routes and the sockets on the device stay.

        Addresses too, unless the provider makes the configuration and gives others to a key that the server had forgotten.

        Raises NoAnswer if the server does not answer (the tunnel stays as it was), LeaseLost if the device is gone,
        Unsupported if this kind of tunnel cannot.
        """
        ...

    async def watch(self, tunnel: Tunnel) -> Stirring:
        """Wait, for days if need be, until the tunnel wants to be looked at before its time.

        At once if its device is gone; after seconds if what asks for an answer gets none. Raises Failure.
        """
        ...

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        """Find the largest packet that gets through whole, and set the device to it; returns its MTU in bytes.

        Raises Unsupported if the MTU is not to be changed, NoAnswer if nobody in the tunnel answers.
        """
        ...

    async def down(self) -> None:
        """Undo all of `up`, also of an `up` of a process that was killed. Never raises for what is gone already."""
        ...
