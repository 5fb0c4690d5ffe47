"""A file that is replaced in one step: whoever reads it, or starts after a kill -9, has the old text or the new one."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE = 5.0
"""Seconds for which another process may be writing in the same directory; it takes milliseconds."""
_LOOK = 0.005


def replace_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Write the text beside the file, to the disk, and then into its place. Raises OSError; then the old one stands.

    What a killed run left beside it has the same name and goes. The directory has to be one that only we can write.
    Of several processes one writes at a time, or the half of one would be put into place by the other.
    """
    with _alone(path.parent):
        _replace(path, text, mode)


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Hold the directory's lock, which ends with its holder (flock(2)). Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until = time.monotonic() + PATIENCE
        while not _taken(descriptor):
            if time.monotonic() >= until:
                raise OSError(errno.EAGAIN, "another process is writing there")
            time.sleep(_LOOK)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: as well as it can be done there
        return True
    return True


def _replace(path: Path, text: str, mode: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(fresh, flags, mode)
    except FileExistsError:
        fresh.unlink()
        descriptor = os.open(fresh, flags, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
