"""uvicorn, as the control socket needs it: h11 alone, no signals, no ticking, no log. Imported late: it takes a while."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server

from vpnpf.control import app
from vpnpf.control.app import App
from vpnpf.control.messages import refusal
from vpnpf.control.peers import Peer, Role, peer_of
from vpnpf.errors import Transient, UsageError, VpnpfError

CONNECTIONS = 192
"""At a time, whatever comes in on them."""
HEAD = 16384
"""Bytes of a request's line and headers."""
_ENDING = 0.5
"""Seconds that answers and streams have when it ends."""


def server_of(application: App, group: int | None) -> ControlHttp:
    """A server for a socket that listens."""

    def made(*arguments: Any, **named: Any) -> Connection:  # noqa: ANN401 - uvicorn's
        return Connection(group, *arguments, **named)

    config = Config(
        application,
        http="h11",
        ws="none",
        loop="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        log_level="critical",
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        workers=1,
        backlog=128,
        h11_max_incomplete_event_size=HEAD,
    )
    config.load()
    config.http_protocol_class = made  # type: ignore[assignment]  # what makes one is all that is asked of it
    return ControlHttp(config)


class ControlHttp(Server):
    """Serves until it is cancelled; `end` is for afterwards."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the run's."""
        yield

    async def main_loop(self) -> None:
        """Waits; the original looks ten times a second whether it is to end, and what time it is."""
        await asyncio.Event().wait()

    async def end(self) -> None:
        """No connection from now on; what is being sent has half a second."""
        for each in getattr(self, "servers", ()):
            each.close()
        tasks = set(self.server_state.tasks)
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING)
        for connection in list(self.server_state.connections):
            transport = connection.transport
            if transport.is_closing() and not transport.get_write_buffer_size():
                continue
            transport.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class Connection(H11Protocol):
    """One connection, with one request: whose it is, and how long it may take."""

    def __init__(self, group: int | None, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's
        super().__init__(*arguments, **named)
        self._group = group
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Ask the kernel who it is; one too many is told so."""
        super().connection_made(transport)
        connection: socket.socket = transport.get_extra_info("socket")
        try:
            peer = peer_of(connection, self._group)
        except OSError:
            peer = Peer(-1, Role.STRANGER)
        self.app_state = {"peer": peer, "began": self.loop.time(), "abort": transport.abort}
        self._late = self.loop.call_later(app.PATIENCE, self._too_late)
        if len(self.connections) > app.room(CONNECTIONS, peer):
            self._refuse(503, Transient(app.DOING, "too many others are connected", "ask again"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        self._unset()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """More of the request; what comes after it is not looked at."""
        if self.transport.is_closing():
            return
        try:
            super().data_received(data)
        except h11.ProtocolError:
            self.transport.abort()
            return
        if self.cycle is not None:
            self._unset()  # the application has its own deadlines from here

    def on_response_complete(self) -> None:
        """The answer is on its way; who does not take it is cut off."""
        super().on_response_complete()
        self._unset_keepalive_if_required()
        self._unset()
        self._late = self.loop.call_later(app.PATIENCE, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        """What h11 does not take: no HTTP, headers without an end, and all the tricks with lengths."""
        del msg
        cause = "it is not one, or its headers are too long"
        self._refuse(400, UsageError(app.READING, cause, "use the vpnpf of the same version"))

    def _too_late(self) -> None:
        refused = app.late()
        self._refuse(int(refused.status), refused.error)

    def _refuse(self, status: int, error: VpnpfError) -> None:
        """Answer without the application, if that is still possible, and close."""
        body = refusal(error)
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), ("connection", "close")]
        if self.cycle is None and self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            response = h11.Response(status_code=status, headers=headers)
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
            self._unset()
            self._late = self.loop.call_later(app.PATIENCE, self.transport.abort)
            self.transport.close()
        else:
            self.transport.abort()

    def _unset(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None
