"""One request, retransmitted until its answer comes: a timer without a clock.

The engine is sans-I/O. A driver (`vpnpf.io.udp`) asks `next_send`, sends, waits until the time that
`sent` returns, and hands every datagram from the connected peer to `received`. RFC 6886 section 3.1
doubles from 250 ms over nine tries, 127.75 s in all; a person waiting for a port is told sooner, so
the default schedule is the first four tries of it: 3.75 s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long to wait after each try, in seconds."""

    waits: tuple[float, ...]

    @property
    def total(self) -> float:
        """Seconds from the first try to giving up."""
        return sum(self.waits)


QUICK = Schedule((0.25, 0.5, 1.0, 2.0))
"""The first 3.75 s of RFC 6886 section 3.1: enough to know that nobody answers."""

FULL = Schedule(tuple(0.25 * 2**n for n in range(9)))
"""RFC 6886 section 3.1 whole: 127.75 s."""


@dataclass(frozen=True, slots=True)
class Exchange(Generic[T]):
    """A request and how to know its answer."""

    request: bytes
    parse: Callable[[bytes], T | None]
    """Returns the answer, or None for a datagram that is not it (it is dropped and the wait goes on).
    May raise Failure for an answer that is an error."""
    doing: str
    """For errors: "asking 10.2.0.1 for a UDP mapping"."""
    schedule: Schedule = QUICK
