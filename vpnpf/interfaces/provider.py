"""What a provider plug-in is, and what it can do to the world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol, TypeVar

from msgspec import Struct

from vpnpf.interfaces.account import AccountIO, Configuration, Credentials, Offer, OutsideIO, Region
from vpnpf.interfaces.http import Http
from vpnpf.interfaces.plugin import Manifest
from vpnpf.model import Lease, MappingRequest, ProviderPolicy, Tunnel
from vpnpf.model import Protocol as Transport
from vpnpf.protocol.announcement import Announcement
from vpnpf.protocol.exchange import Exchange

T = TypeVar("T")


class IgdMapping(Struct, frozen=True):
    """A port mapping of an internet gateway device."""

    external_port: int
    """What the internet sees."""
    internal_port: int
    """Where its packets arrive."""
    address: str
    """Whose packets they are; empty: the gateway gave a name or nothing."""
    lifetime: float | None
    """Seconds that are left, or None: it stays until it is deleted."""


class Igd(Protocol):
    """An internet gateway device (UPnP IGD, version 1 or 2) with one connection to the internet."""

    async def external_address(self) -> str:
        """The IPv4 address that the internet sees. Raises Failure; Transient if there is none now."""
        ...

    async def add_mapping(
        self, protocol: Transport, external_port: int, internal_port: int, lifetime: int
    ) -> IgdMapping:
        """Map a port to our own address, or renew the mapping; `lifetime` in seconds, 1 to 604800.

        What is granted may have other ports (the wanted one is taken, or both have to be the same) and another
        lifetime. Raises Failure.
        """
        ...

    async def delete_mapping(self, protocol: Transport, external_port: int) -> None:
        """End a mapping; succeeds also if there was none. Raises Failure."""
        ...

    async def get_mapping(self, protocol: Transport, external_port: int) -> IgdMapping | None:
        """The mapping of an external port, whoever made it, or None. Raises Failure."""
        ...


class ProviderIO(AccountIO, Protocol):
    """All that a provider can do to the world. Bound to the tunnel device: nothing goes around it."""

    @property
    def http(self) -> Http:
        """HTTP through the tunnel, from its device. A secret goes by plain http to the tunnel's gateway alone.

        A host name is looked up as this machine does it, which is not always through the tunnel: prefer addresses.
        """
        ...

    def random_port(self) -> int:
        """A port from the dynamic range, 49152 to 65535 (RFC 6335 section 6)."""
        ...

    def own_address(self, gateway: str) -> str:
        """The tunnel's own address that a datagram to `gateway` comes from. Raises Unsupported: there is none."""
        ...

    async def exchange(self, exchange: Exchange[T], address: str, port: int) -> T:
        """Send a datagram until the matching answer comes (RFC 6886 section 3.1).

        Raises NoAnswer when the schedule is used up, Refused when ICMP port unreachable came and no answer did,
        Transient when the device is gone, Unsupported for an address of a family that it cannot ask.
        """
        ...

    async def hear(self, address: str) -> Announcement:
        """Wait for a gateway's announcement to 224.0.0.1:5350; what comes from another address or port is dropped.

        Raises Transient when the device is gone, Unsupported where the group cannot be joined.
        """
        ...

    async def igd(self, gateway_address: str) -> Igd:
        """Find the internet gateway device at this IPv4 address, and no other (UPnP).

        Raises NoAnswer if none answers, Refused or Transient for one that is not to be talked to, Unsupported if it
        maps no ports, if the address is none or if this machine lacks the package for it.
        """
        ...


class Provider(Protocol):
    """A port-forwarding provider. Renewing is acquiring with `request.renewal`."""

    manifest: ClassVar[Manifest]

    def __init__(self, options: Mapping[str, object]) -> None: ...

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure of some kind."""
        ...

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Give a lease back. Raises Failure of some kind; the lease counts as gone either way."""
        ...


class Announcing(Provider, Protocol):
    """A provider whose manifest says that its gateway `announces` itself."""

    async def listen(self, io: ProviderIO, tunnel: Tunnel) -> Announcement:
        """Wait, for hours if need be, until the gateway announces itself. Raises Failure."""
        ...


class Switching(Provider, Protocol):
    """A provider whose manifest says that it has a `port_switch`."""

    async def get_switch(self, io: ProviderIO, tunnel: Tunnel) -> ProviderPolicy:
        """What the provider lets in now: what is in force, not what was asked for. Raises Failure."""
        ...

    async def set_switch(self, io: ProviderIO, tunnel: Tunnel, wanted: ProviderPolicy) -> None:
        """Ask for another policy; it may come into force later. Raises Failure."""
        ...


class LoggingIn(Provider, Protocol):
    """A provider whose manifest says that it logs in with an `account`; `vpnpf login` and `logout` call these."""

    async def log_in(self, io: OutsideIO, credentials: Credentials) -> None:
        """Log in with these and no others, asking the provider even if there is a login in `io.store`; once, no second try.

        What the login gave goes into `io.store`; it is kept only if this returns. `io.credentials` and `io.refused` are
        not for this. Raises Misconfigured for a login that was refused, Transient when nobody could be asked.
        """
        ...

    async def log_out(self, io: OutsideIO) -> None:
        """End at the provider what is in `io.store`: a token. What is stored is removed by the caller, whatever happens here.

        Returns at once where there is nothing to end, or the provider knows no such request. Raises Failure.
        """
        ...


class Supplying(Provider, Protocol):
    """A provider whose manifest says which tunnels it `supplies`."""

    async def regions(self, io: OutsideIO) -> tuple[Region, ...]:
        """All places with servers, as the provider lists them. Raises Failure."""
        ...

    async def offers(self, io: OutsideIO, tunnel_type: str) -> tuple[Offer, ...]:
        """Servers to go to, the best first, at least one and at most some dozens; chosen by the profile's options.

        Asked before each start of a tunnel, also while the packet filter lets nothing out: what was learnt earlier is
        kept in `io.store`. Nobody is asked for a login here. Raises Misconfigured, Unsupported, Transient.
        """
        ...

    async def configure(self, io: OutsideIO, tunnel_type: str, offer: Offer, *, again: bool = False) -> Configuration:
        """The configuration of a tunnel to this server; registers a key if need be. Only the offer's services can be asked.

        `again`: what was given last is not taken by the server any more (a key that it forgot, a token that ended). What
        can stay the same, does: key and address first of all. What was kept of that server, but for the key, is forgotten
        before it is asked: cut off in the middle, nobody knows which address it gave. Raises Failure.
        """
        ...
