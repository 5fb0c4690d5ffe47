"""The state and the events as lines, for any number of watchers: each line is made once, whoever reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from vpnpf.control.messages import encode
from vpnpf.control.served import Seen
from vpnpf.core.serialise import notice_event, state_event, time_of
from vpnpf.hub import KEPT, Moment, Update
from vpnpf.model import State

BEAT = 15.0
"""Seconds after which an empty line says that we live."""
APART = 0.05
"""Seconds between what one watcher is sent: a burst of states makes no burst of work, however many watch."""
TRAFFIC = 2.0
"""Seconds between two readings of the tunnel's counters."""


class Traffic:
    """What goes through the tunnel, read once for all who watch, and not at all if nobody does."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._watchers = 0
        self._timer: asyncio.TimerHandle | None = None
        self._news: asyncio.Future[None] | None = None
        self.line = b""
        """The newest reading."""
        self.number = 0
        """Of that reading, for who wants to know whether it is another."""

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Read while this lasts."""
        self._watchers += 1
        if self._watchers == 1:
            self._again()
        try:
            yield
        finally:
            self._watchers -= 1
            if not self._watchers and self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def news(self) -> asyncio.Future[None]:
        """Done with the next reading; many may wait for the same one, and none may cancel it."""
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        return self._news

    def _again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(TRAFFIC, self._read)

    def _read(self) -> None:
        self._again()
        state = self._seen.hub.state
        counted = self._seen.traffic(state.tunnel.interface) if state and state.tunnel else None
        if counted is None:
            return
        received, sent = counted
        time = time_of(self._seen.clock.wall(), 0.0)
        self.line = encode({"event": "traffic", "time": time, "received": received, "sent": sent}) + b"\n"
        self.number += 1
        if self._news is not None:
            self._news.set_result(None)
            self._news = None


class Events:
    """What `GET /v1/events` sends."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._traffic = Traffic(seen)
        self._state: tuple[State | None, bytes] = (None, b"")
        self._notices: dict[int, tuple[Moment, bytes]] = {}
        """By identity, which holds for as long as the moment is kept here."""

    async def lines(self) -> AsyncIterator[bytes]:
        """The state, then what is new, until the hub closes; in between the traffic, or else empty lines."""
        traffic = self._traffic
        with self._seen.hub.subscribe() as reader, traffic.watched():
            updates = aiter(reader.updates())
            number = traffic.number
            while True:
                coming = asyncio.ensure_future(anext(updates, None))
                try:
                    while not coming.done():
                        waited: set[asyncio.Future[Any]] = {coming, traffic.news()}
                        if not (await asyncio.wait(waited, timeout=BEAT, return_when=asyncio.FIRST_COMPLETED))[0]:
                            yield b"\n"
                        elif not coming.done():
                            number = traffic.number
                            yield traffic.line
                finally:
                    if not coming.done():
                        coming.cancel()
                        with contextlib.suppress(asyncio.CancelledError):
                            await coming
                update = coming.result()
                if update is None:
                    return
                yield self._lines_of(update)
                await asyncio.sleep(APART)
                if number != traffic.number:  # in a burst of states something is always coming
                    number = traffic.number
                    yield traffic.line

    def _lines_of(self, update: Update) -> bytes:
        found = [encode({"event": "missed", "count": update.missed}) + b"\n"] if update.missed else []
        found += [self._notice(each, update.state.profile) for each in update.moments]
        return b"".join([*found, self._state_line(update.state)])

    def _state_line(self, state: State) -> bytes:
        known, line = self._state
        if known is not state:
            clock = self._seen.clock
            now = clock.now()
            line = encode(state_event(state, now, clock.wall() - now)) + b"\n"
            self._state = (state, line)
        return line

    def _notice(self, moment: Moment, profile: str) -> bytes:
        known = self._notices.get(id(moment))
        if known is not None:
            return known[1]
        clock = self._seen.clock
        line = encode(notice_event(moment.notice, moment.at, profile, clock.wall() - clock.now())) + b"\n"
        while len(self._notices) >= KEPT:
            del self._notices[next(iter(self._notices))]
        self._notices[id(moment)] = (moment, line)
        return line
