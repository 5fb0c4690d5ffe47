"""Where profiles stand, as a report tells it."""

from __future__ import annotations

import time
from collections.abc import Iterable

from msgspec import structs

from vpnpf.cli.status_reading import Status
from vpnpf.cli.status_words import timeline, words
from vpnpf.control.seen import read
from vpnpf.model import State
from vpnpf.observers.status_file import document
from vpnpf.printable import printable
from vpnpf.report import Told


def told(found: Iterable[Status]) -> Told:
    """By status files."""
    now, found = time.time(), tuple(found)
    state = [line for each in found for line in _state(each, now)]
    return Told(state, [line for each in found for line in timeline(each.seen)])


def told_of(state: State, now: float, offset: float) -> Told:
    """By a state at `now` (CLOCK_BOOTTIME); `offset` is wall-clock time minus that."""
    raw = document(state, now, offset)
    return told([Status(read(raw), raw, 0.0, alive=True)])


def _state(status: Status, now: float) -> list[str]:
    if status.seen.tunnel is not None:  # where it goes is nobody's business, as its address
        seen = structs.replace(status.seen, tunnel=structs.replace(status.seen.tunnel, place=""))
        status = structs.replace(status, seen=seen)
    return [*words(status, now), f"  written by vpnpf {printable(status.seen.version)}, {status.age:.0f} s ago"]
