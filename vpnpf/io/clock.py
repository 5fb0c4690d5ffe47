"""The machine's clocks."""

from __future__ import annotations

import time


class BootClock:
    """CLOCK_BOOTTIME goes on during suspend, so a lease that ran out while asleep is seen at once."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def wall(self) -> float:
        """Seconds since 1970 in UTC."""
        return time.time()
