"""Whether who listens on a control socket is to be believed: the kernel says who it is (unix(7): SO_PEERCRED).

What is said there is shown as how things stand, and a password is sent there. So it is root, or we ourselves, or the user whom
root gave the directory: for the service that is its own user.
"""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from vpnpf.far_end import credentials

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class NotBelieved(Exception):
    """Somebody else listens there."""

    def __init__(self, user: int) -> None:
        super().__init__(user)
        self.user = user


def believe(connection: socket.socket, directory: Path, opened: str) -> None:
    """See who listens at the other end: the kernel noted that when it began to.

    `opened` is the directory by the name through which it was connected to. Raises NotBelieved, OSError.
    """
    user = credentials(connection).user
    us = {0, os.geteuid()}
    if user in us:
        return
    real = Path(os.path.realpath(directory))
    found = os.stat(opened)  # noqa: PTH116 - as the kernel has it
    if found.st_uid != user or not os.path.samestat(found, real.lstat()) or not _given(real, us):
        raise NotBelieved(user)


def ours(directory: Path) -> bool:
    """Whether only root, or we, or whom root gave the directory can write into it. Raises OSError."""
    real, us = Path(os.path.realpath(directory)), {0, os.geteuid()}
    found = real.lstat()
    return not found.st_mode & _OTHERS_WRITE and (found.st_uid in us or _given(real, us))


def _given(directory: Path, by: set[int]) -> bool:
    """Whether only these could have put a directory where it is: what is above it is theirs, and nobody else's to write.

    In a directory as /tmp nobody can put another in the place of theirs (inode(7): sticky), but anybody can make a new one.
    """
    for above in directory.parents:
        found = above.lstat()
        shared = found.st_mode & _OTHERS_WRITE and (above == directory.parent or not found.st_mode & stat.S_ISVTX)
        if found.st_uid not in by or shared:
            return False
    return True
