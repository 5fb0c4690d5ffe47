"""A file that is replaced in one step: whoever reads it, or starts after a kill -9, has the old text or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def replace_file(path: Path, text: str, mode: int = 0o600) -> None:
    """Write the text beside the file, to the disk, and then into its place. Raises OSError; then the old one stands.

    What a killed run left beside it has the same name and goes. The directory has to be one that only we can write.
    """
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
