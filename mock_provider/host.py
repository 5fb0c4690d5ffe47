"""One network namespace as a host: programs run in it, and its sockets are opened from this process."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import os
import select
import signal
import socket
import struct
import subprocess
import time
from asyncio.subprocess import Process
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from vpnpf.io import process

ETC = Path("/etc/netns")

CLONE_NEWNET = 0x40000000
SIOCGIFFLAGS, SIOCSIFFLAGS = 0x8913, 0x8914
IFF_RUNNING = 0x40
PATIENCE = 1.0
"""Seconds that a process has between SIGTERM and SIGKILL."""

_libc = ctypes.CDLL(None, use_errno=True)


class Host:
    """A network namespace: run programs in it, or open its sockets from this process."""

    def __init__(self, role: str, name: str) -> None:
        self.role = role
        self.name = name
        """The name that `ip netns` knows."""
        self.etc = ETC / name
        """Files that `ip netns exec` lays over those of /etc."""
        self._children: list[Process] = []

    @property
    def path(self) -> Path:
        """The namespace as a file, for setns."""
        return Path("/run/netns", self.name)

    @property
    def resolver(self) -> Path:
        """The file that programs in this namespace see as /etc/resolv.conf."""
        return self.etc / "resolv.conf"

    @contextlib.contextmanager
    def inside(self) -> Iterator[None]:
        """Put the calling thread into the namespace. The body must not await: it is the thread that moves."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            there = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                _enter(there)
                try:
                    yield
                finally:
                    _enter(home)
            finally:
                os.close(there)
        finally:
            os.close(home)

    def socket(self, family: int = socket.AF_INET, type: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:  # noqa: A002 - as socket.socket names it
        """A non-blocking socket of this namespace; it stays there. Raises OSError. The caller closes it."""
        with self.inside():
            made = socket.socket(family, type, proto)
        made.setblocking(False)
        return made

    def sysctl(self, name: str, value: str | int) -> None:
        """Set "net.ipv4.ip_forward" or the like for this namespace alone."""
        with self.inside():
            Path("/proc/sys", *name.split(".")).write_text(str(value))

    def running(self, interface: str) -> bool:
        """Whether a device is up, has carrier and its queue is at work."""
        with self.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            request = struct.pack("16sH14x", interface.encode(), 0)
            answer = fcntl.ioctl(control, SIOCGIFFLAGS, request)
            if not struct.unpack_from("16sH", answer)[1] & IFF_RUNNING:
                return False
            # Setting the flags to what they are waits for the kernel's lock: what began with RUNNING is done then.
            fcntl.ioctl(control, SIOCSIFFLAGS, answer)
        return True

    async def run(
        self, argv: Sequence[str], *, stdin: str = "", deadline: float = 10.0, env: Mapping[str, str] | None = None
    ) -> process.Completed:
        """Run a program here to its end; see `vpnpf.io.process.run`. `env` is added to the cleared environment."""
        return await process.run(self._argv(argv, env), stdin=stdin, deadline=deadline)

    async def must(self, argv: Sequence[str], *, stdin: str = "", deadline: float = 10.0) -> str:
        """As `run`, but a status other than 0 raises Transient; returns standard output."""
        doing = f"running {argv[0]} in {self.name}"
        return await process.must(self._argv(argv, None), doing=doing, stdin=stdin, deadline=deadline)

    async def popen(
        self,
        argv: Sequence[str],
        *,
        stdin: int | IO[bytes] | None = subprocess.DEVNULL,
        stdout: int | IO[bytes] | None = subprocess.PIPE,
        stderr: int | IO[bytes] | None = subprocess.PIPE,
        env: Mapping[str, str] | None = None,
        cwd: str | Path = "/",
    ) -> Process:
        """Start a program here. Its pid is the program's own; whoever starts it ends it, else the Lab does."""
        whole = self._argv(argv, env)
        child = await asyncio.create_subprocess_exec(
            process.find(whole[0]),
            *whole[1:],
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            env=process.ENVIRONMENT,
            cwd=cwd,
        )
        self._children.append(child)
        return child

    async def let_go(self) -> None:
        """Take notice that the programs started here have ended, and close their pipes, also those that nobody read."""
        children, self._children = self._children, []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*(child.wait() for child in children))
        for child in children:
            child._transport.close()  # type: ignore[attr-defined] # noqa: SLF001 - asyncio has no other way
        await asyncio.sleep(0)  # in which the pipes are closed

    @property
    def processes(self) -> tuple[int, ...]:
        """Ids of the processes that live here now, ours left out."""
        return processes_in([self])

    def _argv(self, argv: Sequence[str], env: Mapping[str, str] | None) -> tuple[str, ...]:
        extra = ("env", *(f"{key}={value}" for key, value in env.items())) if env else ()
        enter: tuple[str, ...] = ("ip", "netns", "exec", self.name)
        if self.etc.parent != ETC:  # `ip` does not know that place: do what it would have done
            enter += ("sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', str(self.resolver))
        return (*enter, *extra, *argv)

    def __repr__(self) -> str:
        return f"<Host {self.role}: {self.name}>"


def processes_in(hosts: Sequence[Host]) -> tuple[int, ...]:
    """Ids of the processes in these namespaces, our own left out."""
    inodes = set()
    for host in hosts:
        with contextlib.suppress(OSError):
            inodes.add(host.path.stat().st_ino)
    found = []
    for entry in Path("/proc").iterdir() if inodes else ():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile, or is another user's
                if (entry / "ns/net").stat().st_ino in inodes:
                    found.append(int(entry.name))
    return tuple(sorted(found))


def end_processes(pids: Sequence[int], patience: float = PATIENCE) -> None:
    """SIGTERM, then SIGKILL after `patience` seconds; blocks until they are gone."""
    handles = {}
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            handles[os.pidfd_open(pid)] = pid
    try:
        waiting = set(handles)
        for number, limit in ((signal.SIGTERM, patience), (signal.SIGKILL, 5.0)):
            for handle in waiting:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(handle, number)
            until = time.monotonic() + limit
            while waiting and (left := until - time.monotonic()) > 0:
                poll = select.poll()
                for handle in waiting:
                    poll.register(handle, select.POLLIN)
                waiting -= {handle for handle, _ in poll.poll(left * 1000)}
    finally:
        for handle in handles:
            os.close(handle)


def _enter(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"entering a network namespace: {os.strerror(number)}")
