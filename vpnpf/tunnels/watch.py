"""Noticing at once that a tunnel's device is gone, and within seconds that what is sent through it gets no answer.

The kernel tells of the device. Of the server nobody tells: once a second the device's counters are read, which costs
nothing, and only when packets went out and none came in for a while is somebody in the tunnel asked for an answer.
Whoever does not answer such questions although the server lives is not missed when he does not answer one.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import struct
from typing import NamedTuple

from vpnpf.core.routes import PROTOCOL
from vpnpf.io import counters, netlink
from vpnpf.io.clock import BootClock
from vpnpf.io.netlink import ADDRESSES4, LINKS, ROUTE, ROUTES4, ROUTES6, Changes
from vpnpf.model import Stirring, Tunnel
from vpnpf.tunnels import questions

PERIOD = 1.0
"""Seconds between two looks at the counters."""
QUIET = 2.0
"""Seconds without a packet that came in, since one went out, before somebody is asked."""
ASKING = 0.6
"""Seconds for each answer."""
TIMES = 3
"""Questions without an answer, in a row, before it is said."""
SLEPT = 10.0
"""Seconds between two looks, after which nothing is known of the time between them: the machine was suspended."""
AGAIN = 30.0
"""Seconds until somebody who never answered is asked again whether he ever does."""
FIRST_GAP, LONGEST_GAP = 5.0, 300.0
"""Seconds between two silences that are said, while nobody answered in between: each time twice as long."""
_PROTOCOL = 5
"""Place of rtm_protocol in struct rtmsg."""
_LINK = struct.Struct("=BxHiII")
"""struct ifinfomsg of rtnetlink(7)."""


class Counted(NamedTuple):
    """Packets that a device has received and sent."""

    received: int
    sent: int


class Quiet:
    """For how long packets went out and none came in. Pure; `now` is in seconds."""

    def __init__(self) -> None:
        self._last: Counted | None = None
        self._since: float | None = None
        self._looked = 0.0

    def look(self, counted: Counted, now: float) -> float:
        """Seconds since the first packet that went out after the last that came in; 0: none went out."""
        slept, self._looked = now - self._looked > SLEPT, now
        if slept or self._last is None or counted.received != self._last.received or counted.sent < self._last.sent:
            self._last, self._since = counted, None
        elif self._since is None and counted.sent != self._last.sent:
            self._since = now
        return 0.0 if self._since is None else max(now - self._since, 0.001)


class Watch:
    """One tunnel, from when it is up to when it is down."""

    def __init__(self, interface: str, *, asks: bool = True) -> None:
        self._interface = interface
        self._asks = asks
        self._changes = Changes(ROUTE, (LINKS, ADDRESSES4, ROUTES4, ROUTES6), self._tells_of_us)
        self._quiet = Quiet()
        self._answers = False
        """Whether somebody in this tunnel answers questions, as far as is known."""
        self._asked = -math.inf
        """When that was looked at last."""
        self._said, self._gap = -math.inf, 0.0
        """When a silence was said last, and how long the next has to wait."""
        self._clock = BootClock()

    async def stirring(self, tunnel: Tunnel) -> Stirring:
        """Wait until the tunnel wants to be looked at. Raises Unavailable if the kernel does not tell of changes."""
        self._changes.listen()
        if self._counted() is None:
            return Stirring("its device is gone")  # before anybody listened
        await self._learn(tunnel)
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PERIOD):
                    await self._changes.wait()
                return Stirring("its device, address or routes changed")
            counted = self._counted()
            if counted is None:
                return Stirring("its device is gone")
            quiet = self._quiet.look(counted, self._clock.now())
            if quiet < QUIET:
                continue
            if not self._answers:
                await self._learn(tunnel)
            elif not await self._any_answer(tunnel):
                now = self._clock.now()
                silent = self._quiet.look(self._counted() or counted, now)
                if silent >= QUIET and now - self._said >= self._gap:
                    # The server may live although they do not answer: the next silence says less.
                    self._said, self._gap = now, min(LONGEST_GAP, max(FIRST_GAP, 2 * self._gap))
                    return Stirring(f"the server has not answered for {silent:.0f} s", silent)

    async def _learn(self, tunnel: Tunnel) -> None:
        """See whether anybody answers: if that is not known, or nobody did when a silence was said."""
        now = self._clock.now()
        unknown = not self._answers and now - self._asked >= AGAIN
        if self._asks and (unknown or self._gap):
            self._asked = now
            if await questions.ask(tunnel, ASKING):
                self._answers, self._gap = True, 0.0

    async def _any_answer(self, tunnel: Tunnel) -> bool:
        for _ in range(TIMES):
            if await questions.ask(tunnel, ASKING):
                self._gap = 0.0
                return True
        return False

    def _counted(self) -> Counted | None:
        found = counters.read(self._interface)
        return None if found is None else Counted(found.packets_in, found.packets_out)

    def close(self) -> None:
        """The tunnel is down."""
        self._changes.close()

    def _tells_of_us(self, told: bytes) -> bool:
        name = self._interface.encode() + b"\0"
        for kind, payload in netlink.messages(told):
            if kind == netlink.DELROUTE and payload[_PROTOCOL : _PROTOCOL + 1] == bytes([PROTOCOL]):
                return True
            if name not in payload or len(payload) < _LINK.size:
                continue
            if kind == netlink.DELADDR:
                return True
            flags = _LINK.unpack_from(payload)[3]
            if kind == netlink.DELLINK or (kind == netlink.NEWLINK and not flags & netlink.UP):
                return True
        return False
