"""Transmission's port check: a service on the internet that knocks on the port of whoever asks it.

    async with PortCheck(lab.internet, directory, peer) as check:
        Transmission(..., authority=check.certificate)
        check.knocks = False    # says "closed" without a try

`GET https://portcheck.transmissionbt.com/PORT` is answered by "1" or "0", as the daemon of 3.00 and later reads it. In the
lab every name that nobody else has is the host on the internet.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_provider.host import Host
from mock_provider.peer import Peer
from mock_provider.topology import INTERNET
from vpnpf.io import process

NAME = "portcheck.transmissionbt.com"


class PortCheck:
    """The service; an async context manager."""

    def __init__(self, host: Host, directory: Path, peer: Peer) -> None:
        self.certificate = directory / "port-check.pem"
        """Whom to trust."""
        self.knocks = True
        self.asked: list[tuple[str, int]] = []
        """Who asked, and for which port."""
        self._key = directory / "port-check.key"
        self._host = host
        self._peer = peer

    async def __aenter__(self) -> Self:
        words = f"req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN={NAME}"
        files = ("-addext", f"subjectAltName=DNS:{NAME}", "-keyout", str(self._key), "-out", str(self.certificate))
        await process.must(("openssl", *words.split(), *files), doing="making a certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self._key)
        listener = self._host.socket()
        try:
            listener.bind((INTERNET, 443))
            self._server = await asyncio.start_server(self._serve, sock=listener, ssl=context)
        except BaseException:
            listener.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            path = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1]
            source, port = writer.get_extra_info("peername")[0], int(path.strip("/"))
            self.asked.append((source, port))
            found = self.knocks and (await self._peer.connect_tcp(source, port)).connected
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nConnection: close\r\n\r\n%d" % found)
            await writer.drain()
        writer.close()
