"""Programs run as children: absolute path, no shell, cleared environment, a deadline.

The search path is fixed, so that a hostile PATH of the caller chooses nothing. Secrets go in by
standard input, never by argument.

Each child has a session of its own: Ctrl-C at our terminal must not cut a change of routes or rules in two.
None is told to die with us (PR_SET_PDEATHSIG): a change that was begun is better finished, and a tunnel whose
rules block everything else is better alive than gone; the next run takes it over.

Not with asyncio's own children: their start has a task that nobody holds, and when that is cancelled with all others at
the end of a run, whoever waits for the child waits for ever. Nothing here waits for more than one thing in the kernel.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import IO, cast

from msgspec import Struct

from vpnpf.errors import Transient, Unavailable
from vpnpf.hidden import without

SEARCH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/run/current-system/sw/bin")
ENVIRONMENT = {"PATH": ":".join(SEARCH), "LC_ALL": "C"}
_CHUNK = 1 << 16
_GONE = 3.0
"""Seconds that a killed program may take to be gone; one that the kernel does not let go is left to it."""
PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "systemd-creds": "systemd",
}


class Child:
    """A program that runs. It is held here until it has ended, and no longer than the loop runs it is a zombie."""

    def __init__(self, started: subprocess.Popen[bytes]) -> None:
        """Raises OSError if there is no descriptor left to watch it by."""
        self._started = started
        self._handle = os.pidfd_open(started.pid)
        self._ended = asyncio.Event()
        for stream in (started.stdin, started.stdout, started.stderr):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
        asyncio.get_running_loop().add_reader(self._handle, self._reap)
        _RUNNING.add(self)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._started.pid

    @property
    def returncode(self) -> int | None:
        """Its exit status, negative: the signal that ended it; None while it runs."""
        return self._started.returncode

    def kill(self) -> None:
        """SIGKILL, if it runs still."""
        self._started.kill()

    async def wait(self) -> int:
        """Wait for its end, whatever becomes of its output; returns its status."""
        await self._ended.wait()
        return self._started.returncode

    async def read(self) -> bytes:
        """What it wrote, as it comes; empty at the end. Only with `output=PIPE`."""
        return await _read(self._started.stdout)

    async def communicate(self, data: bytes) -> tuple[bytes, bytes]:
        """Give it `data`, and gather all that it writes to both of its pipes; wait for its end."""
        output, errors, _ = await asyncio.gather(
            _read_all(self._started.stdout), _read_all(self._started.stderr), _write_all(self._started.stdin, data)
        )
        await self.wait()
        return output, errors

    def close(self) -> None:
        """Close our ends of its pipes."""
        for stream in (self._started.stdin, self._started.stdout, self._started.stderr):
            if stream is not None:
                stream.close()

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._handle)
        os.close(self._handle)
        self._started.wait()
        self._ended.set()
        _RUNNING.discard(self)


_RUNNING: set[Child] = set()
"""Also those that nobody waits for: they are to be no zombies."""


class Completed(Struct, frozen=True):
    """A program that has ended."""

    status: int
    """Exit status; negative: ended by that signal."""
    stdout: str
    stderr: str

    def __repr__(self) -> str:
        # What `wg` prints has keys in it.
        return without(self, "stdout", "stderr")


@cache
def find(program: str) -> str:
    """Absolute path of a program. Raises Unavailable, naming the package that has it."""
    for directory in SEARCH:
        path = Path(directory, program)
        if path.is_file() and os.access(path, os.X_OK):
            return str(path)
    package = PACKAGES.get(program, program)
    raise Unavailable(f"looking for the program {program}", "it is not installed", f"install the package {package}")


async def run(argv: Sequence[str], *, stdin: str = "", deadline: float = 10.0) -> Completed:
    """Run a program to its end. `argv[0]` is a bare name, looked up by `find`.

    Raises Unavailable if it is not installed, Transient if it cannot be started or is not done within `deadline`
    seconds (it is killed then). A status other than 0 is an answer, not an exception.
    """
    pipe = subprocess.PIPE
    child = _start(argv, stdin=pipe if stdin else subprocess.DEVNULL, output=pipe, errors=pipe)
    try:
        async with asyncio.timeout(deadline):
            out, err = await child.communicate(stdin.encode())
    except TimeoutError:
        raise Transient(f"running {argv[0]}", f"not done after {deadline:g} s") from None
    finally:
        try:
            if child.returncode is None:
                child.kill()
                await asyncio.wait([asyncio.ensure_future(child.wait())], timeout=_GONE)
        finally:  # also if we are told a second time to end
            child.close()
    assert child.returncode is not None
    return Completed(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


async def must(argv: Sequence[str], *, doing: str, stdin: str = "", deadline: float = 10.0) -> str:
    """As `run`, but a status other than 0 raises Transient with what the program said; returns its output."""
    done = await run(argv, stdin=stdin, deadline=deadline)
    if done.status != 0:
        said = " / ".join(done.stderr.split("\n")).strip(" /") or "it said nothing"
        raise Transient(doing, f"{argv[0]} ended with status {done.status}: {said[:400]}")
    return done.stdout


async def spawn(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    stdin: int = subprocess.DEVNULL,
    output: int = subprocess.DEVNULL,
    keep: Sequence[int] = (),
) -> Child:
    """Start a program that goes on, also after our end. `argv[0]` is looked up by `find`; no pipes unless asked for.

    What it writes goes to `output`, errors too. `env` is added to the cleared environment; descriptors in `keep` are open there too, under the same numbers.
    Raises Unavailable if it is not installed, Transient if it cannot be started.
    """
    return _start(argv, stdin=stdin, output=output, errors=subprocess.STDOUT, env=env, keep=keep)


def _start(
    argv: Sequence[str],
    *,
    stdin: int,
    output: int,
    errors: int,
    env: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
) -> Child:
    path = find(argv[0])
    try:
        started = subprocess.Popen(
            [path, *argv[1:]],
            bufsize=0,
            stdin=stdin,
            stdout=output,
            stderr=errors,
            env={**ENVIRONMENT, **(env or {})},
            cwd="/",
            start_new_session=True,
            pass_fds=keep,
        )
    except OSError as error:  # no more processes, memory or descriptors, or no program after all
        raise Transient(f"starting {path}", error.strerror or str(error)) from error
    try:
        return Child(started)
    except OSError as error:
        started.kill()
        with started:  # waits for it
            raise Transient(f"starting {path}", error.strerror or str(error)) from error


async def _read_all(stream: IO[bytes] | None) -> bytes:
    parts = []
    while data := await _read(stream):
        parts.append(data)
    return b"".join(parts)


async def _read(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    loop, place = asyncio.get_running_loop(), stream.fileno()
    while (data := cast("bytes | None", stream.read(_CHUNK))) is None:
        await _until(partial(loop.add_reader, place), partial(loop.remove_reader, place))
    return data


async def _write_all(stream: IO[bytes] | None, data: bytes) -> None:
    if stream is None:
        return
    loop, place, left = asyncio.get_running_loop(), stream.fileno(), memoryview(data)
    with contextlib.suppress(BrokenPipeError):  # it does not read, or not all of it
        while left:
            written = cast("int | None", stream.write(left))
            if written is None:
                await _until(partial(loop.add_writer, place), partial(loop.remove_writer, place))
            else:
                left = left[written:]
    stream.close()


async def _until(add: Callable[[Callable[[], None]], object], remove: Callable[[], object]) -> None:
    """Wait for one event of a descriptor."""
    ready = asyncio.get_running_loop().create_future()
    add(lambda: None if ready.done() else ready.set_result(None))
    try:
        await ready
    finally:
        remove()
