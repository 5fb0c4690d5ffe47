"""How the torrent client is set to listen, and which sockets do."""

from __future__ import annotations

from msgspec import Struct

from vpnpf.model.kinds import Protocol


class ListenSettings(Struct, frozen=True):
    """How a torrent client is set to listen."""

    port: int
    interface: str
    """Device it is bound to; empty: any."""
    random_port: bool = False
    port_mapping: bool = False
    """Whether its own UPnP or NAT-PMP is on, which would fight with ours."""


class Connection(Struct, frozen=True):
    """A TCP connection on a port of this machine, whoever began it."""

    local: str
    """Address on this side."""
    local_port: int
    address: str
    """Of the far side."""
    port: int
    came_in: bool
    """True: the far side began it; False: that could not be told. What was begun here is not listed at all."""


class ListeningSocket(Struct, frozen=True):
    """A socket that the kernel holds open for inbound packets."""

    protocol: Protocol
    address: str
    """Bound address; "0.0.0.0" or "::": any."""
    port: int
    device: str = ""
    """Device it is bound to; empty: any."""
