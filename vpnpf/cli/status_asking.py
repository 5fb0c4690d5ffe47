"""How profiles stand: as they say themselves, and as their files have it where they do not."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

from vpnpf.cli.status_reading import Status, find, places
from vpnpf.control.dialing import NotRunning, sockets
from vpnpf.control.quick import ask
from vpnpf.control.seen import read
from vpnpf.errors import PermissionDenied, Unavailable, VpnpfError

PATIENCE = 3.0
"""Seconds for a profile's answer."""


def look(profile: str | None, now: float) -> tuple[list[Status], list[VpnpfError]]:
    """The status of a profile, or of all there are, by name; and why others cannot be told. `now`: seconds since 1970.

    Raises PermissionDenied without the right to look, Unavailable if there is none.
    """
    found: list[Status] = []
    barred: list[VpnpfError] = []
    for name in [profile] if profile is not None else _names(now):
        try:
            found.append(_of(name, now))
        except VpnpfError as error:
            barred.append(error)
    if not found:
        raise barred[0]
    return found, barred


def _names(now: float) -> Sequence[str]:
    names = set(sockets(places()))
    try:
        names.update(each.seen.profile for each in find(None, now))
    except (Unavailable, PermissionDenied):
        if not names:
            raise
    return sorted(names)


def _of(name: str, now: float) -> Status:
    try:
        raw = ask(name, "/v1/state", places(), PATIENCE)
        return Status(read(raw), raw, 0.0, alive=True)
    except NotRunning:
        (written,) = find(name, now)
        return written
    except VpnpfError as error:
        with contextlib.suppress(VpnpfError):
            (written,) = find(name, now)
            silent = not isinstance(error, PermissionDenied)
            return Status(written.seen, written.raw, written.age, written.alive, error.cause, silent)
        raise
