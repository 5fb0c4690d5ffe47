"""The tunnel: how it is to be, how it is, and how it does."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model.kinds import Protocol


class Endpoint(Struct, frozen=True):
    """Where the tunnel's own packets go."""

    address: str
    port: int
    protocol: Protocol = Protocol.UDP

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


class LanPrefix(Struct, frozen=True):
    """A private prefix on a directly connected link."""

    interface: str
    prefix: str


class TunnelPlan(Struct, frozen=True):
    """All that is known of a tunnel before it is up: enough for the firewall to go first."""

    interface: str
    endpoint: Endpoint
    addresses: tuple[str, ...]
    """Own addresses with prefix length: "10.2.0.2/32"."""
    dns: tuple[str, ...] = ()
    mark: int = 0
    """Firewall mark on the tunnel's own packets."""
    table: int = 0
    """Routing table that everything else goes through."""
    mtu: int = 1420
    gateway: str | None = None
    """Where the provider's gateway is expected, if the configuration says."""
    lan: tuple[LanPrefix, ...] = ()
    """Directly connected private prefixes that stay reachable outside the tunnel."""
    notes: tuple[str, ...] = ()
    """Comments of the imported configuration that a provider may read: "NAT-PMP (Port Forwarding) = on"."""
    server: int = 0
    """Which of the profile's servers it leads to, from 0."""
    identity: str = ""
    """Names server and key, without telling the key: what is held through one is unknown through another."""
    server_name: str = ""
    """The name in the server's certificates, if the provider told it."""
    place: str = ""
    """Where the server is, for people, if the provider told it."""
    services: tuple[Endpoint, ...] = ()
    """TCP ports of the provider's that vpnpf itself, by the mark, reaches beside the tunnel."""
    direct: bool = False
    """Whether there is no tunnel: the interface is the machine's own link, and the gateway the router on it."""


class Tunnel(Struct, frozen=True):
    """A tunnel that is up."""

    plan: TunnelPlan
    backend: str
    """How it runs: "wireguard (kernel)", "wireguard-go"."""
    gateway: str
    """Address inside the tunnel that the provider's gateway answers on."""

    @property
    def interface(self) -> str:
        """Name of the network device."""
        return self.plan.interface

    @property
    def address(self) -> str:
        """The first own address, without prefix length."""
        return self.plan.addresses[0].partition("/")[0]


class TunnelHealth(Struct, frozen=True):
    """One look at a tunnel."""

    handshake_age: float | None
    """Seconds since the last handshake, or None: there was none."""
    rx: int = 0
    """Bytes received since the device exists."""
    tx: int = 0
    """Bytes sent since the device exists."""
    silent_for: float = 0.0
    """Seconds for which bytes were sent and none came back; 0 when idle. With WireGuard a server that lives ends it
    within 16 s, also if a packet was lost or nobody behind it answers."""
    handshakes: bool = True
    """Whether this kind of tunnel tells of handshakes; otherwise that it is there is all that is known."""


class Rekeyed(Struct, frozen=True):
    """What came of shaking hands anew in place."""

    health: TunnelHealth
    tunnel: Tunnel | None = None
    """The tunnel as it is now, perhaps with other addresses, if the server had forgotten its key and was told it anew: what
    was held there is gone. None: it is as it was."""


class Stirring(Struct, frozen=True):
    """Why a tunnel wants to be looked at before its time."""

    cause: str
    """In a few words: "its device is gone", "the server does not answer"."""
    silent_for: float = 0.0
    """Seconds since the last sign of the server, if it is that; what was sent since then was asking for an answer."""
