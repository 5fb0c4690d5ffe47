"""Where the control socket of a profile is, and how to name it: a path may be longer than a socket's name (unix(7): 107)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def name_of(profile: str) -> str:
    """The socket's name in the runtime directory."""
    return f"control-{profile}.sock"


@contextmanager
def short(directory: Path) -> Iterator[str]:
    """The directory by a short name, for as long as the body runs. Raises OSError if it cannot be opened."""
    descriptor = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
