"""A clock that goes when it is told to."""

from __future__ import annotations


class FakeClock:
    """A clock that goes when it is told to (`interfaces.Clock`)."""

    def __init__(self, now: float = 1000.0, wall: float = 1_700_000_000.0) -> None:
        self._now = now
        self._wall = wall

    def now(self) -> float:
        """Seconds as on CLOCK_BOOTTIME."""
        return self._now

    def wall(self) -> float:
        """Seconds since 1970 in UTC; they go on with `now`."""
        return self._wall

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises ValueError for less than 0."""
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds} s")
        self._now += seconds
        self._wall += seconds

    def advance_to(self, moment: float) -> None:
        """Let time pass until `moment`; nothing happens if it is over already."""
        self.advance(max(0.0, moment - self._now))
        self._now = max(self._now, moment)  # not a rounding error short of it
