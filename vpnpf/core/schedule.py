"""When things are due. All times are seconds on CLOCK_BOOTTIME, handed in.

Renewal starts at half of what was granted (RFC 6886 section 3.3), so that several tries fit before expiry.
"""

from __future__ import annotations

from zlib import crc32

from msgspec import Struct

from vpnpf.model import Lease

LONGEST_SLEEP = 15.0
"""Seconds; no wait is longer, so that a suspend is noticed soon after waking."""
SOONEST_RETRY = 0.5
"""Seconds; a plug-in that wants to be asked again at once is not asked in a loop."""
EXIT_AGAIN = 1800.0
"""Seconds between two looks at the exit address."""
SILENT = 17.0
"""Seconds for which a server may take what is sent and answer nothing, before the tunnel counts as dead."""
HANDSHAKE_DEAD = 180.0
"""Seconds after which a WireGuard session accepts nothing more (REJECT_AFTER_TIME of the protocol)."""


class Timing(Struct, frozen=True):
    """How often the world is compared with what should be, in seconds."""

    tunnel: float = 10.0
    firewall: float = 10.0
    client: float = 30.0
    sockets: float = 15.0
    switch: float = 300.0
    """Of the provider's own switch: somebody may set it on the provider's site."""
    switch_set: float = 1.0
    """The shortest time between two changes of it."""
    soonest_switch: float = 0.25
    """The first look at a switch that was just set and does not say so yet."""
    switch_apart: float = 30.0
    """The longest time between two of those."""
    switch_again: float = 600.0
    """After that it is set once more."""
    rebind: float = 5.0
    """How long a client that is set right may have no socket before it is made to bind anew."""
    soonest_look: float = 0.02
    """The first of the quick looks at something that was just changed."""
    soonest_count: float = 1.0
    """The first look at the counters of a port that was just opened."""


def renew_at(lease: Lease, now: float) -> float | None:
    """Half of the lifetime after the grant; None for a lease that does not end.

    A lease whose half is over when it comes in (a renewal that gave no more time) is asked for again
    after a share of what is left, so that a provider is never asked in a loop.
    """
    if lease.lifetime is None:
        return None
    left = lease.granted_at + lease.lifetime - now
    return max(lease.granted_at + lease.lifetime / 2, now + max(SOONEST_RETRY, left / 4))


def backoff(failures: int, key: str, *, first: float = 1.0, longest: float = 60.0) -> float:
    """Seconds to wait after so many failures in a row: doubling, with a tenth of jitter.

    The jitter comes from the key, so that a thousand forwards do not try in step and a run can be replayed.
    """
    wait = min(longest, first * 2.0 ** min(failures - 1, 16))
    jitter = crc32(f"{key}/{failures}".encode()) / 2**32
    return wait * (0.9 + 0.2 * jitter)


def retry_renewal(lease: Lease, wait: float, now: float) -> float:
    """Seconds until a failed renewal is tried again: a fair share of what is left, so that there are many tries."""
    if lease.expires_at is None:
        return wait
    left = lease.expires_at - now
    return max(SOONEST_RETRY, min(wait, left / 4))


def next_look(age: float, soonest: float, longest: float) -> float:
    """Seconds until the next look at something that changed `age` seconds ago: soon at first, then ever later."""
    return max(soonest, min(longest, age / 4))
