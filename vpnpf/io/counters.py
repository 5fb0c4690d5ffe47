"""What went through a network device, as the kernel counts it (proc_pid_net(5), `dev`).

Read without a thread: the kernel makes the table of what it has at hand, and nothing in that waits.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

TABLE = Path("/proc/thread-self/net/dev")
"""Of the network namespace that the calling thread is in: /proc/net is the main thread's."""


_PART = 65536
"""Bytes that are read at a time."""


class Counters(NamedTuple):
    """Since the device exists."""

    bytes_in: int
    packets_in: int
    bytes_out: int
    packets_out: int


def read(interface: str) -> Counters | None:
    """Those of a device; None: there is none. Takes no privilege, and never raises."""
    try:
        return parse(_table().decode(errors="replace"), interface)
    except OSError:
        return None


def _table() -> bytes:
    descriptor = os.open(TABLE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while more := os.pread(descriptor, _PART, len(data)):
            data += more
        return data
    finally:
        os.close(descriptor)


def traffic(interface: str) -> tuple[int, int] | None:
    """Bytes received and sent; None: there is no such device."""
    found = read(interface)
    return None if found is None else (found.bytes_in, found.bytes_out)


def parse(text: str, interface: str) -> Counters | None:
    """The same from the table's text. Pure; None also for a row of another form."""
    for line in text.splitlines():
        name, _, row = line.rpartition(":")
        if name.strip() == interface:
            columns = row.split()
            try:
                return Counters(int(columns[0]), int(columns[1]), int(columns[8]), int(columns[9]))
            except (ValueError, IndexError):
                return None
    return None
