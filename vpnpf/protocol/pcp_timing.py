"""When PCP sends again: retransmission (RFC 6887 section 8.1.1) and renewal (section 11.2.1). No clock, no dice.

RAND and the points in the renewal windows are handed in; `rand` and `draw` make them of random bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from vpnpf.protocol.exchange import Schedule

IRT = 3.0
"""Seconds: initial retransmission time."""
MRT = 1024.0
"""Seconds: maximum retransmission time."""
JITTER = 0.1
"""RAND is drawn from -JITTER to +JITTER."""
FIRST_BUDGET = 3.75
"""Seconds after which it is known that nobody answers, as with NAT-PMP: two tries. RFC 6887 itself never gives up."""
RENEWALS_APART = 4.0
"""Seconds; renewal requests are never closer than this (RFC 6887 section 11.2.1)."""


def draw(data: bytes) -> tuple[float, ...]:
    """Numbers from 0 up to, not including, 1: one for every two random bytes."""
    return tuple(int.from_bytes(data[at : at + 2]) / 2**16 for at in range(0, len(data) - 1, 2))


def rand(data: bytes) -> tuple[float, ...]:
    """Values of RAND, from -0.1 to 0.1: one for every two random bytes."""
    return tuple(JITTER * (2 * number - 1) for number in draw(data))


def retransmission(rands: Iterable[float]) -> Schedule:
    """The schedule of as many tries as there are values of RAND. Raises ValueError for one that is none."""
    waits: list[float] = []
    for each in rands:
        if not -JITTER <= each <= JITTER:
            raise ValueError(f"RAND is from -{JITTER} to {JITTER}, not {each}")
        base = min(2 * waits[-1], MRT) if waits else IRT
        waits.append((1 + each) * base)
    return Schedule(tuple(waits))


def within(schedule: Schedule, budget: float) -> Schedule:
    """The part of a schedule that fits into `budget` seconds; the last wait is cut short."""
    ends = [min(end, budget) for end in accumulate(schedule.waits)]
    return Schedule(tuple(end - begin for begin, end in pairwise([0.0, *ends]) if end > begin))


def renewal_times(lifetime: float, draws: Sequence[float]) -> tuple[float, ...]:
    """When to try to renew, in seconds after the grant: 1/2 to 5/8 of the lifetime, 3/4 to 13/16, 7/8 to 29/32 ...

    One for each number of `draws` (0 to 1: the point in the window), fewer where they would come closer than 4 s or
    after the end.
    """
    times: list[float] = []
    left = lifetime / 2
    for each in draws:
        at = lifetime - left + each * left / 4
        if times:
            at = max(at, times[-1] + RENEWALS_APART)
        if at >= lifetime:
            break
        times.append(at)
        left /= 2
    return tuple(times)
