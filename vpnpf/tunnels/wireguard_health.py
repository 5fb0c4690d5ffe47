"""What a WireGuard device's clock and counters say: how old the handshake is, and how long the server is silent. Pure.

Who gets data has to send something back within 10 s, if need be an empty packet (KEEPALIVE_TIMEOUT of the
protocol), and who waits for that in vain shakes hands anew after another 5 s (REKEY_TIMEOUT). So bytes that went
out are answered by a server that lives, also if nobody behind it answers. Two things are not: keepalives, and
what was lost on the way; the latter is made good by the new handshake.
"""

from __future__ import annotations

from vpnpf.model import TunnelHealth

_KEEPALIVE = 32
"""Bytes of an empty packet; the smallest one with data has 64."""
_LONGEST_GAP = 60.0
"""Seconds between two looks, after which nothing is known of the time between them: the machine slept."""


class Silence:
    """What is known from one look to the next."""

    def __init__(self, keepalive: int, now: float) -> None:
        self._keepalive = keepalive
        """Seconds between two keepalives."""
        self._looked = self._heard = now
        """When the last look was, and the last that saw something arrive."""
        self._received = self._sent = 0
        """The counters as they were at `_heard`."""
        self._since: float | None = None
        """The first look that saw bytes without an answer, or None."""

    def look(self, now: float, received: int, sent: int) -> float:
        """Seconds for which bytes have certainly been without an answer; 0: none are."""
        slept = now - self._looked > _LONGEST_GAP
        self._looked = now
        if slept or received != self._received or sent < self._sent:
            self._heard, self._received, self._sent = now, received, sent
            self._since = None
        elif self._since is None and sent - self._sent > self._needing_none(now - self._heard):
            self._since = now
        return 0.0 if self._since is None else now - self._since

    def _needing_none(self, seconds: float) -> int:
        """The most bytes that may go out in that time without being owed an answer.

        One keepalive more than fit into it, and one more that is our own answer to what arrived before.
        """
        return _KEEPALIVE * (int(seconds / self._keepalive) + 2)


class Watch:
    """Makes looks of what `wg` shows; one for each device, from its first moment on."""

    def __init__(self, keepalive: int, now: float) -> None:
        self._silence = Silence(keepalive, now)
        self._handshake = (0, 0.0)
        """The last handshake: as `wg` says it, and when that was on our clock."""
        self._earlier = (0, 0)
        """Bytes received and sent before the peer was put back: `wg` counts from there."""

    def put_back(self, received: int, sent: int) -> None:
        """The peer was taken away, with these counters, and put back."""
        self._earlier = (self._earlier[0] + received, self._earlier[1] + sent)
        # `wg` shows whole seconds: the next handshake may be in the same one.
        self._handshake = (0, 0.0)

    def look(self, now: float, wall: float, handshake: int, transfer: tuple[int, int]) -> TunnelHealth:
        """One look. `now` is on CLOCK_BOOTTIME; `wall` and `handshake` are seconds since 1970, 0: there was none."""
        received, sent = (before + since for before, since in zip(self._earlier, transfer, strict=True))
        return TunnelHealth(self._age(now, wall, handshake), received, sent, self._silence.look(now, received, sent))

    def _age(self, now: float, wall: float, handshake: int) -> float | None:
        """Seconds since a handshake. `wg` speaks in wall-clock time, which may jump: ours is CLOCK_BOOTTIME."""
        if not handshake:
            return None
        if handshake != self._handshake[0]:
            self._handshake = (handshake, now - max(0.0, wall - handshake))
        return now - self._handshake[1]
