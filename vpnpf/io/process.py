"""Programs run as children: absolute path, no shell, cleared environment, a deadline.

The search path is fixed, so that a hostile PATH of the caller chooses nothing. Secrets go in by
standard input, never by argument.

Each child has a session of its own: Ctrl-C at our terminal must not cut a change of routes or rules in two.
None is told to die with us (PR_SET_PDEATHSIG): a change that was begun is better finished, and a tunnel whose
rules block everything else is better alive than gone; the next run takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio import subprocess
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from msgspec import Struct

from vpnpf.errors import Transient, Unavailable
from vpnpf.hidden import without

SEARCH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/run/current-system/sw/bin")
ENVIRONMENT = {"PATH": ":".join(SEARCH), "LC_ALL": "C"}
PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "systemd-creds": "systemd",
}


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
    child = await _start(argv, stdin=pipe if stdin else subprocess.DEVNULL, output=pipe, errors=pipe)
    try:
        async with asyncio.timeout(deadline):
            out, err = await child.communicate(stdin.encode() if stdin else None)
    except TimeoutError:
        raise Transient(f"running {argv[0]}", f"not done after {deadline:g} s") from None
    finally:
        if child.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
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
) -> subprocess.Process:
    """Start a program that goes on, also after our end. `argv[0]` is looked up by `find`; no pipes unless asked for.

    What it writes goes to `output`, errors too. `env` is added to the cleared environment; descriptors in `keep` are open there too, under the same numbers.
    Raises Unavailable if it is not installed, Transient if it cannot be started.
    """
    return await _start(argv, stdin=stdin, output=output, errors=subprocess.STDOUT, env=env, keep=keep)


async def _start(
    argv: Sequence[str],
    *,
    stdin: int,
    output: int,
    errors: int,
    env: Mapping[str, str] | None = None,
    keep: Sequence[int] = (),
) -> subprocess.Process:
    path = find(argv[0])
    try:
        return await asyncio.create_subprocess_exec(
            path,
            *argv[1:],
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
