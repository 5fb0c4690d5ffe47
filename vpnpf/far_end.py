"""Who is at the other end of a Unix socket: the kernel noted it when he connected, or began to listen (unix(7): SO_PEERCRED)."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_CREDENTIALS = struct.Struct("3i")


class Credentials(NamedTuple):
    """As this machine numbers them."""

    process: int
    """0: it cannot be seen from our process namespace."""
    user: int
    group: int


def credentials(connection: socket.socket) -> Credentials:
    """Those of the other end. Raises OSError."""
    said = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(said))
