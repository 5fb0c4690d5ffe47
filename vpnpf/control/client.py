"""Asking a profile that runs."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

from vpnpf.control.messages import LARGEST, Json, parse_answer, request
from vpnpf.control.place import name_of, short
from vpnpf.errors import PermissionDenied, Transient, Unavailable
from vpnpf.store import runtime_directory

SYSTEM = Path("/run/vpnpf")
"""Where a run as root, or of the system's service, has its socket."""
PATIENCE = 30.0
"""Seconds for an answer; the far side has less for it."""
_DOING = "asking vpnpf"


class NotRunning(Unavailable):
    """The profile does not run."""


def ask(profile: str, verb: str, arguments: Mapping[str, object], directories: Sequence[Path] = ()) -> Json:
    """The answer of the run of a profile to one question.

    Raises NotRunning (exit 69) if there is none, PermissionDenied without the right to ask, Transient if it does not
    answer in time, and what the far side refuses as it says.
    """
    places = directories or tuple(dict.fromkeys((runtime_directory(), SYSTEM)))
    barred: OSError | None = None
    for place in places:
        try:
            with _connect(place, profile) as connection:
                with contextlib.suppress(BrokenPipeError):  # refused before all of it was read: the answer is there
                    connection.sendall(request(verb, arguments))
                return parse_answer(_line(connection))
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            continue
        except PermissionError as error:
            barred = error
        except TimeoutError:
            raise Transient(_DOING, f"no answer within {PATIENCE:g} s", "look at `vpnpf status`") from None
        except OSError as error:
            raise Unavailable(
                _DOING, error.strerror or str(error), f"is it ending? start it: vpnpf run {profile}"
            ) from error
    if barred is not None:
        hint = "do it as root, or as the user that runs vpnpf"
        raise PermissionDenied(_DOING, barred.strerror or str(barred), hint)
    raise NotRunning(_DOING, f"profile {profile} is not running", f"start it with: vpnpf run {profile}")


def _connect(directory: Path, profile: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(PATIENCE)
        with short(directory) as near:
            connection.connect(f"{near}/{name_of(profile)}")
    except BaseException:
        connection.close()
        raise
    return connection


def _line(connection: socket.socket) -> bytes:
    data = bytearray()
    with contextlib.suppress(ConnectionResetError):  # what came before may be a whole answer: a refusal unread
        while not data.endswith(b"\n") and len(data) <= LARGEST:
            more = connection.recv(65536)
            if not more:
                break
            data += more
    if not data.endswith(b"\n"):
        raise Unavailable(_DOING, "it ended without an answer", "look at `vpnpf status`")
    return bytes(data)
