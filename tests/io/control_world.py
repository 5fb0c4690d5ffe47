"""A control server that is up in a directory, with a hub, and raw connections to it."""

from __future__ import annotations

import asyncio
import contextlib

from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.control import routes
from vpnpf.control.client import Connection
from vpnpf.control.peers import Role
from vpnpf.control.place import name_of, short
from vpnpf.control.routes import Route
from vpnpf.control.server import ControlServer
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.errors import Unavailable
from vpnpf.hub import Hub
from vpnpf.testing import FakeClock

PROFILE = "home"


def ready_state():
    """What a run in a world publishes when it is READY."""
    world = World(initial(SPEC, PLAN, START), plan=PLAN)
    world.ready()
    return view(world.machine)


async def echo(body, role):
    return {"body": body, "role": str(role)}


async def no(body, role):
    raise Unavailable("doing it", "it is not there", f"look for {body.get('what')}")


async def mistake(body, role):
    raise RuntimeError("of the inside")


async def much(body, role):
    return {"much": "x" * 3_000_000}


ROUTES = {
    ("POST", "/v1/echo"): Route(Role.OWNER, echo),
    ("POST", "/v1/no"): Route(Role.OWNER, no),
    ("POST", "/v1/mistake"): Route(Role.OWNER, mistake),
    ("GET", "/v1/much"): Route(Role.WATCHER, much),
}


class Profile:
    """What is watched."""

    def __init__(self):
        self.profile, self.hub, self.clock = PROFILE, Hub(), FakeClock(START)
        self.counted, self.read = None, []

    def traffic(self, interface):
        self.read.append(interface)
        return self.counted


class Serving:
    def __init__(self, directory, more=None, group=""):
        self.directory = directory
        self.said = []
        self.seen = Profile()
        self.hub = self.seen.hub
        table = {**routes.watching(self.seen), **ROUTES, **(more or {})}
        self.server = ControlServer(directory, PROFILE, table, self.said.append, group)

    @property
    def path(self):
        return self.directory / name_of(PROFILE)

    @property
    def connection(self):
        return Connection(PROFILE, (self.directory,))

    async def __aenter__(self):
        before = self.path.lstat().st_ino if self.path.exists() else None
        self.task = asyncio.create_task(self.server.serve())
        # It has no word for being up; it is when one can connect.
        for _ in range(1000):
            await asyncio.sleep(0)
            if self.task.done() or (self.path.exists() and self.path.lstat().st_ino != before):
                break
        return self

    async def __aexit__(self, *_):
        self.hub.close()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def ask(self, method, path, *arguments):
        return await asyncio.to_thread(getattr(self.connection, method), path, *arguments)

    async def echo(self, **arguments):
        return (await self.ask("post", "/v1/echo", arguments))["body"]

    @contextlib.asynccontextmanager
    async def raw(self):
        with short(self.directory) as near:
            reader, writer = await asyncio.open_unix_connection(f"{near}/{name_of(PROFILE)}", limit=8_000_000)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def told(self, data):
        """All that comes back for some bytes."""
        async with self.raw() as (reader, writer):
            writer.write(data)
            return await read_all(reader)

    @contextlib.asynccontextmanager
    async def watching(self):
        """A stream of events, after its headers."""
        async with self.raw() as (reader, writer):
            writer.write(b"GET /v1/events HTTP/1.1\r\nhost: vpnpf\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            yield head, reader


async def read_all(reader):
    """What comes until the end, also where that is a reset."""
    data = b""
    with contextlib.suppress(ConnectionError):
        while more := await reader.read(65536):
            data += more
    return data


async def chunk(reader):
    """One chunk's content."""
    size = int(await reader.readline(), 16)
    data = await reader.readexactly(size + 2)
    return data[:-2]


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a connection's task has no word for its end
            await asyncio.sleep(0.001)
