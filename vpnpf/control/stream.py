"""The state and the events as lines, for any number of watchers: each line is made once, whoever reads it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from vpnpf.control.messages import encode
from vpnpf.control.served import Seen
from vpnpf.core.serialise import notice_event, state_event
from vpnpf.hub import KEPT, Moment, Update
from vpnpf.model import State

BEAT = 15.0
"""Seconds after which an empty line says that we live."""
APART = 0.05
"""Seconds between what one watcher is sent: a burst of states makes no burst of work, however many watch."""


class Events:
    """What `GET /v1/events` sends."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._state: tuple[State | None, bytes] = (None, b"")
        self._notices: dict[int, tuple[Moment, bytes]] = {}
        """By identity, which holds for as long as the moment is kept here."""

    async def lines(self) -> AsyncIterator[bytes]:
        """The state, then what is new, until the hub closes; empty lines in between."""
        with self._seen.hub.subscribe() as reader:
            updates = aiter(reader.updates())
            while True:
                coming = asyncio.ensure_future(anext(updates, None))
                try:
                    while not (await asyncio.wait({coming}, timeout=BEAT))[0]:
                        yield b"\n"
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
