"""Whether a gateway lost its mappings, as its seconds since start of epoch tell. No clock: times are handed in.

A gateway that lost them is asked for all of them again at once; `recreate_at` keeps a forged or broken epoch from
turning that into a flood.
"""

from __future__ import annotations

from msgspec import Struct

RECREATE_GAP = 5.0
"""Seconds between two times that everything is asked for again because of the epoch."""


class Epoch(Struct, frozen=True):
    """What one datagram of the gateway said."""

    seconds: int
    """Since start of epoch, by the gateway's clock."""
    at: float
    """When it arrived, in seconds on CLOCK_BOOTTIME."""


def natpmp_lost(before: Epoch | None, after: Epoch) -> bool:
    """Whether `after` is more than 2 s short of what was due (RFC 6886 section 3.6); nothing is due at first.

    Only 7/8 of the time that passed here is expected, since clocks drift.
    """
    if before is None:
        return False
    expected = before.seconds + (after.at - before.at) * 7 / 8
    return after.seconds < expected - 2


def pcp_lost(before: Epoch | None, after: Epoch) -> bool:
    """Whether `after` cannot follow `before` (RFC 6887 section 8.5); anything may come first.

    The server's clock may go back by 1 s (datagrams overtake each other), and the two clocks may
    differ by 1/16 of the time that passed, and 2 s.
    """
    if before is None:
        return False
    server, client = after.seconds - before.seconds, after.at - before.at
    if server < -1:
        return True
    return client + 2 < server - server / 16 or server + 2 < client - client / 16


def recreate_at(lost: float, last: float | None) -> float:
    """When to ask for everything again after a loss noticed at `lost`; `last`: when that was done last, or None."""
    return lost if last is None else max(lost, last + RECREATE_GAP)
