"""An account at a provider, and the servers that it leads to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from vpnpf.interfaces.engine import Store
from vpnpf.interfaces.http import Http
from vpnpf.model import Endpoint


class Credentials(Struct, frozen=True):
    """User name and password of an account; neither is shown by `repr`."""

    username: str
    password: str

    def __repr__(self) -> str:
        return "Credentials(...)"


class Account(Protocol):
    """What is kept of an account: who one is there, and what was learnt by logging in."""

    @property
    def store(self) -> Store:
        """The provider's own values, by names of its choice, for all profiles: files of 0600 in a directory of 0700.

        The place for tokens, signatures and lists that are worth keeping over a restart.
        """
        ...

    async def credentials(self) -> Credentials:
        """Who to log in as; may ask a keyring, for seconds.

        Raises Misconfigured: there are none, or they were `refused`; Transient with `retry_after` if that was until some time.
        """
        ...

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """Note that a login with these failed: they are not handed out again until they change, or until `until`.

        `until` is in seconds since 1970, of a login that is locked for some time; it outlives a restart, too.
        """
        ...


class AccountIO(Account, Protocol):
    """What a provider can do with and without a tunnel."""

    @property
    def http(self) -> Http:
        """HTTP by the way that this object stands for. A secret goes by https, or to the tunnel's gateway."""
        ...

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 in UTC, to be compared with what a server says; they may jump."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess: a key, a nonce (RFC 6887 section 11.2), or the jitter of a timer."""
        ...


class OutsideIO(AccountIO, Protocol):
    """What a provider can do beside the tunnel: by the machine's own link, with the mark of the tunnel's own packets.

    While everything is blocked only the services of the offer at hand can be reached, by their addresses, and no name is
    looked up.
    """

    async def reach(self, endpoint: Endpoint) -> float:
        """Seconds until a TCP connection to it stands, as a measure of how far it is. Raises Refused, NoAnswer, Transient."""
        ...

    async def reach_all(self, endpoints: Sequence[Endpoint], within: float) -> Mapping[Endpoint, float]:
        """As `reach` for many at a time, in `within` seconds for all of them; who does not answer is left out."""
        ...


class Region(Struct, frozen=True):
    """A place that a provider has servers in."""

    id: str
    name: str
    country: str
    """Two letters (ISO 3166-1), upper case."""
    forwards: bool
    """Whether its servers forward ports."""
    knock: Endpoint | None = None
    """A TCP port that answers there, to measure how far it is; None: there is none, or the region is off."""
    virtual: bool = False
    """Whether its servers stand elsewhere."""


class Offer(Struct, frozen=True):
    """A server that a tunnel can go to. Holds no secret: parts of it are shown."""

    endpoint: Endpoint
    """Where the tunnel's own packets go."""
    identity: str
    """Names account and key without telling either: leases are kept by it, so it is the same for all servers that know
    the same leases."""
    server_name: str = ""
    """The name in the server's certificates."""
    place: str = ""
    """Where it is, for people: "Netherlands (amsterdam403)"."""
    services: tuple[Endpoint, ...] = ()
    """TCP ports that `configure` has to reach beside the tunnel; the packet filter lets vpnpf itself out to them."""


class Configuration(Struct, frozen=True):
    """What a tunnel is made from, in place of a file; not shown by `repr`, since there are keys in it."""

    text: str
    """As the provider's file would be: a WireGuard or OpenVPN configuration."""
    gateway: str = ""
    """Address in the tunnel that the provider's gateway answers on; empty: as the tunnel says."""
    username: str = ""
    password: str = ""
    """Login at the server, where the tunnel has one (OpenVPN)."""

    def __repr__(self) -> str:
        return "Configuration(...)"
