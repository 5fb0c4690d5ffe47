"""The one file that the face writes: the report, where the person wants it."""

from __future__ import annotations

import os
from pathlib import Path

from vpnpf.errors import Unavailable, UsageError

_DOING = "saving the report"
_MOST = 100


def place_for(profile: str, here: Path | None = None) -> Path:
    """A path that is not there yet: in the current directory (`here`), or at home if nobody may write there."""
    directory = here or Path.cwd()
    if not os.access(directory, os.W_OK | os.X_OK):
        directory = Path.home()
    names = [f"vpnpf-report-{profile}.txt", *(f"vpnpf-report-{profile}-{number}.txt" for number in range(2, _MOST))]
    return next((directory / name for name in names if not os.path.lexists(directory / name)), directory / names[0])


def save(text: str, named: str) -> str:
    """Write a new file that only its owner reads, and return its whole path. "~" is home. Raises UsageError if there is one, Unavailable if it cannot be."""
    try:
        path = Path(named).expanduser().absolute()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(_DOING, f"{named} is there already", "name a file that is not there yet") from None
    except (OSError, ValueError, RuntimeError) as error:  # a null character in it; ~SOMEBODY who does not exist
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise Unavailable(_DOING, f"{named}: {cause}", "name another file") from error
    return str(path)
