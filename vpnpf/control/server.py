"""The control socket's far side: tasks beside the engine that can neither delay it nor bring it down.

Who may ask is told by the kernel; see `control.peers`.
"""

from __future__ import annotations

import asyncio
import contextlib
import grp
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vpnpf.control.app import App
from vpnpf.control.place import name_of, short
from vpnpf.control.routes import Routes

if TYPE_CHECKING:
    from vpnpf.control.http import ControlHttp

Say = Callable[[str], None]

_WAITING = 128
"""Connections that the kernel keeps for us."""


class ControlServer:
    """Serves routes on a profile's socket, which it removes at its end."""

    def __init__(self, directory: Path, profile: str, routes: Routes, say: Say, group: str = "") -> None:
        """`group`: the one that may watch; "": none."""
        self._directory = directory
        self._name = name_of(profile)
        self._app = App(routes)
        self._say = say
        self._wanted = group
        self.http: ControlHttp | None = None
        """While it serves, from the first connection on."""

    async def serve(self) -> None:
        """Answer until cancelled. That it cannot, is said; the engine goes on without."""
        group = self._group()
        try:
            listening = self._listen(group)
        except OSError as error:
            self._say(f"problem: no control socket, no other command can reach this run: {error.strerror or error}")
            return
        try:
            await _somebody(listening)
            # In a thread, so that nothing is held up; who connects meanwhile waits in the kernel.
            made = await asyncio.to_thread(_load)
            self.http = made(self._app, group)
            await self.http.serve(sockets=[listening])
        finally:
            with contextlib.suppress(OSError):
                (self._directory / self._name).unlink()
            if self.http is not None:
                await self.http.end()
            listening.close()

    def _group(self) -> int | None:
        if not self._wanted:
            return None
        try:
            return grp.getgrnam(self._wanted).gr_gid
        except KeyError:
            self._say(f"problem: there is no group {self._wanted}: only the owner can watch")
            return None

    def _listen(self, group: int | None) -> socket.socket:
        """A listening socket that only its owner, and the group, can connect to; one that a killed run left is replaced."""
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            # The mode of the socket is that of its file (unix(7)), and so never wider, not for a moment.
            os.fchmod(listening.fileno(), 0o600)
            with short(self._directory) as directory:
                path = Path(directory, self._name)
                with contextlib.suppress(FileNotFoundError):
                    if not stat.S_ISSOCK(path.lstat().st_mode):
                        raise OSError(f"{self._directory / self._name} is there and is no socket: remove it")
                    path.unlink()
                listening.bind(str(path))
                if group is not None:
                    self._open_to(group, path)
            listening.listen(_WAITING)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
        return listening

    def _open_to(self, group: int, path: Path) -> None:
        """Let the group in: through the directory, without seeing what else is there, and to the socket."""
        try:
            for each, mode in ((path, 0o660), (self._directory, 0o710)):
                os.chown(each, -1, group, follow_symlinks=False)
                each.chmod(mode)
        except OSError as error:
            why = error.strerror or str(error)
            self._say(f"problem: the group {self._wanted} cannot watch: {why}; is the user of vpnpf a member of it?")


async def _somebody(listening: socket.socket) -> None:
    """Wait until somebody connects: a run that nobody asks anything never loads the HTTP server."""
    loop, came = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listening, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(listening)


def _load() -> Callable[[App, int | None], ControlHttp]:
    from vpnpf.control.http import server_of  # noqa: PLC0415 - 30 ms and 2 MB that a start need not pay for

    return server_of
