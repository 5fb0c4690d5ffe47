"""A daemon for the face, in this process: states of a made-up engine, and answers that a test sets."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

from tests.unit.engine_world import START, World
from vpnpf.core.serialise import state_event
from vpnpf.core.view import view
from vpnpf.errors import VpnpfError

NOON = datetime(2026, 5, 4, 12, 0, 0, tzinfo=UTC).timestamp()
OFFSET = NOON - START
"""Wall-clock time minus the engine's."""


class FakeDaemon:
    """`vpnpf.tui.link.Link`, with the states of a World. `answers`: by (method, path), a value, an error, or what makes one
    of the body."""

    profile = "home"

    def __init__(self, world=None):
        self.world = world or World().begin()
        self.answers = {("GET", "/v1"): {"api": 1, "version": "0", "profile": "home", "pid": 1, "role": "owner"}}
        self.asked = []
        self.news = asyncio.Queue()
        self.tell()

    @property
    def now(self):
        return self.world.now + OFFSET

    def state(self):
        return state_event(view(self.world.machine), self.world.now, OFFSET)

    def tell(self, event=None):
        """Send an event; without one, how the world is now."""
        self.news.put_nowait(event or self.state())

    def end(self, error=None):
        """The stream ends, or breaks."""
        self.news.put_nowait(error)

    async def ask(self, method, path, body=None):
        self.asked.append((method, path, body))
        answer = self.answers.get((method, path), {})
        if callable(answer):
            answer = answer(body)
        if asyncio.iscoroutine(answer):
            answer = await answer
        if isinstance(answer, VpnpfError):
            raise answer
        return answer

    async def text(self, path):
        return str(await self.ask("GET", path))

    async def events(self):
        while (event := await self.news.get()) is not None:
            if isinstance(event, VpnpfError):
                raise event
            yield event
