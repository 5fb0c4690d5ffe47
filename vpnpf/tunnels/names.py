"""What follows from a profile's name, so that what a killed run left is found by the next. Pure."""

from __future__ import annotations

import re
from zlib import crc32

_LONGEST_NAME = 15


def interface_name(profile: str) -> str:
    """A device name of at most 15 characters that only this profile has."""
    name = f"vpf-{profile}"
    if len(name) <= _LONGEST_NAME and re.fullmatch(r"[A-Za-z0-9_-]+", name):
        return name
    return f"vpf-{crc32(profile.encode()):08x}"


def table_of(profile: str) -> int:
    """Number of the routing table that a profile's traffic goes through."""
    return 7000 + crc32(profile.encode()) % 1000


def mark_of(table: int) -> int:
    """Firewall mark on the own packets of the tunnel that this table leads into."""
    return 0x7670_0000 | table
