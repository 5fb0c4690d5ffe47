"""The control socket's far side: a task beside the engine that it can neither delay nor bring down.

Who may ask is told by the kernel (SO_PEERCRED, unix(7)): root, and the user that vpnpf runs as. Each connection has one
request and one answer, a deadline for each, and there are so many connections and no more.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import struct
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from vpnpf.control.messages import LARGEST, Json, parse_request, refusal, result
from vpnpf.control.place import name_of, short
from vpnpf.errors import PermissionDenied, Transient, UsageError, VpnpfError

Verb = Callable[[Json], Awaitable[Mapping[str, object]]]
Say = Callable[[str], None]

MOST = 8
"""Connections at a time."""
PATIENCE = 5.0
"""Seconds for a whole request to come, and for an answer to be taken."""
LONGEST = 20.0
"""Seconds that an answer may take to be found."""
_DOING = "asking vpnpf"
_CREDENTIALS = struct.Struct("3i")


class ControlServer:
    """Serves the verbs on a profile's socket; a context manager that removes the socket at its end."""

    def __init__(self, directory: Path, profile: str, verbs: Mapping[str, Verb], say: Say) -> None:
        self._directory = directory
        self._name = name_of(profile)
        self._verbs = verbs
        self._say = say
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        """Answer until cancelled. That it cannot, is said; the engine goes on without."""
        try:
            listening = self._listen()
        except OSError as error:
            self._say(f"problem: no control socket, `vpnpf policy` cannot reach this run: {error.strerror or error}")
            return
        try:
            server = await asyncio.start_unix_server(self._begin, sock=listening, limit=LARGEST)
            async with server:
                await server.serve_forever()
        finally:
            for task in self._answering:
                task.cancel()
            listening.close()
            with contextlib.suppress(OSError):
                (self._directory / self._name).unlink()

    def _listen(self) -> socket.socket:
        """A listening socket that only its owner can connect to; one that a killed run left is replaced."""
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
            listening.listen(MOST)
            listening.setblocking(False)
        except BaseException:
            listening.close()
            raise
        return listening

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """A task of our own for a connection, so that it ends when we do."""
        task = asyncio.create_task(self._answer_one(reader, writer), name="control")
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, whatever comes in on it."""
        try:
            answer = await self._answer(reader, writer)
            if answer:
                writer.write(answer)
                async with asyncio.timeout(PATIENCE):
                    await writer.drain()
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            pass  # who asked has gone, or does not read
        finally:
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        try:
            _allow(writer)
            if len(self._answering) > MOST:
                raise Transient(_DOING, f"{MOST} others are asking at this moment", "ask again")
            line = await _read(reader)
            return result(await self._carry_out(line)) if line else b""
        except VpnpfError as error:
            return refusal(error)
        except Exception as error:  # noqa: BLE001 - a mistake of ours is told to who asked, and ends nothing
            return refusal(VpnpfError(_DOING, f"vpnpf made a mistake: {error!r}", "please report it"))

    async def _carry_out(self, line: bytes) -> Mapping[str, object]:
        asked = parse_request(line)
        verb = self._verbs.get(asked.verb)
        if verb is None:
            hint = "use the vpnpf that runs, or restart it"
            raise UsageError(_DOING, f'it does not know "{asked.verb[:40]}"', hint)
        try:
            async with asyncio.timeout(LONGEST):
                return await verb(asked.arguments)
        except TimeoutError:
            raise Transient(_DOING, f"no answer within {LONGEST:g} s", "look at `vpnpf status`") from None


async def _read(reader: asyncio.StreamReader) -> bytes:
    """The line that was sent; empty if none was."""
    try:
        async with asyncio.timeout(PATIENCE):
            line = await reader.readuntil(b"\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return b""
        raise UsageError("reading a request", "it ends without a line's end") from error
    except asyncio.LimitOverrunError as error:
        raise UsageError("reading a request", f"it is longer than {LARGEST} bytes") from error
    except TimeoutError:
        raise UsageError("reading a request", f"not there within {PATIENCE:g} s") from None
    return line


def _allow(writer: asyncio.StreamWriter) -> None:
    """Raises PermissionDenied for another user."""
    peer: socket.socket = writer.get_extra_info("socket")
    _, user, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    if user not in {0, os.geteuid()}:
        raise PermissionDenied(_DOING, f"the user {user} may not", "do it as root, or as the user that runs vpnpf")
