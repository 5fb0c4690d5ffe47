"""Finding and reading the status files that `vpnpf run` keeps."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

from msgspec import Struct

from vpnpf.control.believing import ours
from vpnpf.control.seen import Seen, converted
from vpnpf.errors import PermissionDenied, Unavailable
from vpnpf.store import STATUS, runtime_directory

SYSTEM = Path("/run/vpnpf")
"""Where a run as root keeps its files."""
OLD = 60.0
"""Seconds after which a file tells what was, not what is."""
_READING = "reading the status"


class Status(Struct, frozen=True):
    """How a profile stands: as it says itself, or as its file has it."""

    seen: Seen
    raw: dict[str, object]
    """The whole of it."""
    age: float
    """Seconds since it was written; 0 where it said so itself."""
    alive: bool
    """Whether its writer lives and wrote lately."""
    unheard: str = ""
    """Why it could not be asked itself, while it runs; empty: it was, or it does not run."""
    silent: bool = False
    """Whether it should have answered."""

    def event(self) -> str:
        """The state as `--events` prints it, on one line."""
        rest = {key: value for key, value in self.raw.items() if key not in {"time", "pid", "version"}}
        event = {"time": self.raw["time"], "event": "state", **rest}
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def places() -> tuple[Path, ...]:
    """Where runs keep their files; the first that has a profile's wins."""
    return tuple(dict.fromkeys((runtime_directory(), SYSTEM)))


def find(profile: str | None, now: float) -> list[Status]:
    """The status of a profile, or of all there are, by name; `now` is in seconds since 1970.

    Raises PermissionDenied without the right to look, Unavailable if there is none or it cannot be read.
    """
    found: dict[str, Path] = {}
    barred: PermissionError | None = None
    for place in places():
        try:
            # Not Path.glob, which passes over what it may not read.
            paths = sorted(p for p in place.iterdir() if p.name.startswith(STATUS) and p.suffix == ".json")
            if paths and not ours(place):  # what anybody wrote there is not how things stand
                barred = PermissionError(errno.EACCES, "another user can write there", str(place))
                continue
        except PermissionError as error:
            barred = error
            continue
        except OSError:
            continue
        for path in paths:
            found.setdefault(path.stem.removeprefix(STATUS), path)
    wanted = {name: path for name, path in found.items() if profile in {None, name}}
    if wanted:
        return [_read(path, now) for _, path in sorted(wanted.items())]
    if barred is not None:
        raise _denied(barred)
    cause = f"profile {profile} is not running" if profile is not None else "no profile is running"
    hint = f"start it with: vpnpf up {profile or '[PROFILE]'}"
    raise Unavailable(_READING, cause, hint)


def _read(path: Path, now: float) -> Status:
    try:
        raw = json.loads(path.read_bytes())
        seen = converted(raw)
    except PermissionError as error:
        raise _denied(error) from error
    except FileNotFoundError as error:
        raise Unavailable(_READING, "it ended just now", "ask again") from error
    except (OSError, ValueError, RecursionError) as error:  # msgspec.ValidationError is a ValueError
        cause = f"{path} cannot be read: {error}"
        raise Unavailable(_READING, cause, "remove it; a run writes it anew") from error
    age = now - seen.time.timestamp()
    return Status(seen, raw, max(0.0, age), alive=abs(age) <= OLD and _lives(seen.pid))


def _denied(error: PermissionError) -> PermissionDenied:
    return PermissionDenied(
        _READING, f"{error.filename}: {error.strerror}", "run it as root, or as the user that runs vpnpf"
    )


def _lives(pid: int) -> bool:
    if pid <= 0:  # these mean groups of processes
        return False
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
