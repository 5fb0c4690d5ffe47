"""What one state does not tell: how fast, and when how many came in. No clock: times come with what is taken."""

from __future__ import annotations

from collections import deque
from datetime import datetime

from vpnpf.control.messages import Json
from vpnpf.control.seen import Seen
from vpnpf.tui.view import Rate

RATES = 150
"""Rates kept: five minutes."""
BUCKET = 10.0
"""Seconds."""
BUCKETS = 60
"""Ten minutes."""


class History:
    """Of one profile."""

    def __init__(self) -> None:
        self._rates: deque[Rate] = deque(maxlen=RATES)
        self._counters: tuple[float, int, int] | None = None
        self._inbound: deque[int] = deque([0] * BUCKETS, maxlen=BUCKETS)
        self._bucket: int | None = None
        self._packets: dict[str, int] = {}

    @property
    def rates(self) -> tuple[Rate, ...]:
        """Oldest first."""
        return tuple(self._rates)

    @property
    def inbound(self) -> tuple[int, ...]:
        """New flows by bucket, oldest first."""
        return tuple(self._inbound)

    def traffic(self, event: Json) -> None:
        """An event "traffic": the counters of the tunnel's device. What cannot be read is passed over."""
        time, received, sent = event.get("time"), event.get("received"), event.get("sent")
        if not isinstance(time, str) or not isinstance(received, int) or not isinstance(sent, int):
            return
        try:
            at = datetime.fromisoformat(time).timestamp()
        except ValueError:
            return
        before, self._counters = self._counters, (at, received, sent)
        if before is None or at <= before[0] or received < before[1] or sent < before[2]:
            return  # the first, or of another device
        span = at - before[0]
        self._rates.append(Rate((received - before[1]) / span, (sent - before[2]) / span))

    def state(self, seen: Seen) -> None:
        """A new state: what was counted since the last one has come in now."""
        self.pass_time(seen.time.timestamp())
        for forward in seen.forwards:
            before = self._packets.get(forward.name)
            self._packets[forward.name] = forward.packets
            # The first look does not tell when; fewer than before means that it is counted anew.
            if before is not None:
                self._inbound[-1] += forward.packets - before if forward.packets >= before else forward.packets

    def pass_time(self, now: float) -> None:
        """Begin the buckets that have come since; `now` in seconds since 1970."""
        bucket = int(now // BUCKET)
        if self._bucket is not None:
            self._inbound.extend([0] * min(BUCKETS, max(0, bucket - self._bucket)))
        self._bucket = bucket if self._bucket is None else max(bucket, self._bucket)

    def forget(self) -> None:
        """What is known is of a daemon that has ended: its counters go on nowhere."""
        self._counters = None
        self._packets = {}
