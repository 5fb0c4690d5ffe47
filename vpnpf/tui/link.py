"""The way to a profile's daemon: the same questions over its socket, and over the routes of one in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from vpnpf.control.client import Connection, NotRunning
from vpnpf.control.messages import Json
from vpnpf.control.peers import Role
from vpnpf.errors import UsageError, VpnpfError

if TYPE_CHECKING:  # what serves need not be loaded by who only asks
    from vpnpf.control.routes import Routes

_KEPT = 1000
"""Events that wait for a face that does not come; the oldest go first. Of states only the newest waits."""


class Link(Protocol):
    """What the face needs of a daemon. All raise VpnpfError: NotRunning where none is, what it refuses as it says."""

    @property
    def profile(self) -> str:
        """Of which profile it is."""
        ...

    async def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """A question or a command, as the API has it: `ask("POST", "/v1/renew", {"forward": None})`."""
        ...

    async def text(self, path: str) -> str:
        """What is no JSON: the report."""
        ...

    def events(self) -> AsyncIterator[Json]:
        """The state, then what is new, until the daemon ends."""
        ...


class NoLink:
    """To nobody yet: the face has begun, and what it is to follow is still to be chosen."""

    profile = ""

    async def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """As `Link.ask`."""
        del method, path, body
        raise NotRunning("asking vpnpf", "no profile is chosen", "choose one, or set one up")

    async def text(self, path: str) -> str:
        """As `Link.text`."""
        return str(await self.ask("GET", path))

    async def events(self) -> AsyncIterator[Json]:
        """As `Link.events`."""
        yield await self.ask("GET", "/v1/events")


class SocketLink:
    """Over the control socket, in threads: whatever the far side does, the screen goes on."""

    def __init__(self, profile: str, directories: Sequence[Path] = ()) -> None:
        """`directories`: as `Connection` has them."""
        self._profile = profile
        self._directories = directories
        self._connection = Connection(profile, directories)

    @property
    def profile(self) -> str:
        """As `Link.profile`."""
        return self._profile

    async def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """As `Link.ask`."""
        match method:
            case "GET":
                return await asyncio.to_thread(self._connection.get, path)
            case "POST":
                return await asyncio.to_thread(self._connection.post, path, body)
            case "PUT":
                return await asyncio.to_thread(self._connection.put, path, body or {})
            case _:
                return await asyncio.to_thread(self._connection.delete, path)

    async def text(self, path: str) -> str:
        """As `Link.text`."""
        return await asyncio.to_thread(self._connection.text, path)

    async def events(self) -> AsyncIterator[Json]:
        """As `Link.events`. Whoever stops reading closes the connection."""
        # One of its own: what interrupts it shall not meet a question that is asked meanwhile.
        inbox = _Inbox(asyncio.get_running_loop(), Connection(self._profile, self._directories))
        threading.Thread(target=inbox.fill, name="events", daemon=True).start()
        try:
            while True:
                for event in await inbox.taken():
                    yield event
                if inbox.ended:
                    if inbox.trouble is not None:
                        raise inbox.trouble
                    return
        finally:
            inbox.close()


class _Inbox:
    """Between the thread that reads and the loop that shows."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        self._loop = loop
        self._connection = connection
        self._lock = threading.Lock()
        self._events: deque[Json] = deque(maxlen=_KEPT)
        self._news = asyncio.Event()
        self._closed = False
        self._over = False
        self.trouble: VpnpfError | None = None

    @property
    def ended(self) -> bool:
        """Whether there is no more."""
        with self._lock:
            return self._over and not self._events

    async def taken(self) -> list[Json]:
        """What has come since the last time; waits for something."""
        await self._news.wait()
        self._news.clear()
        with self._lock:
            found = list(self._events)
            self._events.clear()
        return found

    def fill(self) -> None:
        """Read until it ends: a thread's work."""
        try:
            for event in self._connection.events():
                with self._lock:
                    if self._closed:
                        break
                    # A state that nobody saw yet gives way to the newer one.
                    if event.get("event") == "state" and self._events and self._events[-1].get("event") == "state":
                        self._events.pop()
                    self._events.append(event)
                self._tell()
        except VpnpfError as error:
            self.trouble = error
        with self._lock:
            self._over = True
        self._tell()

    def close(self) -> None:
        """Let the thread end."""
        with self._lock:
            self._closed = True
        self._connection.interrupt()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is over
            self._loop.call_soon_threadsafe(self._news.set)


class HubLink:
    """Over the routes of a daemon in this process: what they answer is the same, byte for byte."""

    def __init__(self, profile: str, routes: Routes) -> None:
        self._profile = profile
        self._routes = routes

    @property
    def profile(self) -> str:
        """As `Link.profile`."""
        return self._profile

    async def ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Json:
        """As `Link.ask`."""
        answer = await self._answer(method, path, body)
        found: Json = json.loads(json.dumps(answer))
        return found

    async def text(self, path: str) -> str:
        """As `Link.text`."""
        return str(await self._answer("GET", path, None))

    async def events(self) -> AsyncIterator[Json]:
        """As `Link.events`."""
        stream = self._routes["GET", "/v1/events"].stream
        assert stream is not None
        async with contextlib.aclosing(stream()) as lines:  # type: ignore[type-var]  # it is a generator
            async for some in lines:
                for line in some.splitlines():
                    if line.strip():
                        yield json.loads(line)

    async def _answer(self, method: str, path: str, body: Mapping[str, object] | None) -> Mapping[str, object] | str:
        route = self._routes.get((method, path))
        if route is None or route.answer is None:
            raise UsageError("asking vpnpf", f'it does not know "{path}"', "use the vpnpf that runs, or restart it")
        return await route.answer(dict(body or {}), Role.OWNER)
