# ruff: noqa: ARG002 - the signatures are httpcore's
"""What touches httpx: imported by `vpnpf.io.http` at the first request, and by nobody else.

httpx's own socket code binds to a device only after it has connected, and its limits do not count headers, so
the socket is ours: it counts every byte that comes in, and connects as it was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import httpcore
import httpx

from vpnpf.interfaces import HttpResponse
from vpnpf.io.apart import SO_MARK, apart

_CHUNK = 16 * 1024


class TooLarge(Exception):
    """More bytes than an answer may have."""


class NotAsked(Exception):
    """The answer comes in a form that was not asked for."""


_MOST_HEADERS = 100


class Transport:
    """Fetches one answer at a time, each over a connection of its own."""

    broken: tuple[type[Exception], ...] = (
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
        httpx.InvalidURL,
        TooLarge,
        NotAsked,
    )
    """What is raised for an answer that is none; OSError for a connection that cannot be."""

    def __init__(
        self,
        *,
        tls: ssl.SSLContext,
        local_address: str | None,
        device: str,
        mark: int = 0,
        enter: Callable[[], None] | None = None,
    ) -> None:
        self._tls = tls
        self._way = _Way(local_address, device, mark, enter)

    async def fetch(
        self,
        method: str,
        url: str,
        form: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        content: bytes | None = None,
        *,
        connect_to: str = "",
        limit: int,
    ) -> HttpResponse:
        """The whole answer, of at most `limit` bytes; `connect_to` as in `interfaces.Http`. Raises OSError, or one of `broken`; the caller keeps the time."""
        ours = {"accept": "*/*", "accept-encoding": "identity", "connection": "close", "user-agent": "vpnpf"}
        # Without httpx's client, since it would look at redirects, cookies and the environment.
        request = httpx.Request(method, url, data=form, content=content, headers={**ours, **(headers or {})})
        backend = _Backend(limit, self._way, connect_to)
        async with httpcore.AsyncConnectionPool(ssl_context=self._tls, network_backend=backend) as pool:
            answer = await pool.handle_async_request(
                httpcore.Request(
                    request.method,
                    httpcore.URL(
                        scheme=request.url.raw_scheme,
                        host=request.url.raw_host,
                        port=request.url.port,
                        target=request.url.raw_path,
                    ),
                    headers=request.headers.raw,
                    content=request.stream,
                )
            )
            try:
                said = httpx.Headers(answer.headers)
                if len(said.raw) > _MOST_HEADERS:
                    raise TooLarge(f"it has {len(said.raw)} headers")
                if said.get("content-encoding", "identity") != "identity":
                    raise NotAsked("it is compressed")
                body = await answer.aread()  # may have no end; `_Stream` counts what is read
            finally:
                await answer.aclose()
        return HttpResponse(
            status=answer.status,
            headers={name.lower(): value for name, value in said.multi_items()},
            body=body,
            cookies=dict(_cookies(said.get_list("set-cookie"))),
        )


def _cookies(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Names and values of Set-Cookie headers (RFC 6265 section 5.2); their attributes are for browsers.

    What cannot be sent back in a header as it is, is passed over.
    """
    for line in lines:
        name, equals, value = (part.strip() for part in line.partition(";")[0].partition("="))
        if name and equals and all("!" <= character <= "~" for character in name + value):
            yield name, value


class _Way(NamedTuple):
    """By which way a connection goes; see `HttpClient`."""

    local_address: str | None
    device: str
    mark: int
    enter: Callable[[], None] | None

    async def socket(self, family: int) -> socket.socket:
        """A new one. Raises OSError."""
        kind = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
        # It stays in the network namespace that it was made in, whoever uses it.
        made = partial(socket.socket, family, kind)
        sock = await apart(made, self.enter, "opening a connection") if self.enter else made()
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.device:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self.device.encode() + b"\0")
            if self.mark:
                sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self.mark)
            if self.local_address:
                sock.bind((self.local_address, 0))
        except BaseException:
            sock.close()
            raise
        return sock


class _Backend(httpcore.AsyncNetworkBackend):
    """Connects as it was told, and hands out streams that count."""

    def __init__(self, limit: int, way: _Way, connect_to: str) -> None:
        self._limit = limit
        self._way = way
        self._connect_to = connect_to

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """The first of the host's addresses that takes a connection. Raises OSError of the last."""
        loop = asyncio.get_running_loop()
        problem: OSError | None = None
        for family, *_, address in await _resolve(self._connect_to or host, port, self._way.enter):
            try:
                sock = await self._way.socket(family)
            except OSError as error:
                problem = error
                continue
            try:
                await loop.sock_connect(sock, address)
            except OSError as error:
                sock.close()
                problem = error
            except BaseException:
                sock.close()
                raise
            else:
                reader, writer = await asyncio.open_connection(sock=sock, limit=_CHUNK)
                return _Stream(reader, writer, self._limit)
        raise problem or OSError(f"{host} has no address")


async def _resolve(
    host: str, port: int, enter: Callable[[], None] | None
) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):
            socket.inet_pton(family, host)
            return [(family, socket.SOCK_STREAM, 0, "", (host, port))]
    asked = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
    found = await (apart(asked, enter, f"looking up {host}") if enter else asyncio.to_thread(asked))
    return [(int(family), int(kind), number, name, address) for family, kind, number, name, address in found]


class _Stream(httpcore.AsyncNetworkStream):
    """One connection; reading more than the limit raises TooLarge."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = self._left = left

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        # One octet more than there may be tells that it is too large.
        data = await self._reader.read(min(max_bytes, _CHUNK, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise TooLarge(f"it is larger than {self._limit // 1024} KiB")
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._writer.write(buffer)
        await self._writer.drain()

    async def aclose(self) -> None:
        # Nothing is worth waiting for any more: a polite end could be kept open by the other side.
        self._writer.transport.abort()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        await self._writer.start_tls(ssl_context, server_hostname=server_hostname)
        return self

    def get_extra_info(self, info: str) -> object:
        return None
