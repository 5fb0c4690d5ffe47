"""Programs run as children: absolute path, no shell, cleared environment, a deadline.

The search path is fixed, so that a hostile PATH of the caller chooses nothing. Secrets go in by
standard input, never by argument.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from asyncio import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from vpnpf.errors import Transient, Unavailable

SEARCH = ("/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin", "/run/current-system/sw/bin")
ENVIRONMENT = {"PATH": ":".join(SEARCH), "LC_ALL": "C"}
PACKAGES = {
    "ip": "iproute2",
    "nft": "nftables",
    "wg": "wireguard-tools",
    "wireguard-go": "wireguard-go",
    "setpriv": "util-linux",
}


@dataclass(frozen=True, slots=True)
class Completed:
    """A program that has ended."""

    status: int
    """Exit status; negative: ended by that signal."""
    stdout: str
    stderr: str


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

    Raises Unavailable if it is not installed, Transient if it is not done within `deadline` seconds
    (it is killed then). A status other than 0 is an answer, not an exception.
    """
    child = await asyncio.create_subprocess_exec(
        find(argv[0]),
        *argv[1:],
        stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=ENVIRONMENT,
        cwd="/",
    )
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


async def spawn(argv: Sequence[str], env: dict[str, str] | None = None) -> subprocess.Process:
    """Start a program that goes on, in a session of its own: Ctrl-C at our terminal does not reach it.

    `argv[0]` is looked up by `find`; `env` is added to the cleared environment. Raises Unavailable.
    """
    return await asyncio.create_subprocess_exec(
        find(argv[0]),
        *argv[1:],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT | (env or {}),
        cwd="/",
        start_new_session=True,
    )
