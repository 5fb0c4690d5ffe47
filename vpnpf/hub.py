"""Where the state and the notices are read: one publisher, any number of readers.

A reader that is slow or stuck delays nobody: it gets the newest state, and of the notices the last
thousand with a count of those it missed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vpnpf.events import Notice
    from vpnpf.model import State

KEPT = 1000
"""Notices kept for a reader that does not come."""


class Moment(Struct, frozen=True):
    """A notice, with the time it was made."""

    at: float
    notice: Notice


class Update(Struct, frozen=True):
    """What is new since the reader came last."""

    state: State
    moments: tuple[Moment, ...]
    missed: int = 0
    """Notices that were dropped because the reader was too slow."""


class Subscription:
    """One reader's place in the hub."""

    def __init__(self) -> None:
        self._moments: deque[Moment] = deque(maxlen=KEPT)
        self._missed = 0
        self._state: State | None = None
        self._news = asyncio.Event()
        self._closed = False

    def put(self, state: State, moments: tuple[Moment, ...]) -> None:
        """Leave something for the reader; never waits."""
        self._missed += max(0, len(self._moments) + len(moments) - KEPT)
        self._moments.extend(moments)
        self._state = state
        self._news.set()

    def close(self) -> None:
        """Let the reader end once it has read what is left."""
        self._closed = True
        self._news.set()

    async def updates(self) -> AsyncIterator[Update]:
        """Updates as they come, until the hub closes."""
        while True:
            await self._news.wait()
            self._news.clear()
            if self._state is not None:
                state, moments, missed = self._state, tuple(self._moments), self._missed
                self._state, self._missed = None, 0
                self._moments.clear()
                yield Update(state, moments, missed)
            if self._closed and self._state is None:
                return


class Hub:
    """The newest state of one profile, and who reads it."""

    def __init__(self) -> None:
        self.state: State | None = None
        self.turns = 0
        """How often the engine has published, anything new or not: whether it still turns."""
        self._readers: set[Subscription] = set()
        self._closed = False

    def publish(self, state: State, moments: tuple[Moment, ...]) -> None:
        """Hand out a state if it is new, and notices. Never waits."""
        self.turns += 1
        if state == self.state and not moments:
            return
        self.state = state
        for reader in self._readers:
            reader.put(state, moments)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """Read from now on."""
        reader = Subscription()
        if self.state is not None:
            reader.put(self.state, ())
        if self._closed:
            reader.close()
        self._readers.add(reader)
        try:
            yield reader
        finally:
            self._readers.discard(reader)

    def close(self) -> None:
        """Nothing more will come; who subscribes from now on reads the last state and is done."""
        self._closed = True
        for reader in self._readers:
            reader.close()
