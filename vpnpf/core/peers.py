"""Who is connected to a forwarded port, and who was last: for people, no proof hangs on it. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from vpnpf.model import PEERS, Connection, Peer, Protocol, Tunnel

Key = tuple[str, int]
"""Address and port of a far side."""


def through(connections: tuple[Connection, ...], tunnel: Tunnel, port: int) -> tuple[Connection, ...]:
    """Those on the tunnel's own addresses and on this port: a look may have begun before the port changed."""
    own = {address.partition("/")[0] for address in tunnel.plan.addresses}
    return tuple(each for each in connections if each.local in own and each.local_port == port)


def met(
    peers: tuple[Peer, ...], present: frozenset[Key], there: tuple[Connection, ...], now: float
) -> tuple[tuple[Peer, ...], frozenset[Key]]:
    """The last peers, newest first, and all that are there now; `present` is who was there at the look before.

    Who left stays in the list until newer ones push it out. Who comes back is new.
    """
    by_key = {(each.address, each.port): each for each in there}
    new = [
        Peer(each.address, each.port, Protocol.TCP, now, came_in=each.came_in)
        for key, each in by_key.items()
        if key not in present
    ][:PEERS]
    ours = {(each.address, each.port) for each in new}
    old = [
        replace(each, connected=(each.address, each.port) in by_key)
        for each in peers
        if (each.address, each.port) not in ours
    ]
    return tuple([*new, *old][:PEERS]), frozenset(by_key)


def told(peers: tuple[Peer, ...], *, looking: bool) -> tuple[Peer, ...]:
    """The list as people may have it: while nobody looks, nobody is said to be there."""
    return peers if looking else tuple(replace(each, connected=False) for each in peers)
