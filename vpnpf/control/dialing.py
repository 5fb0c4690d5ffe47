"""Which profiles have a control socket, and connecting to it. Nothing here is slow to load."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from pathlib import Path

from vpnpf.control.believing import NotBelieved, believe
from vpnpf.control.place import name_of, short
from vpnpf.errors import PermissionDenied, Transient, Unavailable, UsageError, VpnpfError
from vpnpf.store import runtime_directory

SYSTEM = Path("/run/vpnpf")
"""Where a run as root, or of the system's service, has its socket."""
_DOING = "asking vpnpf"
_SOCKET = re.compile(r"control-([A-Za-z0-9][A-Za-z0-9_-]*)\.sock")


class NotRunning(Unavailable):
    """The profile does not run."""


def directories() -> tuple[Path, ...]:
    """Where runs have their sockets and status files; the first that has a profile's wins."""
    return tuple(dict.fromkeys((runtime_directory(), SYSTEM)))


def dial(profile: str, places: Sequence[Path], patience: float) -> socket.socket:
    """A connection to the run of a profile, with `patience` in seconds as its timeout.

    Raises NotRunning if there is none, PermissionDenied without the right to ask or if somebody else poses as it, Transient if
    too many ask already.
    """
    barred: OSError | None = None
    posing = ""
    for place in places:
        try:
            return connect(place, profile, patience)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            continue
        except NotBelieved as found:
            posing = f"the user {found.user} listens in {place}, and that is neither root nor you"
        except PermissionError as error:
            barred = error
        except (TimeoutError, BlockingIOError):  # so many wait already (unix(7): EAGAIN)
            raise silent(patience) from None
        except OSError as error:
            raise broken(profile, error) from error
    if barred is not None:
        hint = "do it as root, or as the user that runs vpnpf; who shall watch it: [control] group in its configuration"
        raise PermissionDenied(_DOING, barred.strerror or str(barred), hint)
    if posing:
        raise PermissionDenied(
            _DOING, posing, "look at RUNTIME_DIRECTORY and XDG_RUNTIME_DIR, and at who made that directory"
        )
    raise NotRunning(
        _DOING, f"profile {profile} is not running", f"start it with: vpnpf up {profile}{_others(profile, places)}"
    )


def _others(profile: str, places: Sequence[Path]) -> str:
    """Which other profiles have a socket: a name that was mistyped is seen beside the right one."""
    try:
        others = [each for each in sockets(places) if each != profile]
    except PermissionDenied:
        return ""
    return f" (there is also: {', '.join(others)})" if others else ""


def silent(patience: float) -> Transient:
    """That nothing came back in time."""
    return Transient(_DOING, f"no answer within {patience:g} s", "look at `vpnpf status`")


def ended() -> Unavailable:
    """That it was gone before it answered."""
    return Unavailable(_DOING, "it ended without an answer", "look at `vpnpf status`")


def broken(profile: str, error: OSError) -> Unavailable:
    """That the connection is no more."""
    return Unavailable(_DOING, error.strerror or str(error), f"is it ending? start it: vpnpf up {profile}")


def sockets(places: Sequence[Path] = ()) -> list[str]:
    """The profiles that have a socket, by name; whether somebody answers there is not asked.

    Raises PermissionDenied if a place may not be read and no other has one.
    """
    found: set[str] = set()
    barred: OSError | None = None
    for place in places or directories():
        try:
            found.update(listed(place))
        except PermissionError as error:
            barred = error
        except OSError:
            continue
    if barred is not None and not found:
        cause = f"{barred.filename}: {barred.strerror}"
        hint = (
            "name the profile if you may watch it ([control] group); else do it as root, or as the user that runs vpnpf"
        )
        raise PermissionDenied("looking for what runs", cause, hint)
    return sorted(found)


def listed(place: Path) -> list[str]:
    """The profiles that have a socket in a directory. Raises OSError if it may not be read."""
    return [match[1] for each in place.iterdir() if (match := _SOCKET.fullmatch(each.name))]


def running(places: Sequence[Path] = (), patience: float = 2.0) -> list[str]:
    """The profiles whose socket somebody listens on, by name. Raises PermissionDenied as `sockets` does."""
    return [name for name in sockets(places) if _listens(name, places or directories(), patience)]


def chosen(profile: str | None, places: Sequence[Path] = ()) -> str:
    """The profile that was named, or the only one that runs. Raises NotRunning, UsageError, PermissionDenied."""
    if profile is not None:
        if not _SOCKET.fullmatch(name_of(profile)):
            raise UsageError("choosing a profile", f"{profile!r} is no name of a profile", "see `vpnpf status`")
        return profile
    found = running(places)
    if not found:
        raise NotRunning("asking vpnpf", "no profile is running", "start one with: vpnpf up [PROFILE]")
    if len(found) > 1:
        raise UsageError("choosing a profile", "several are running", f"name one of: {', '.join(found)}")
    return found[0]


def _listens(profile: str, places: Sequence[Path], patience: float) -> bool:
    try:
        dial(profile, places, patience).close()
    except NotRunning:
        return False
    except VpnpfError:  # somebody is there, and does not let us in
        return True
    return True


def connect(directory: Path, profile: str, patience: float) -> socket.socket:
    """A connection to the socket in this directory. Raises OSError, and NotBelieved if somebody poses there."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(patience)
        with short(directory) as near:
            connection.connect(f"{near}/{name_of(profile)}")
            believe(connection, directory, near)
    except BaseException:
        connection.close()
        raise
    return connection
