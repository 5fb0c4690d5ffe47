"""Finding and reading the status files that `vpnpf run` keeps."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

import msgspec
from msgspec import Struct

from vpnpf.errors import PermissionDenied, Unavailable
from vpnpf.observers.status_file import PREFIX
from vpnpf.store import runtime_directory

SYSTEM = Path("/run/vpnpf")
"""Where a run as root keeps its files."""
OLD = 60.0
"""Seconds after which a file tells what was, not what is."""
_READING = "reading the status"


class SeenProof(Struct, frozen=True):
    """A proof, as the file has it."""

    ok: bool | None = None
    checked: datetime | None = None
    evidence: str = ""


class SeenSettings(Struct, frozen=True):
    """A torrent client's settings as read back, as the file has them."""

    port: int
    interface: str = ""
    random_port: bool = False
    port_mapping: bool = False
    read_at: datetime | None = None


class SeenForward(Struct, frozen=True):
    """A forward, as the file has it."""

    name: str
    external_port: int | None = None
    listen_port: int | None = None
    target: str | None = None
    exit_address: str | None = None
    client: str | None = None
    protocols: tuple[str, ...] = ()
    granted_at: datetime | None = None
    lifetime: float | None = None
    renew_at: datetime | None = None
    expires_at: datetime | None = None
    client_settings: SeenSettings | None = None
    packets: int = 0
    packets_at: datetime | None = None
    proofs: dict[str, SeenProof] = {}


class SeenSwitch(Struct, frozen=True):
    """The provider's own switch, as the file has it."""

    mode: str
    ports: tuple[str, ...] = ()
    seen: datetime | None = None


class SeenTunnel(Struct, frozen=True):
    """A tunnel, as the file has it."""

    interface: str
    backend: str = ""
    endpoint: str = ""
    place: str = ""
    gateway: str = ""
    received: int = 0
    sent: int = 0
    handshake: datetime | None = None


class SeenServer(Struct, frozen=True):
    """A server that the profile can go to, as the file has it."""

    number: int
    place: str | None = None
    endpoint: str | None = None
    current: bool = False


class SeenProblem(Struct, frozen=True):
    """A problem, as the file has it."""

    doing: str
    message: str = ""
    hint: str = ""
    failures: int = 1
    since: datetime | None = None
    retry_at: datetime | None = None


class SeenUnused(Struct, frozen=True):
    """An opening that nobody uses, as the file has it."""

    what: str
    last: datetime | None = None
    idle: float = 0.0
    closed: bool = False


class SeenEntry(Struct, frozen=True):
    """A line of the timeline, as the file has it."""

    text: str
    time: datetime | None = None
    event: str = ""
    cause: str = ""
    forward: str | None = None


class Seen(Struct, frozen=True):
    """A status file; what a later version adds is passed over."""

    time: datetime
    pid: int
    profile: str
    provider: str
    phase: str
    phase_since: datetime | None = None
    phase_text: str = ""
    phase_cause: str = ""
    phase_hint: str = ""
    version: str = ""
    tunnel: SeenTunnel | None = None
    forwards: tuple[SeenForward, ...] = ()
    problems: tuple[SeenProblem, ...] = ()
    timeline: tuple[SeenEntry, ...] = ()
    provider_policy: SeenSwitch | None = None
    disagree: str = ""
    unused: tuple[SeenUnused, ...] = ()
    servers: tuple[SeenServer, ...] = ()


class Status(Struct, frozen=True):
    """A status file that was read."""

    seen: Seen
    raw: dict[str, object]
    """The whole of it."""
    age: float
    """Seconds since it was written."""
    alive: bool
    """Whether its writer lives and wrote lately."""

    def event(self) -> str:
        """The state as `--events` prints it, on one line."""
        rest = {key: value for key, value in self.raw.items() if key not in {"time", "pid", "version"}}
        event = {"time": self.raw["time"], "event": "state", **rest}
        return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def find(profile: str | None, now: float) -> list[Status]:
    """The status of a profile, or of all there are, by name; `now` is in seconds since 1970.

    Raises PermissionDenied without the right to look, Unavailable if there is none or it cannot be read.
    """
    places = [runtime_directory()]
    if SYSTEM not in places:
        places.append(SYSTEM)
    found: dict[str, Path] = {}
    barred: PermissionError | None = None
    for place in places:
        try:
            # Not Path.glob, which passes over what it may not read.
            paths = sorted(p for p in place.iterdir() if p.name.startswith(PREFIX) and p.suffix == ".json")
        except PermissionError as error:
            barred = error
            continue
        except OSError:
            continue
        for path in paths:
            found.setdefault(path.stem.removeprefix(PREFIX), path)
    wanted = {name: path for name, path in found.items() if profile in {None, name}}
    if wanted:
        return [_read(path, now) for _, path in sorted(wanted.items())]
    if barred is not None:
        raise _denied(barred)
    cause = f"profile {profile} is not running" if profile is not None else "no profile is running"
    hint = f"start it with: vpnpf run {profile or '[PROFILE]'}"
    raise Unavailable(_READING, cause, hint)


def _read(path: Path, now: float) -> Status:
    try:
        raw = json.loads(path.read_bytes())
        seen = msgspec.convert(raw, Seen)
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
