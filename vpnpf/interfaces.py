"""What the engine expects of its plug-ins and adapters.

Plug-ins (providers, torrent clients, tunnel back ends) own no timers and no files and never sleep;
they get an `io` object, return values, and raise one of the few kinds of `errors.Failure`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, Protocol, TypeVar

from msgspec import Struct, field

from vpnpf.model import (
    FirewallPolicy,
    FirewallReading,
    LanPrefix,
    Lease,
    ListeningSocket,
    ListenSettings,
    MappingRequest,
    ProviderPolicy,
    Stirring,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)
from vpnpf.model import Protocol as Transport
from vpnpf.protocol.announcement import Announcement
from vpnpf.protocol.exchange import Exchange

T = TypeVar("T")


def _anything(_value: object) -> str:
    return ""


def _no_password() -> str:
    return ""


class Option(Struct, frozen=True):
    """A plug-in's own setting, as `[profiles.NAME.options]` or `[clients.NAME]` may hold it."""

    name: str
    type: type[str | int | bool]
    help: str
    check: Callable[[object], str] = _anything
    """Says in a few words what is wrong with a value of the right type; empty: nothing."""


class Manifest(Struct, frozen=True):
    """What a plug-in says of itself; read without doing anything."""

    id: str
    name: str
    """As people write it: "ProtonVPN"."""
    summary: str
    """One line, no full stop."""
    verified: str
    """How far it was proven: "mock", "real daemon", "real service"."""
    options: tuple[Option, ...] = ()
    max_forwards: int = 1
    """How many forwards a profile may have with it (providers only)."""
    announces: bool = False
    """Whether its gateway tells everybody when it restarts, so that `listen` is worth calling (providers only)."""
    port_switch: bool = False
    """Whether the account or server has a port policy of its own, to be read and set (providers only): `Switching`."""
    username_suffix: str = ""
    """What the user name at its servers ends with for port forwarding, where there are user names (providers only)."""
    direct: bool = False
    """Whether it works on the machine's own link, without a tunnel, and only there (providers and tunnels)."""
    keys: tuple[str, ...] = ("config",)
    """Keys of [profiles.NAME.tunnel] that it reads beside `type` (tunnels only)."""
    required: tuple[str, ...] = ("config",)
    """Those of them that cannot be left out (tunnels only)."""
    adopts: bool = False
    """Whether the device is somebody else's, so that there is nothing to lock (tunnels only)."""


class Clock(Protocol):
    """Time, so that it can be made up in tests."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 in UTC, for people only."""
        ...


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


class ProviderIO(Protocol):
    """All that a provider can do to the world. Bound to the tunnel device: nothing goes around it."""

    @property
    def http(self) -> Http:
        """HTTP through the tunnel, from its device. A secret goes by plain http to the tunnel's gateway alone.

        A host name is looked up as this machine does it, which is not always through the tunnel: prefer addresses.
        """
        ...

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        ...

    def random_port(self) -> int:
        """A port from the dynamic range, 49152 to 65535 (RFC 6335 section 6)."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess: a nonce (RFC 6887 section 11.2), or the jitter of a timer."""
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


class HttpResponse(Struct, frozen=True):
    """A whole answer, at most 64 KiB of it."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header the last."""
    body: bytes
    cookies: Mapping[str, str] = field(default_factory=dict)


class Http(Protocol):
    """HTTP/1.1 with a body cap and a total deadline; no redirects, no proxies, no cookie jar."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> HttpResponse:
        """Make one request, with a form or `content` as it stands. Raises Refused, NoAnswer, Transient, or Misconfigured for a URL that cannot be asked.

        An HTTP error status is an answer, not an exception.
        """
        ...


class ClientOptions(Struct, frozen=True):
    """How a torrent client is reached."""

    url: str
    username: str = ""
    password: Callable[[], str] = _no_password
    """Reads the secret when it is needed. Raises Misconfigured if it cannot be had."""


class TorrentClient(Protocol):
    """A torrent client's settings, read and set over its own API."""

    manifest: ClassVar[Manifest]

    def __init__(self, http: Http, options: ClientOptions) -> None: ...

    async def probe(self) -> str:
        """Name and version: "qBittorrent 4.5.2". Raises Failure of some kind."""
        ...

    async def get_listen(self) -> ListenSettings:
        """The settings in force. Raises Failure of some kind."""
        ...

    async def set_listen(self, wanted: ListenSettings) -> None:
        """Change the settings. Raises Failure of some kind."""
        ...


class Outside(Struct, frozen=True):
    """The machine's own network namespace, seen from the tunnel's. `number`: its device and inode."""

    number: tuple[int, int]
    prefix: tuple[str, ...]
    """Put before the path of a program, it runs there; `prefix[0]` is a bare name."""
    enter: Callable[[], None]
    """Puts the calling thread there: one of its own, that ends afterwards. Raises OSError."""


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

    async def rekey(self, tunnel: Tunnel) -> TunnelHealth:
        """Shake hands anew in place: device, addresses, routes and the sockets on them stay.

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


class Firewall(Protocol):
    """The kernel's packet filter, one rule set at a time."""

    async def apply(self, policy: FirewallPolicy, now: float) -> FirewallReading:
        """Swap the rule set in one transaction and read it back. Raises Failure; then the old one stands."""
        ...

    async def read(self) -> FirewallReading:
        """Compare the kernel's rule set with what was applied last, and read the counters."""
        ...

    async def remove(self) -> None:
        """Take our rules away, and nothing else. Never raises for what is gone already."""
        ...

    async def watch(self) -> None:
        """Wait, for days if need be, until somebody changed our rules; ours count too. Raises Unavailable."""
        ...


class Sockets(Protocol):
    """The kernel's list of sockets."""

    async def listening(self, port: int) -> tuple[ListeningSocket, ...]:
        """Sockets bound to this local port for inbound packets, in this network namespace."""
        ...


class Lan(Protocol):
    """The machine's own links."""

    async def prefixes(self, without: str) -> tuple[LanPrefix, ...]:
        """Private prefixes (RFC 1918, ULA, link-local) on connected links other than the device `without`."""
        ...


class ExitCheck(Protocol):
    """Somebody on the internet who says which address he sees."""

    async def address(self, tunnel: Tunnel) -> str:
        """The address in its canonical form, asked for through the tunnel. Raises Failure."""
        ...


class Store(Protocol):
    """What must survive a restart: written atomically, mode 0600."""

    def load(self, name: str) -> dict[str, object] | None:
        """The value saved last under this name, or None. A damaged file is put aside, not raised."""
        ...

    def save(self, name: str, value: Mapping[str, object]) -> None:
        """Replace the value in one step. Raises Unavailable if the disk says no."""
        ...

    def forget(self, name: str) -> None:
        """Remove the value; nothing happens if there is none."""
        ...
