"""Who is at the other end of a connection, and what they may: the kernel says it (unix(7): SO_PEERCRED, SO_PEERGROUPS)."""

from __future__ import annotations

import os
import socket
import struct
from enum import IntEnum

from msgspec import Struct

from vpnpf.far_end import credentials

_SO_PEERGROUPS = 59
"""asm-generic/socket.h, since Linux 4.13; Python has no name for it."""
_GROUP = struct.Struct("I")
_LONGEST = 1024
"""Bytes that Python takes from getsockopt: 256 groups. Who has more is known by the first group alone."""


class Role(IntEnum):
    """What somebody may; each includes those below."""

    STRANGER = 0
    """Nothing."""
    WATCHER = 1
    """See how things are: members of the group that was configured."""
    OWNER = 2
    """Everything: root, and the user that vpnpf runs as."""

    def __str__(self) -> str:
        return self.name.lower()


class Peer(Struct, frozen=True):
    """Who connected, as they were at that moment."""

    user: int
    role: Role


def peer_of(connection: socket.socket, group: int | None) -> Peer:
    """Who is at the other end; `group` is the number of the group that may watch. Raises OSError."""
    _, user, first = credentials(connection)
    if user in {0, os.geteuid()}:
        return Peer(user, Role.OWNER)
    if group is not None and (first == group or group in _groups(connection)):
        return Peer(user, Role.WATCHER)
    return Peer(user, Role.STRANGER)


def _groups(connection: socket.socket) -> set[int]:
    try:
        said = connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _LONGEST)
    except OSError:  # more than there is room for, or an old kernel
        return set()
    return {each for (each,) in _GROUP.iter_unpack(said)}
