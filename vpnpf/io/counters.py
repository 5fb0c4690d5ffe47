"""What went through a network device, as the kernel counts it (proc_pid_net(5), `dev`)."""

from __future__ import annotations

from pathlib import Path

TABLE = Path("/proc/thread-self/net/dev")
"""Of the network namespace that the calling thread is in: /proc/net is the main thread's."""
_RECEIVED, _SENT = 0, 8
"""Columns of the bytes, after the name."""


def traffic(interface: str) -> tuple[int, int] | None:
    """Bytes received and sent since the device exists; None: it does not. Takes no privilege, and never raises."""
    try:
        return parse(TABLE.read_text(errors="replace"), interface)
    except OSError:
        return None


def parse(text: str, interface: str) -> tuple[int, int] | None:
    """The same from the table's text. Pure; None also for a row of another form."""
    for line in text.splitlines():
        name, _, row = line.rpartition(":")
        if name.strip() == interface:
            columns = row.split()
            try:
                return int(columns[_RECEIVED]), int(columns[_SENT])
            except (ValueError, IndexError):
                return None
    return None
