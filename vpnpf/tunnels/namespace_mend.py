"""Our files stay in their places for programs that run, though somebody replaces the machine's own.

A file that is renamed over another takes away what is mounted there, in every mount namespace (rename(2)): DHCP
clients and NetworkManager do that to resolv.conf, and a torrent client inside would look for trackers at the LAN's
resolver from then on. Nothing would leave, and no name would be found.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from vpnpf.io import netns

_ROOT, _POINT = 3, 4
"""Fields of a line of /proc/PID/mountinfo (proc(5))."""


def torn(directory: Path) -> list[tuple[int, tuple[str, ...]]]:
    """Processes of our network namespace that see some of a directory's files in their places, and the names that they miss.

    One process for each mount namespace. One that sees none has its own reasons: it may see the machine's mounts.
    """
    names = sorted(file.name for file in directory.iterdir())
    found: dict[int, tuple[int, tuple[str, ...]]] = {}
    for pid in (os.getpid(), *netns.members(netns.number())):
        with contextlib.suppress(OSError):  # it ended meanwhile
            mounts = Path("/proc", str(pid), "ns/mnt").stat().st_ino
            if mounts not in found:
                seen = laid(directory, Path("/proc", str(pid), "mountinfo").read_text())
                missing = tuple(name for name in names if name not in seen)
                found[mounts] = (pid, missing if seen else ())
    return [(pid, missing) for pid, missing in found.values() if missing]


def laid(directory: Path, mountinfo: str) -> set[str]:
    """The names in a directory whose files lie over files of /etc or elsewhere. Pure."""
    found = set()
    for line in mountinfo.splitlines():
        fields = line.split()
        if len(fields) > _POINT:
            parent, _, name = fields[_ROOT].rpartition("/")
            # The field is a path within its file system; the last part of the directory is ours alone.
            if parent.endswith(f"/{directory.name}") and fields[_POINT] != str(directory / name):
                found.add(name)
    return found


def within(pid: int, work: Callable[[], None]) -> None:
    """Do something with the mounts of a process. Blocks. Raises OSError."""
    problems: list[OSError] = []

    def move() -> None:
        try:
            descriptor = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            try:
                netns.enter_mounts(descriptor)
                work()
            finally:
                os.close(descriptor)
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=move, name=f"mounts of {pid}")
    thread.start()
    thread.join()
    if problems:
        raise problems[0]
