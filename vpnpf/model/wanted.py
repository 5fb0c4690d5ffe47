"""What the person asked for."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct, field

from vpnpf.model.kinds import BOTH, Protocol


class PolicyMode(StrEnum):
    """What the internet may reach through the tunnel."""

    OPEN_ALL = "open-all"
    BLOCK_ALL = "block-all"
    ALLOW_LIST = "allow-list"


class LockMode(StrEnum):
    """When traffic that would go past the tunnel is blocked."""

    ON = "on"
    """From the start of vpnpf to its clean stop, with and without a tunnel."""
    LOCKDOWN = "lockdown"
    """Also after a clean stop and from boot on, until it is unlocked by hand."""
    OFF = "off"
    """Never: the tunnel carries what it can, and the rest goes its usual way."""


class Opening(Struct, frozen=True, order=True):
    """An entry of the allow-list: an inclusive range of ports of one protocol that new flows may come in to."""

    first: int
    last: int
    protocol: Protocol
    sources: tuple[str, ...] = ()
    """Prefixes that they may come from, in their canonical form, sorted; empty: anybody."""
    name: str = ""
    """As it was written, if that was a name: "minecraft"."""
    comment: str = ""
    ends_at: float | None = None
    """When the kernel closes it by itself, or None."""

    def __str__(self) -> str:
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return f"{ports}/{self.protocol}"

    @property
    def key(self) -> str:
        """What it opens, in words that tell it from all others: "6881/tcp from 192.0.2.0/24, 203.0.113.9/32"."""
        return f"{self} from {', '.join(self.sources)}" if self.sources else str(self)


class PortPolicy(Struct, frozen=True):
    """The port policy of a profile."""

    mode: PolicyMode = PolicyMode.ALLOW_LIST
    forwarded: bool = True
    """Whether the allow-list names "forwarded": every port held in a lease."""
    openings: tuple[Opening, ...] = ()
    """The other entries of the allow-list, sorted; no two of them overlap for one source."""
    report_unused: float | None = None
    """Seconds without an inbound packet after which an opening is reported, or None."""
    close_unused: bool = False
    """Whether it is closed then."""


class ProviderPolicy(Struct, frozen=True):
    """What a provider with a switch of its own lets in, before anything arrives here."""

    mode: PolicyMode
    ports: tuple[Opening, ...] = ()
    """With `allow-list` the ports that are let in, as the internet sees them: numbers and protocol alone."""


class ForwardSpec(Struct, frozen=True):
    """A forward as it was asked for."""

    name: str
    slot: int = 0
    """Its place among the profile's forwards, from 0."""
    protocols: tuple[Protocol, ...] = BOTH
    internal_port: int | None = None
    """Fixed local port, or None: listen on the external port, whatever it is."""
    external_port: int | None = None
    """The external port to ask for, or None: the gateway's choice."""
    client: str | None = None
    """Name of the torrent client that is told its listen port, or None."""
    client_local: bool = True
    """Whether the client (or the program behind the port) runs here, so that its sockets can be seen."""
    client_device: bool = True
    """Whether the client can be told which device to listen on; if not, it listens on any."""
    client_tests: bool = False
    """Whether the client can have its port knocked on from the internet."""
    target: str | None = None
    """Address of another host that packets are rewritten to, or None: they are for this machine."""
    sources: tuple[str, ...] = ()
    """Prefixes that may come in on it, in their canonical form; empty: anybody."""
    shut: bool = False
    """Whether nobody may come in on it: the port is held and renewed, and opened by nothing but open-all."""


class ProfileSpec(Struct, frozen=True):
    """A profile as it was asked for, without its secrets."""

    name: str
    provider: str
    forwards: tuple[ForwardSpec, ...]
    policy: PortPolicy = field(default_factory=PortPolicy)
    lan: bool = True
    """Whether private prefixes on directly connected links stay reachable."""
    lock: LockMode = LockMode.ON
    namespace: str = ""
    """The network namespace that is the tunnel's own; empty: it is the machine's tunnel."""
