"""One request, retransmitted until its answer comes: a timer without a clock.

The engine is sans-I/O: a driver (`vpnpf.io.udp`) sends what it is told to, waits no longer than it is
told to, and hands in what it received. RFC 6886 section 3.1 doubles from 250 ms over nine tries, 127.75 s
in all; a person who waits for a port is told sooner, so the usual schedule is the first four tries: 3.75 s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from msgspec import Struct

T = TypeVar("T")


class Schedule(Struct, frozen=True):
    """How long to wait after each try, in seconds."""

    waits: tuple[float, ...]

    @property
    def total(self) -> float:
        """Seconds from the first try to giving up."""
        return sum(self.waits)


QUICK = Schedule((0.25, 0.5, 1.0, 2.0))
"""The first 3.75 s of RFC 6886 section 3.1: enough to know that nobody answers."""


class Exchange(Struct, Generic[T], frozen=True):
    """A request, and how to know its answer."""

    request: bytes
    parse: Callable[[bytes], T | None]
    """Returns the answer, or None for a datagram that is not it: it is dropped and the wait goes on."""
    doing: str
    """For errors: "asking 10.2.0.1 for a udp port"."""
    schedule: Schedule = QUICK


@dataclass(slots=True)
class Transmission(Generic[T]):
    """One exchange under way."""

    exchange: Exchange[T]
    deadline: float
    """To begin with, when to send first; then when to stop waiting for an answer to the last try."""
    tries: int = 0
    refusals: int = field(default=0)
    """How often ICMP port unreachable came back."""

    def due(self, now: float) -> bytes | None:
        """Return the datagram if it is time to send it (again).

        The wait is counted from here, not from the first try: after a suspend, or a loop that was held up, each
        try that is left gets its full wait.
        """
        waits = self.exchange.schedule.waits
        if self.tries == len(waits) or now < self.deadline:
            return None
        self.deadline = now + waits[self.tries]
        self.tries += 1
        return self.exchange.request

    def over(self, now: float) -> bool:
        """Whether every try was made and waited for."""
        return self.tries == len(self.exchange.schedule.waits) and now >= self.deadline

    @property
    def refused(self) -> bool:
        """Whether nothing listens there. One refusal says so where no answer came, since hosts send few (RFC 1812 4.3.2.8)."""
        return self.refusals > 0
