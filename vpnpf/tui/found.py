"""Which profiles run on this machine."""

from __future__ import annotations

import re
import socket
from pathlib import Path

from msgspec import Struct

from vpnpf.control.dialing import directories
from vpnpf.control.place import name_of, short

PATIENCE = 0.5
"""Seconds for a connection that the kernel makes at once, if it makes it at all."""
_SOCKET = re.compile(r"control-(.{1,64})\.sock")


class Running(Struct, frozen=True):
    """A profile that runs."""

    profile: str
    open: bool = True
    """Whether we may ask it."""


def running() -> tuple[Running, ...]:
    """The profiles whose daemon answers, by name. Blocks for half a second at worst for each that is stuck."""
    found: dict[str, bool] = {}
    for place in directories():
        for profile in _listed(place):
            may = _answers(place, profile)
            if may is not None and not found.get(profile):
                found[profile] = may
    return tuple(Running(profile, may) for profile, may in sorted(found.items()))


def _listed(place: Path) -> list[str]:
    try:
        names = [each.name for each in place.iterdir()]
    except OSError:  # not there, or not for us
        return []
    return [match[1] for each in names if (match := _SOCKET.fullmatch(each))]


def _answers(place: Path, profile: str) -> bool | None:
    """Whether it lets us in; None: nobody is there."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking, short(place) as near:
            asking.settimeout(PATIENCE)
            asking.connect(f"{near}/{name_of(profile)}")
    except PermissionError:
        return False
    except (TimeoutError, BlockingIOError):  # so many wait already (unix(7): EAGAIN): somebody is there
        return True
    except OSError:
        return None
    return True
