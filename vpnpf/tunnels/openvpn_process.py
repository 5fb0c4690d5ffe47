"""The program `openvpn`: started so that nobody else can speak to it, and ended for certain.

It connects to a management socket of ours that has no name any more when it does, and ends when that is closed. So it
does not outlive us, unlike wireguard-go: nobody would answer it. What hangs all the same is known by a file with its
number and the moment when it began, and ended by the next `up` or `down`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
from asyncio import StreamReader, StreamWriter
from pathlib import Path

from vpnpf.errors import Transient
from vpnpf.far_end import credentials
from vpnpf.interfaces import Outside
from vpnpf.io import process
from vpnpf.model import TunnelPlan
from vpnpf.tunnels import outside, prerequisites
from vpnpf.tunnels.ending import end, start_of
from vpnpf.tunnels.openvpn_arguments import arguments
from vpnpf.tunnels.whole import in_thread

_START, _END = 5.0, 3.0
"""Seconds that openvpn has to speak to us, and to end by itself before it is killed."""
_TAIL = 4096
"""Bytes of what it said last that are kept."""
PROGRAM = "openvpn"
DOING = f"starting {PROGRAM}"

Connection = tuple[StreamReader, StreamWriter]


class OpenVpn:
    """One run of it."""

    def __init__(self, child: process.Child) -> None:
        self._child = child
        self._tail = b""
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._child.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended."""
        return self._child.returncode is not None

    async def why(self) -> str:
        """What it said last, once it has ended."""
        await self._child.wait()
        await asyncio.wait([self._reader])
        lines = [shown for line in self._tail.decode(errors="replace").splitlines() if (shown := _printable(line))]
        told = [line for line in lines if "rror" in line] or lines
        return " / ".join(told)[-300:] or f"it said nothing, status {self._child.returncode}"

    async def stop(self) -> None:
        """End it and wait for that, but not for one that the kernel does not let go."""
        if not self.ended:
            await in_thread(end, self._child.pid, _END)
        ending = asyncio.create_task(self._child.wait())
        await asyncio.wait([ending, self._reader], timeout=_END)
        ending.cancel()
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._child.close()

    async def _read(self) -> None:
        while data := await self._child.read():
            self._tail = (self._tail + data)[-_TAIL:]


class Launcher:
    """Starts it, and finds what a killed run of ours left."""

    def __init__(self, runtime: Path, there: Outside | None = None) -> None:
        self._runtime = runtime
        """A directory that only we can enter."""
        self._note = runtime / "openvpn.pid"
        self._outside = there
        """Where it runs, if that is not here."""

    async def start(self, plan: TunnelPlan, config: str, told: frozenset[str]) -> tuple[OpenVpn, Connection]:
        """Start it with a file's text, with options `told`; returns it and the connection to its management.

        Raises Transient, Unavailable; then nothing of it is left.
        """
        with contextlib.ExitStack() as stack:
            listener, name = await in_thread(self._listen)
            stack.callback(os.close, name)
            stack.enter_context(listener)
            text = os.memfd_create("openvpn", os.MFD_CLOEXEC)
            stack.callback(os.close, text)
            await in_thread(_fill, text, config)
            management = f"/proc/self/fd/{name}"
            bounded = await in_thread(prerequisites.may_bound)
            argv = arguments(process.find(PROGRAM), plan, management, bounded=bounded, told=told)
            if self._outside is not None:
                argv = (*outside.at(self._outside, argv[0]), *argv[1:])
            child = await process.spawn(argv, stdin=text, output=subprocess.PIPE, keep=(name,))
            program = OpenVpn(child)
            try:
                await in_thread(self._remember, child.pid)
                connection = await _accept(listener, program)
            except BaseException:
                await program.stop()
                raise
        return program, connection

    async def end_leftover(self) -> None:
        """End the one that a run of ours left which was killed. Nothing happens if there is none."""
        await in_thread(self._end_leftover)

    def _listen(self) -> tuple[socket.socket, int]:
        """A listening socket, and a descriptor to connect to it by: its name is gone at once."""
        self._runtime.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(self._runtime, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        try:
            # By descriptor, since the kernel takes no path of more than 107 bytes.
            name = f"/proc/self/fd/{directory}/management-{secrets.token_hex(8)}"
            listener.bind(name)
            try:
                listener.listen(1)
                return listener, os.open(name, os.O_PATH | os.O_CLOEXEC)
            finally:
                os.unlink(name)  # noqa: PTH108 - a path through a descriptor
        except OSError as error:
            listener.close()
            raise Transient(DOING, f"no socket in {self._runtime}: {error.strerror}") from error
        finally:
            os.close(directory)

    def _remember(self, pid: int) -> None:
        with contextlib.suppress(OSError):  # it ends with us anyway
            self._note.write_text(f"{pid} {start_of(pid)}\n")

    def _end_leftover(self) -> None:
        try:
            pid, started = map(int, self._note.read_text().split())
        except (OSError, ValueError):
            return
        end(pid, _END, started=started)
        self._note.unlink(missing_ok=True)


def _printable(line: str) -> str:
    return "".join(character if character.isprintable() else " " for character in line).strip()


def _fill(descriptor: int, text: str) -> None:
    with os.fdopen(os.dup(descriptor), "w") as file:
        file.write(text)
    os.lseek(descriptor, 0, os.SEEK_SET)


async def _accept(listener: socket.socket, program: OpenVpn) -> Connection:
    """Its connection; nobody else's is taken. Raises Transient."""
    loop = asyncio.get_running_loop()
    accepting = asyncio.create_task(loop.sock_accept(listener))
    ending = asyncio.create_task(program.why())
    try:
        async with asyncio.timeout(_START):
            await asyncio.wait({accepting, ending}, return_when=asyncio.FIRST_COMPLETED)
        if not accepting.done():
            raise Transient(DOING, f"it ended: {await ending}", "is it version 2.5 or newer?")
        connection = accepting.result()[0]
    except TimeoutError:
        raise Transient(DOING, f"it does not speak to us within {_START:g} s") from None
    finally:
        for task in (accepting, ending):
            task.cancel()
    if credentials(connection).process != program.pid:
        connection.close()
        raise Transient(DOING, "another process spoke to us")
    return await asyncio.open_unix_connection(sock=connection)
