"""The application behind the control socket (ASGI 3): who may, what comes in, what goes out, and how much at a time.

A connection has one request. Whoever is slow with it, or with taking the answer, is let go and holds up nobody; and what
members of the group take up leaves some for the owner.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import aclosing, contextmanager
from http import HTTPStatus
from typing import Any

from vpnpf.control.messages import API, LARGEST, PREFIX, Json, encode, parse_request, refusal, status_of
from vpnpf.control.peers import Peer, Role
from vpnpf.control.routes import Route, Routes
from vpnpf.errors import PermissionDenied, Transient, UsageError, VpnpfError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

REQUESTS, WATCHERS = 8, 128
"""Requests that are answered at a time, apart from as many that wait for others, and streams."""
RESERVED = 2
"""Of those, and of the connections: for the owner alone."""
PATIENCE = 5.0
"""Seconds for a whole request to come, and for an answer to be taken."""
STUCK = 60.0
"""Seconds after which a watcher that reads nothing is let go."""
DOING = "asking vpnpf"
READING = "reading a request"
_JSON, _LINES, _TEXT = b"application/json", b"application/x-ndjson", b"text/plain; charset=utf-8"


class _Gone(Exception):
    """Who asked has gone."""


class _Refused(Exception):
    """An answer with a status of its own."""

    def __init__(self, status: HTTPStatus, error: VpnpfError, *headers: tuple[bytes, bytes]) -> None:
        super().__init__(status, error)
        self.status, self.error, self.headers = status, error, headers


class App:
    """Answers by a table of routes."""

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._busy: Counter[str] = Counter()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """One request. `scope["state"]` has of the connection the Peer as "peer", "began" (loop time), and "abort"."""
        peer: Peer = scope["state"]["peer"]
        try:
            route = self._route(scope, peer)
            if route.stream is not None:
                with self._place("watch", WATCHERS, peer):
                    await _stream(route.stream, receive, send)
                return
            body: Json = {}
            if scope["method"] != "GET":
                with self._place("write", REQUESTS, peer):
                    body = await _body(scope, receive)
            with self._place("wait" if route.slow else "ask", REQUESTS, peer):
                status, kind, answer = await _answer(route, body, peer.role)
            await _send(send, status, kind, answer)
        except _Refused as refused:
            await _send(send, refused.status, _JSON, refusal(refused.error), *refused.headers)
        except VpnpfError as error:
            await _send(send, status_of(error), _JSON, refusal(error))
        except (_Gone, TimeoutError, OSError):
            scope["state"]["abort"]()  # who asked has gone, or does not read: what is left to be sent goes too

    def _route(self, scope: Message, peer: Peer) -> Route:
        method, path = str(scope["method"]), str(scope["path"])
        if peer.role is Role.STRANGER:
            hint = "do it as root, or as the user that runs vpnpf"
            raise PermissionDenied(DOING, f"the user {peer.user} may not", hint)
        if path != PREFIX and not path.startswith(f"{PREFIX}/"):
            error = UsageError(
                DOING, f"it speaks version {API} of its interface", "use the vpnpf that runs, or restart it"
            )
            raise _Refused(HTTPStatus.NOT_FOUND, error)
        methods = sorted(verb for verb, at in self._routes if at == path)
        if not methods:
            shown = path[:40].encode("ascii", "backslashreplace").decode()
            error = UsageError(DOING, f'it does not know "{shown}"', "use the vpnpf that runs, or restart it")
            raise _Refused(HTTPStatus.NOT_FOUND, error)
        route = self._routes.get((method, path))
        if route is None:
            allowed = ", ".join(methods)
            error = UsageError(DOING, f"{path} takes {allowed} only", "use the vpnpf that runs, or restart it")
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, error, (b"allow", allowed.encode()))
        if peer.role < route.role:
            cause = f"the user {peer.user} may only watch"
            raise PermissionDenied(DOING, cause, "do it as root, or as the user that runs vpnpf")
        return route

    @contextmanager
    def _place(self, what: str, most: int, peer: Peer) -> Iterator[None]:
        """One of so many. Raises Transient if all are taken."""
        if self._busy[what] >= room(most, peer):
            raise Transient(DOING, f"{self._busy[what]} others are asking at this moment", "ask again")
        self._busy[what] += 1
        try:
            yield
        finally:
            self._busy[what] -= 1


def room(most: int, peer: Peer) -> int:
    """How many places somebody may see taken and still get one."""
    return most if peer.role is Role.OWNER else most - RESERVED


async def _body(scope: Message, receive: Receive) -> Json:
    """The object that was sent along. Raises _Refused, UsageError."""
    too_long = _Refused(
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE, UsageError(READING, f"it is longer than {LARGEST} bytes", "send less")
    )
    lengths = [value for name, value in scope["headers"] if name == b"content-length"]
    if any(int(each) > LARGEST for each in lengths):  # h11 lets none through that is no number
        raise too_long
    data = bytearray()
    try:
        async with asyncio.timeout_at(scope["state"]["began"] + PATIENCE):
            more = True
            while more:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise _Gone
                data += message.get("body", b"")
                more = bool(message.get("more_body"))
                if len(data) > LARGEST:
                    raise too_long
    except TimeoutError:
        raise late() from None
    return parse_request(bytes(data))


def late() -> _Refused:
    """The answer to a request that takes too long to come."""
    error = UsageError(READING, f"not there within {PATIENCE:g} s", "send it in one go")
    return _Refused(HTTPStatus.REQUEST_TIMEOUT, error)


async def _answer(route: Route, body: Json, role: Role) -> tuple[HTTPStatus, bytes, bytes]:
    assert route.answer is not None
    limit = asyncio.timeout(route.longest)
    try:
        async with limit:
            said = await route.answer(body, role)
        if isinstance(said, str):
            return route.status, _TEXT, said.encode("utf-8", "replace")
        return route.status, _JSON, encode(said)
    except VpnpfError:
        raise
    except Exception as error:  # a mistake of ours is told to who asked, and ends nothing
        if limit.expired():
            raise Transient(DOING, f"no answer within {route.longest:g} s", "look at `vpnpf status`") from None
        raise VpnpfError(DOING, f"vpnpf made a mistake: {error!r}", "please report it") from error


async def _stream(source: Callable[[], Any], receive: Receive, send: Send) -> None:
    """Lines until there are no more, or nobody reads them."""

    async def pour() -> None:
        async with aclosing(source()) as lines:
            await _put(send, _start(HTTPStatus.OK, _LINES), STUCK)
            async for line in lines:
                await _put(send, {"type": "http.response.body", "body": line, "more_body": True}, STUCK)
        await _put(send, {"type": "http.response.body", "body": b""}, STUCK)

    async def gone() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    tasks = [asyncio.create_task(pour(), name="watched"), asyncio.create_task(gone(), name="watcher gone")]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            raise _Gone
        tasks[0].result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _start(status: HTTPStatus, kind: bytes, *headers: tuple[bytes, bytes]) -> Message:
    found = [(b"content-type", kind), (b"connection", b"close"), *headers]
    return {"type": "http.response.start", "status": int(status), "headers": found}


async def _send(send: Send, status: HTTPStatus, kind: bytes, body: bytes, *headers: tuple[bytes, bytes]) -> None:
    length = (b"content-length", str(len(body)).encode())
    await _put(send, _start(status, kind, length, *headers), PATIENCE)
    await _put(send, {"type": "http.response.body", "body": body}, PATIENCE)


async def _put(send: Send, message: Message, patience: float) -> None:
    async with asyncio.timeout(patience):
        await send(message)
