"""What every torrent client's driver says of servers that are something else."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import ClassVar

import pytest

from tests.contract.client_world import DEVICE, PORT, SECRET, text_of
from vpnpf.api import ClientOptions, Failure, ListenSettings, TorrentClient, Transient
from vpnpf.io.http import HttpClient

ANSWERS = {
    "nothing there": (404, "text/plain", b"Not Found"),
    "a web page": (200, "text/html", b"<!doctype html><title>\x1b[2JRouter</title>"),
    "an empty answer": (200, "text/plain", b""),
    "a list": (200, "application/json", b"[]"),
    "null": (200, "application/json", b"null"),
    "an empty object": (200, "application/json", b"{}"),
    "bytes": (200, "application/octet-stream", bytes(range(256))),
    "nested lists": (200, "application/json", b"[" * 60000),
    "a huge number": (200, "application/json", b"9" * 60000),
    "a huge body": (200, "text/plain", b"x" * 1_000_000),
    "a redirect": (302, "text/plain", b""),
    "an error": (500, "text/plain", b"oops"),
    "another login": (401, "text/plain", b""),
    "forbidden": (403, "text/plain", b""),
}


class StrangerSuite:
    """Against servers that are something else."""

    driver: ClassVar[type[TorrentClient]]

    @pytest.mark.parametrize("kind", ANSWERS)
    async def test_what_is_not_the_api_is_said(self, kind):
        status, content, body = ANSWERS[kind]

        async def answer(method, path, headers, sent):
            return status, {"content-type": content, "location": "file:///etc/passwd"}, body

        async with fake(answer) as url:
            client = self.driver(HttpClient(), ClientOptions(url, "admin", lambda: SECRET))
            device = DEVICE if self.driver.manifest.sets_device else ""
            for call in (client.probe, client.get_listen, lambda: client.set_listen(ListenSettings(PORT, device))):
                with pytest.raises(Failure) as caught:
                    await call()
                assert text_of(caught.value).isprintable()
                assert SECRET not in text_of(caught.value)
                assert caught.value.hint or isinstance(caught.value, Transient)


Answer = tuple[int, dict[str, str], bytes]


@contextlib.asynccontextmanager
async def fake(answer: Callable[[str, str, dict[str, str], bytes], Awaitable[Answer]]):
    """An HTTP server on loopback that answers by a function of (method, path, headers, body); yields its URL."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            method, path, _ = first.split(" ")
            status, said, content = await answer(method, path, headers, body)
            head = "".join(f"{name}: {value}\r\n" for name, value in said.items())
            length = "" if status == 204 else f"content-length: {len(content)}\r\n"
            writer.write(f"HTTP/1.1 {status} said\r\n{length}{head}\r\n".encode() + content)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
