"""Looking for secrets in all that a run of vpnpf leaves behind or shows, in every form that a program may write them in."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import quote, quote_plus

CRASH = """
import asyncio, dataclasses, gc, os, traceback
import msgspec
place = os.environ.get("CANARY_CRASH")
if place:
    from vpnpf import supervisor
    run = supervisor.Supervisor.run

    async def crashing(self):
        running = asyncio.create_task(run(self))
        while not os.path.exists(place):
            await asyncio.sleep(0.02)
        alive = {
            repr(each) for each in gc.get_objects()
            if isinstance(each, msgspec.Struct) or (dataclasses.is_dataclass(each) and not isinstance(each, type))
        }
        crash = RuntimeError("canary crash: " + " ".join([repr(self), repr(vars(self)), *alive]))
        # Also here: vpnpf tells less of it if a task does not let itself be cancelled.
        traceback.print_exception(crash)
        raise crash

    supervisor.Supervisor.run = crashing
"""
"""As sitecustomize.py: when a file appears, the run ends by an exception that tells every value that is alive."""


def forms(secret: str) -> Iterator[tuple[str, bytes]]:
    """A secret as programs write it, each with the name of the form."""
    data = secret.encode()
    yield "as it is", data
    yield "JSON", json.dumps(secret)[1:-1].encode()
    yield "repr", repr(secret)[1:-1].encode()
    yield "percent-encoded", quote(secret, safe="").encode()
    yield "percent-encoded but for /", quote(secret).encode()
    yield "percent-encoded form", quote_plus(secret).encode()
    yield (
        "percent-encoded in lower case",
        re.sub("%..", lambda found: found[0].lower(), quote(secret, safe="")).encode(),
    )
    yield "hex", data.hex().encode()
    yield "hex", data.hex().upper().encode()
    for shift in range(3):
        # The characters at the edges depend on what stands beside it.
        first, last = -(-shift * 8 // 6), -(-((shift + len(data)) * 8 % 24) // 6)
        whole = base64.b64encode(bytes(shift) + data).rstrip(b"=")
        core = whole[first : len(whole) - (1 if last % 4 else 0)]
        yield "base64", core
        yield "base64 for URLs", core.translate(bytes.maketrans(b"+/", b"-_"))


def found(where: str, data: bytes, secrets: Mapping[str, str]) -> list[str]:
    """What of the secrets is in some data: "NAME, FORM, in WHERE"."""
    return [
        f"{name}, {form}, in {where}"
        for name, secret in secrets.items()
        for form, pattern in dict.fromkeys(forms(secret))
        if pattern in data
    ]


def in_files(places: Iterable[Path], secrets: Mapping[str, str], *, but: Iterable[Path] = ()) -> list[str]:
    """As `found`, in all files below some directories and in their names, but not below others."""
    hits: list[str] = []
    for place in places:
        for path in (place, *place.rglob("*")):
            if not any(path.is_relative_to(each) for each in but):
                hits += found(f"the name {path}", os.fsencode(path), secrets)
                if path.is_file():
                    hits += found(str(path), path.read_bytes(), secrets)
    return hits


def of_processes(pids: Iterable[int]) -> dict[str, bytes]:
    """Arguments and environments of processes."""
    seen = {}
    for pid in pids:
        for name in ("cmdline", "environ"):
            path = Path("/proc", str(pid), name)
            with contextlib.suppress(OSError):  # it ended just now
                seen[str(path)] = path.read_bytes()
    return seen


def traced(output: Path) -> tuple[str, ...]:
    """What, put before a command, writes the arguments and environment of each program that is begun into a file."""
    # -D: the command stays the child that is waited for and gets the signals; -I2: SIGTERM ends strace alone.
    strings = ("-v", "-s", "1000000", "-xx")
    return (
        "strace",
        "-D",
        "-f",
        "-q",
        "-I2",
        *strings,
        "-e",
        "trace=execve,execveat",
        "-e",
        "signal=none",
        "-o",
        str(output),
        "--",
    )


def begun(output: Path) -> bytes:
    """What `traced` wrote, with strings as they were."""
    text = output.read_bytes()
    return re.sub(rb"(?:\\x[0-9a-f]{2})+", lambda match: bytes.fromhex(match[0].replace(b"\\x", b"").decode()), text)


def open_to_others(directory: Path) -> list[str]:
    """What below a directory anybody but its owner may read; its modes have to be 0700 and 0600."""
    return [
        f"{path}: {stat.S_IMODE(path.lstat().st_mode):04o}"
        for path in (directory, *directory.rglob("*"))
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    ]
