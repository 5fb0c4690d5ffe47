"""Ending a process, by a handle: no other can be meant that gets its number afterwards."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from collections.abc import Callable
from pathlib import Path

from vpnpf.io import netns


def end(
    pid: int, patience: float, *, home: Callable[[], tuple[int, int]] | None = None, started: int | None = None
) -> None:
    """SIGTERM, and SIGKILL after `patience` seconds; blocks until it is gone, or that long again.

    With `home` only a process of that network namespace; with `started` only the one that began then (`start_of`).
    """
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        if home is not None and not _is_in(pid, home()):
            return
        if started is not None and start_of(pid) != started:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(handle, number)
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            if poll.poll(patience * 1000):
                return
    finally:
        os.close(handle)


def start_of(pid: int) -> int | None:
    """When a process began, in clock ticks since boot (proc_pid_stat(5), starttime); None: there is none."""
    try:
        stat = Path("/proc", str(pid), "stat").read_text()
        return int(stat.rpartition(")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _is_in(pid: int, namespace: tuple[int, int]) -> bool:
    try:
        return netns.number(f"/proc/{pid}/ns/net") == namespace
    except OSError:
        return False
