"""Which paths there are, who may ask for them, and who answers."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from vpnpf import __version__
from vpnpf.control.messages import API, PREFIX, Json
from vpnpf.control.peers import Role
from vpnpf.control.served import Policies, Seen, Served, Verb
from vpnpf.control.stream import Events
from vpnpf.core.serialise import state_json, time_of
from vpnpf.errors import Transient

Answering = Callable[[Json, Role], Awaitable[Mapping[str, object] | str]]
"""From the body and the role of who asks to the answer: an object, or a text."""

LONGEST = 20.0
"""Seconds that an answer may take to be found."""
BEGINNING = 28.0
"""The same of a start, which may have to look a server's name up: the client has 30."""


@dataclass(frozen=True, slots=True)
class Route:
    """What answers one method of one path: `answer`, or `stream` without an end."""

    role: Role
    """Who may, at least."""
    answer: Answering | None = None
    stream: Callable[[], AsyncIterator[bytes]] | None = None
    status: HTTPStatus = HTTPStatus.OK
    longest: float = LONGEST
    """Seconds for the answer."""
    slow: bool = False
    """Whether it waits for others: then it has places of its own, so that many of it leave `status` and `down` theirs."""


Routes = Mapping[tuple[str, str], Route]
"""By method and path."""


def watching(seen: Seen) -> Routes:
    """What it is, how it stands, and what happens."""

    async def about(body: Json, role: Role) -> Json:
        del body
        phase = str(seen.hub.state.phase) if seen.hub.state else None
        said = {"api": API, "version": __version__, "profile": seen.profile, "pid": os.getpid()}
        return {**said, "role": str(role), "phase": phase}

    async def state(body: Json, role: Role) -> Json:
        del body, role
        if seen.hub.state is None:
            raise Transient("asking vpnpf", "it is just starting", "ask again")
        now = seen.clock.now()
        offset = seen.clock.wall() - now
        head = {"time": time_of(now, offset), "pid": os.getpid(), "version": __version__}
        return {**head, **state_json(seen.hub.state, offset, now)}

    return {
        ("GET", PREFIX): Route(Role.WATCHER, about),
        ("GET", f"{PREFIX}/state"): Route(Role.WATCHER, state),
        ("GET", f"{PREFIX}/events"): Route(Role.WATCHER, stream=Events(seen).lines),
    }


def policy(policies: Callable[[], Policies]) -> Routes:
    """The port policy; it is asked for anew each time, as another start has another."""

    def route(role: Role, verb: Callable[[Policies], Verb], *, slow: bool = False) -> Route:
        async def answer(body: Json, _: Role) -> Mapping[str, object]:
            return await verb(policies())(body)

        return Route(role, answer, slow=slow)

    path = f"{PREFIX}/policy"
    return {
        ("GET", path): route(Role.WATCHER, lambda each: each.show),
        ("PUT", path): route(Role.OWNER, lambda each: each.set, slow=True),
        ("DELETE", path): route(Role.OWNER, lambda each: each.reset, slow=True),
        ("POST", f"{path}/explain"): route(Role.OWNER, lambda each: each.explain),
    }


def commands(served: Served) -> Routes:
    """What starts and ends it, and which servers it can go to."""
    accepted = partial(Route, Role.OWNER, status=HTTPStatus.ACCEPTED, longest=BEGINNING)

    async def start(body: Json, role: Role) -> Json:
        del body, role
        await served.start()
        return {}

    async def stop(body: Json, role: Role) -> Json:
        del body, role
        await served.stop()
        return {}

    async def restart(body: Json, role: Role) -> Json:
        del body, role
        await served.restart()
        return {}

    async def shutdown(body: Json, role: Role) -> Json:
        del body, role
        await served.shutdown()
        return {}

    async def servers(body: Json, role: Role) -> Json:
        del body, role
        return {"servers": list(await served.servers())}

    return {
        ("POST", f"{PREFIX}/start"): accepted(start, slow=True),
        ("POST", f"{PREFIX}/stop"): accepted(stop),
        ("POST", f"{PREFIX}/restart"): accepted(restart, slow=True),
        ("POST", f"{PREFIX}/shutdown"): accepted(shutdown),
        ("GET", f"{PREFIX}/servers"): Route(Role.WATCHER, servers),
    }
