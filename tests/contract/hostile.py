"""Twelve HTTP servers that mean no good, on loopback, for whoever asks by `vpnpf.io.http.HttpClient`.

    async with serving(HOSTILITIES["huge"], names=("client.test",)) as server:
        found = await measured(server, ask)        # ask: gets an Http, whose every request ends up at the server

What a `Wire` asks goes to the server, whatever its URL says; the host's name stays, and so does what the certificate has to
show. It is the real client with the real limits; only its deadline is shorter.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.contract.certificates import Authority
from vpnpf.errors import Failure
from vpnpf.interfaces import ANSWER_LIMIT, Http, HttpResponse
from vpnpf.io import http_transport
from vpnpf.io.http import HttpClient

DEADLINE = 0.3
"""Seconds for a request, in place of the usual ten."""
MARGIN = 2.5
"""Seconds beside that: the machine is shared."""
MEMORY = 8 * 1024 * 1024
"""Bytes that an answer may cost at most, while it is read and looked at."""
DRIP = 0.1
"""Seconds between two octets: often enough that nobody who waits for each of them by itself gives up."""
PAGE = b"<!doctype html><title>Sign in</title><script>location='http://elsewhere.test/'</script>" + b"<p>welcome" * 500
DEEP = 100_000
FIELDS = (
    # What the answers of the providers and clients hold that are asked here.
    *("status", "token", "message", "regions", "groups", "payload", "signature", "port", "expires_at"),
    *("server_key", "server_port", "server_ip", "server_vip", "peer_ip", "peer_pubkey", "dns_servers"),
    *("listen_port", "current_network_interface", "random_port", "upnp", "mode", "ports"),
    *("result", "arguments", "peer-port", "version", "jsonrpc", "id", "error"),
)
WRONG: tuple[object, ...] = (None, True, -1, 1e308, "\u202e", [], [[]], {}, {"x": [None]}, [{"id": 1}])
TOP: tuple[object, ...] = (None, 7, "text", [], [None], {}, [{}])
Answer = Callable[["Server"], AsyncIterator[bytes]]


@dataclass
class Server:
    """A server that is there now, and what came of it."""

    url: str
    elsewhere: str
    """Where redirects lead to: another server of ours."""
    canary: str
    """A file that nobody has to read; its content is its own path."""
    authority: Authority
    answer: Answer
    requests: int = 0
    visits: int = 0
    """At the other server."""
    sent: int = 0
    """Bytes that the kernel took; not all of them have to have arrived."""


@dataclass(frozen=True)
class Hostility:
    """What one server does."""

    name: str
    answers: tuple[Answer, ...]
    certificate: str = ""
    """"stranger": by an authority that nobody trusts; "other": for another name; empty: a good one."""
    understood: bool = False
    """Whether it is HTTP in good order, so that only whoever asked can find what is wrong."""


def whole(body: bytes, *, kind: str = "application/json", status: str = "200 OK", more: bytes = b"") -> Answer:
    """An answer in good order."""

    async def answer(_server: Server) -> AsyncIterator[bytes]:
        head = f"HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n".encode()
        yield head + more + b"\r\n" + body

    return answer


async def _huge(_server: Server) -> AsyncIterator[bytes]:
    yield b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"token": "'
    while True:
        yield b"A" * 16384


async def _huge_headers(_server: Server) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nx-padding: "
    while True:
        yield b"A" * 16384


async def _huge_chunks(_server: Server) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    while True:
        yield b"1000\r\n" + b"A" * 4096 + b"\r\n"


async def _dripping(_server: Server) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    while True:
        await asyncio.sleep(DRIP)
        yield b"A"


async def _dripping_headers(_server: Server) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\nx-padding: "
    while True:
        await asyncio.sleep(DRIP)
        yield b"A"


def _redirected(place: Callable[[Server], str], status: str = "302 Found") -> Answer:
    async def answer(server: Server) -> AsyncIterator[bytes]:
        where = place(server)
        body = f'<meta http-equiv="refresh" content="0;url={where}">'.encode()
        yield (
            f"HTTP/1.1 {status}\r\nlocation: {where}\r\nrefresh: 0;url={where}\r\n"
            f"connection: close\r\ncontent-type: text/html\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body

    return answer


async def _cut_off(_server: Server) -> AsyncIterator[bytes]:
    yield b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 4000\r\n\r\n{"status": "OK", "tok'


async def _cut_in_headers(_server: Server) -> AsyncIterator[bytes]:
    yield b"HTTP/1.1 200 OK\r\ncontent-ty"


async def _cut_at_once(_server: Server) -> AsyncIterator[bytes]:
    yield b""


def _spoken(text: str) -> bytes:
    return json.dumps(dict.fromkeys(FIELDS, text), ensure_ascii=False).encode()


ESCAPE = "\x1b]0;owned\x07\x1b[2J\x1b[31mCALL 555-0100\r\n\x00\x9b1m\u202e"
"""The terminal's title, its screen, its colours, a line of its own, and text from right to left."""
HOSTILITIES: dict[str, Hostility] = {
    one.name: one
    for one in (
        Hostility("huge", (_huge, _huge_headers, _huge_chunks)),
        Hostility("dripping", (_dripping, _dripping_headers)),
        Hostility(
            "redirected",
            (
                _redirected(lambda server: server.elsewhere),
                _redirected(lambda server: server.elsewhere, "307 Temporary Redirect"),
                _redirected(lambda server: f"file://{server.canary}", "301 Moved Permanently"),
                _redirected(lambda server: server.url.replace("https:", "http:"), "308 Permanent Redirect"),
            ),
            understood=True,
        ),
        Hostility("looping", (_redirected(lambda server: server.url),), understood=True),
        Hostility(
            "deep",
            (
                whole(b"[" * DEEP),
                whole(b'{"status":' * 6000),
                whole(b"[" * 30_000 + b"]" * 30_000),
                whole(b'{"token": ' + b"9" * 60_000 + b"}"),
            ),
        ),
        Hostility(
            "wrong types",
            (
                *(whole(json.dumps(value).encode()) for value in TOP),
                *(whole(json.dumps(dict.fromkeys(FIELDS, value)).encode()) for value in WRONG),
                *(
                    whole(json.dumps({**dict.fromkeys(FIELDS, value), "status": "OK", "result": "success"}).encode())
                    for value in WRONG
                ),
            ),
            understood=True,
        ),
        Hostility("a web page", (whole(PAGE, kind="text/html"), whole(PAGE)), understood=True),
        Hostility("a stranger's certificate", (whole(b'{"status": "OK"}'),), certificate="stranger"),
        Hostility("another name's certificate", (whole(b'{"status": "OK"}'),), certificate="other"),
        Hostility(
            "control characters",
            (
                whole(b"{}", more=b"x-\x1b]0;owned\x07: 1\r\n"),
                whole(b"{}", more=b"x-a: \x1b[2J\x1b[31mred\x00\r\n"),
                whole(b"{}", status="401 \x1b[2J\x1b]0;owned\x07"),
                whole(_spoken(ESCAPE), status="401 Unauthorized"),
                whole(_spoken(ESCAPE), status="409 Conflict"),
                whole(_spoken(ESCAPE * 500)),
            ),
        ),
        Hostility("200 headers", (whole(b"{}", more=b"".join(b"x-%d: %d\r\n" % (n, n) for n in range(200))),)),
        Hostility("closed midway", (_cut_off, _cut_in_headers, _cut_at_once)),
    )
}
assert len(HOSTILITIES) == 12


@contextlib.asynccontextmanager
async def serving(
    hostility: Hostility, answer: Answer, canary: str, names: tuple[str, ...], *, tls: bool = True
) -> AsyncIterator[Server]:
    """A server that does this to everybody."""
    authority = Authority.made("the test's")
    stranger = Authority.made("a stranger's")
    issuer = stranger if hostility.certificate == "stranger" else authority
    context = issuer.context(*(("other.test",) if hostility.certificate == "other" else names)) if tls else None
    tasks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.requests += 1
        await reader.readuntil(b"\r\n\r\n")
        async for data in server.answer(server):
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(
                0
            )  # TLS takes what it is given without waiting: the loop has to hear that nobody is there
            if writer.transport.is_closing():
                break
            server.sent += len(data)

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.visits += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")

    def serve(what: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]):
        async def one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await what(reader, writer)
                writer.close()
                await writer.wait_closed()
            writer.transport.abort()

        return one

    listening = await asyncio.start_server(serve(talk), "127.0.0.1", 0, ssl=context)
    other = await asyncio.start_server(serve(visit), "127.0.0.1", 0)
    port, beside = (one.sockets[0].getsockname()[1] for one in (listening, other))
    server = Server(
        f"http{'s' if tls else ''}://{names[0]}:{port}/", f"http://127.0.0.1:{beside}/", canary, authority, answer
    )
    try:
        yield server
    finally:
        for one in (listening, other):
            one.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


class Wire:
    """HTTP by the real client (`interfaces.Http`), to a hostile server in place of whoever is asked."""

    def __init__(self, server: Server, inside: str = "") -> None:
        self._client = HttpClient(deadline=DEADLINE, inside=inside)
        self._port = urlsplit(server.url).port
        self.asked = 0
        self.largest = ANSWER_LIMIT
        """The largest answer that was asked for, in bytes."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connect_to: str = "",
        ca: str = "",
        limit: int = ANSWER_LIMIT,
    ) -> HttpResponse:
        """As `interfaces.Http.request`. Raises Failure."""
        del connect_to
        parts = urlsplit(url)
        self.asked += 1
        self.largest = max(self.largest, limit)
        there = parts._replace(netloc=f"{parts.hostname}:{self._port}").geturl()
        return await self._client.request(
            method, there, form=form, content=content, headers=headers, connect_to="127.0.0.1", ca=ca, limit=limit
        )


@dataclass
class Found:
    """What an answer cost, and what came of it."""

    seconds: float
    asked: int
    read: int
    """Bytes that the client took, of the requests together."""
    largest: int
    """The most that one of them took."""
    limit: int
    memory: int
    """Bytes, at its peak."""
    visits: int
    failure: Failure | None
    texts: list[str] = field(default_factory=list)
    """All that could be shown of the failure."""

    @property
    def kind(self) -> str:
        return "answered" if self.failure is None else type(self.failure).__name__


@contextlib.contextmanager
def counted():
    """The bytes that the client takes from its connections, one number each."""
    taken: dict[int, int] = {}
    real = http_transport._Stream.read

    async def read(self, max_bytes, timeout=None):
        reader, before = self._reader, taken.get(id(self), 0)
        seen = _Seen(reader)
        self._reader = seen
        try:
            return await real(self, max_bytes, timeout)
        finally:
            self._reader = reader
            taken[id(self)] = before + seen.octets
            kept.append(self)  # so that no other one gets its id

    kept: list[object] = []
    http_transport._Stream.read = read
    try:
        yield taken
    finally:
        http_transport._Stream.read = real


class _Seen:
    """A reader that counts what it hands over."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self.octets = 0

    async def read(self, most: int) -> bytes:
        data = await self._reader.read(most)
        self.octets += len(data)
        return data


async def measured(server: Server, ask: Callable[[Http], Awaitable[object]], inside: str = "") -> Found:
    """Let somebody ask, and look at what it cost. What is no Failure comes through."""
    wire = Wire(server, inside)
    failure: Failure | None = None
    with counted() as taken:
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        began = time.monotonic()
        try:
            await ask(wire)
        except Failure as told:
            failure = told
        seconds = time.monotonic() - began
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    found = Found(
        seconds=seconds,
        asked=wire.asked,
        read=sum(taken.values()),
        largest=max(taken.values(), default=0),
        limit=wire.largest,
        memory=peak - before,
        visits=server.visits,
        failure=failure,
    )
    link: BaseException | None = failure
    while link is not None:
        found.texts += [str(link), getattr(link, "hint", "")]
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    return found
