"""A small HTTPS service inside a namespace, with faults to order, that remembers what it was asked.

service = Https(host, ("10.2.0.1",), 19999, {"amsterdam401": context}, answer)
async with service:
    service.fail_next(Fault.SLOW)                       # one request, then all is well
    service.fail_next(Answer(409, {...}), path="/bindPort")
    service.fail_always(Fault.HTML)                     # until heal()
    service.present(other_context)                      # this certificate, whatever name was asked for
    await service.close()                               # connections are refused, until open()
    await service.until(lambda: service.asked)

One request a connection (RFC 9112).
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email import message_from_bytes
from enum import StrEnum
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from mock_provider.host import Host

LONGEST = 256 * 1024
"""Bytes of a request."""
PATIENCE = 5.0
"""Seconds that a request may take to come in."""
GOODBYE = 0.5
"""Seconds for the end of TLS."""
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"


class Fault(StrEnum):
    """What can go wrong with any answer."""

    HTML = "502 with a page"
    SLOW = "no answer ever"
    CUT_OFF = "half an answer"
    REDIRECT = "302 to a host on the internet"
    RUBBISH = "200 with half of a JSON text"
    HUGE = "an answer of megabytes"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came in."""

    method: str
    path: str
    query: Mapping[str, str]
    """Decoded once; of a repeated name the last."""
    client: str
    """The address that it came from."""
    server: str
    """The address that it came to."""
    host: str
    """As the request says, without the port."""
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)
    at: float = field(default_factory=time.monotonic)
    """On time.monotonic()."""

    @property
    def form(self) -> Mapping[str, str]:
        """The body's fields: urlencoded, multipart (RFC 7578) or JSON; empty if it is none of them."""
        kind = self.headers.get("content-type", "")
        if kind.startswith("multipart/form-data"):
            whole = message_from_bytes(b"Content-Type: " + kind.encode("latin-1") + b"\r\n\r\n" + self.body)
            parts = whole.get_payload()
            assert isinstance(parts, list)
            return {
                str(part.get_param("name", header="content-disposition")): bytes(part.get_payload(decode=True)).decode()  # type: ignore[union-attr] # a part of a form is a message
                for part in parts
            }
        if "json" in kind:
            try:
                read = json.loads(self.body)
            except ValueError:
                return {}
            return {str(name): str(value) for name, value in read.items()} if isinstance(read, dict) else {}
        return dict(parse_qsl(self.body.decode("latin-1"), keep_blank_values=True))

    @property
    def basic(self) -> tuple[str, str]:
        """User name and password (RFC 7617); empty without them."""
        scheme, _, rest = self.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return "", ""
        with contextlib.suppress(ValueError):
            username, _, password = base64.b64decode(rest, validate=True).decode().partition(":")
            return username, password
        return "", ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: int = 200
    body: object = field(default_factory=dict)
    """Bytes and text go out as they are, anything else as JSON."""
    headers: Mapping[str, str] = field(default_factory=dict)

    def __bytes__(self) -> bytes:
        body = self.body
        if isinstance(body, str):
            body = body.encode()
        kind = "text/plain" if isinstance(body, bytes) else "application/json"
        if not isinstance(body, bytes):
            body = json.dumps(body).encode()
        headers = {"Content-Type": kind, **self.headers, "Content-Length": str(len(body)), "Connection": "close"}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"HTTP/1.1 {self.status} X\r\n{head}\r\n".encode() + body


Trouble = Fault | Answer
"""What is answered in place of the truth."""


class Https:
    """The service; an async context manager. Its certificates' contexts are its own: what it presents hangs on them."""

    def __init__(
        self,
        host: Host,
        addresses: Sequence[str],
        port: int,
        names: Mapping[str, ssl.SSLContext],
        answer: Callable[[Asked], Awaitable[Answer]],
    ) -> None:
        self._host = host
        self.addresses = tuple(addresses)
        self.port = port
        self._names = names
        """Certificates by the name that a client asks for; the first for whoever asks for none of them."""
        self._answer = answer
        self.asked: list[Asked] = []
        """Every request, in order."""
        self.on_request: Callable[[Asked], None] = lambda _asked: None
        """Called with each request."""
        self.greeted = 0
        """How many began TLS, whether they liked the certificate or not."""
        self._presented: ssl.SSLContext | None = None
        self._next: list[tuple[str, Trouble]] = []
        self._always: list[tuple[str, Trouble]] = []
        self._changed = asyncio.Event()
        self._talks: set[asyncio.Task[None]] = set()
        self._servers: list[asyncio.Server] = []

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self) -> None:
        """Listen; nothing happens if it does."""
        if self._servers:
            return
        first = next(iter(self._names.values()))
        first.sni_callback = self._choose
        for address in self.addresses:
            listening = self._host.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listening.bind((address, self.port))
                self._servers.append(await asyncio.start_server(self._accept, sock=listening, ssl=first))
            except BaseException:
                listening.close()
                raise

    async def close(self) -> None:
        """Refuse connections from now on, and end those that are."""
        servers, self._servers = self._servers, []
        for server in servers:
            server.close()
        for task in self._talks:
            task.cancel()
        await asyncio.gather(*self._talks, return_exceptions=True)
        await asyncio.gather(*(server.wait_closed() for server in servers))
        await asyncio.sleep(0)  # what was aborted is closed in the loop's next round

    def present(self, context: ssl.SSLContext | None) -> None:
        """Show this certificate to everybody; None: the right ones again."""
        self._presented = context

    def fail_next(self, *troubles: Trouble, path: str = "") -> None:
        """Answer the next requests with these, one each; only those whose path ends with `path`."""
        self._next += [(path, each) for each in troubles]

    def fail_always(self, trouble: Trouble, *, path: str = "") -> None:
        """Answer every request with this, until `heal`."""
        self._always.append((path, trouble))

    def heal(self) -> None:
        """No more faults, and the right certificates."""
        self._next, self._always, self._presented = [], [], None

    async def until(self, condition: Callable[[], object], deadline: float = 10.0) -> None:
        """Wait until something holds after a request. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def paths(self, end: str = "") -> list[Asked]:
        """The requests for a path that ends so."""
        return [each for each in self.asked if each.path.endswith(end)]

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, _first: ssl.SSLContext) -> None:
        self.greeted += 1
        self._changed.set()
        if chosen := self._presented or self._names.get(name or ""):
            connection.context = chosen

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._talk(reader, writer)
            writer.close()
            # Somebody whose tunnel is gone never says goodbye.
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(GOODBYE):
                    await writer.wait_closed()
        finally:
            self._talks.discard(task)
            writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            headers = _headers(head)
            length = headers.get("content-length", "0")
            body = await reader.readexactly(min(LONGEST, int(length) if length.isdigit() else 0))
        method, target, *_ = (*head.partition("\r\n")[0].split(" "), "", "")
        parts = urlsplit(target)
        asked = Asked(
            method,
            parts.path,
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            writer.get_extra_info("peername")[0],
            writer.get_extra_info("sockname")[0],
            headers.get("host", "").partition(":")[0],
            headers,
            body,
        )
        self.asked.append(asked)
        self.on_request(asked)
        trouble = self._trouble(asked.path)
        if isinstance(trouble, Answer):
            said = trouble
        elif trouble in {None, Fault.CUT_OFF}:
            said = await self._answer(asked)
        else:
            said = _spoilt(trouble)
        self._changed.set()
        if trouble is Fault.SLOW:
            await reader.read()  # until the other side gives up
            return
        data = bytes(said)
        if trouble is Fault.CUT_OFF:
            data = data[: (data.index(b"\r\n\r\n") + len(data)) // 2]
        writer.write(data)
        await writer.drain()

    def _trouble(self, path: str) -> Trouble | None:
        for index, (end, trouble) in enumerate(self._next):
            if path.endswith(end):
                del self._next[index]
                return trouble
        return next((trouble for end, trouble in self._always if path.endswith(end)), None)


def _spoilt(fault: Fault | None) -> Answer:
    match fault:
        case Fault.REDIRECT:
            return Answer(302, b"", {"Location": "https://203.0.113.80/elsewhere"})
        case Fault.RUBBISH:
            return Answer(200, b'{"status": "OK", "payload": ')
        case Fault.HUGE:
            return Answer(200, b'{"status": "OK", "regions": [' + b" " * (32 << 20))
        case _:
            return Answer(502, PAGE, {"Content-Type": "text/html"})


def _headers(head: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in head.split("\r\n")[1:] if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}
