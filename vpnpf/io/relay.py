"""A TCP port outside that leads to the same port in the tunnel's network namespace, for a web interface in there.

One way only: what connects outside is carried inside; a program inside gets nowhere by it. Inside, all of it comes from
127.0.0.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import threading
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from vpnpf.errors import Unavailable
from vpnpf.model import Endpoint

INSIDE = "127.0.0.1"
MOST = 256
"""Connections at a time; further ones are closed at once."""
_CHUNK = 65536


class Relay:
    """One published port; a context manager that holds the socket outside.

    `enter` puts a thread outside; `inside` is the port there, if it is another.
    """

    def __init__(self, place: Endpoint, enter: Callable[[], None], inside: int | None = None) -> None:
        self.place = place
        self._enter = enter
        self._inside = inside or place.port
        self._socket: socket.socket | None = None
        self._open = 0

    def __enter__(self) -> Self:
        """Listen outside. Raises Unavailable."""
        opened: list[socket.socket | OSError] = []

        def listen() -> None:
            try:
                self._enter()
                opened.append(_listening(self.place))
            except OSError as error:
                opened.append(error)

        thread = threading.Thread(target=listen, name=f"publishing {self.place}")
        thread.start()
        thread.join()
        found = opened[0]
        if isinstance(found, OSError):
            taken = found.errno == errno.EADDRINUSE
            hint = "end what listens there, or publish another" if taken else "is it an address of this machine?"
            raise Unavailable(f"publishing {self.place}", found.strerror or str(found), hint) from found
        self._socket = found
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._socket is not None:
            self._socket.close()

    async def serve(self) -> None:
        """Carry connections until cancelled. Raises OSError."""
        assert self._socket is not None
        server = await asyncio.start_server(self._carry, sock=self._socket)
        try:
            # Not `serve_forever`, which waits at its end until nobody is connected any more.
            await asyncio.get_running_loop().create_future()
        finally:
            server.close()

    async def _carry(self, reader: StreamReader, writer: StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > MOST:
                return
            with contextlib.suppress(OSError):  # nothing listens inside, or one of the two went away
                theirs, ours = await asyncio.open_connection(INSIDE, self._inside)
                try:
                    await asyncio.gather(_copy(reader, ours), _copy(theirs, writer))
                finally:
                    ours.close()
        finally:
            self._open -= 1
            writer.close()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    """All of one direction, its end included."""
    while data := await reader.read(_CHUNK):
        writer.write(data)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


def _listening(place: Endpoint) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if ":" in place.address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setblocking(False)
        made.bind((place.address, place.port))
        made.listen(64)
    except BaseException:
        made.close()
        raise
    return made
