"""Whose the state directory is: with the units of deploy/systemd it is their user's, and what root does there is done as him."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from vpnpf.store import state_directory


@contextlib.contextmanager
def acting() -> Iterator[None]:
    """As root, be the user that the state directory belongs to for a while; else nothing happens.

    What is written meanwhile is that user's, and no link that he left leads root anywhere.
    """
    owner = other()
    if owner is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def other() -> os.stat_result | None:
    """The state directory, where we are root and it belongs to another user; else None."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            found = state_directory().lstat()
            return found if found.st_uid != 0 else None
    return None
