"""Which runs go on with a login that is being forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterator

from vpnpf.cli import status_reading
from vpnpf.control.seen import Seen
from vpnpf.errors import VpnpfError
from vpnpf.logins.subjects import Subject
from vpnpf.printable import printable


def users(subject: Subject) -> Iterator[str]:
    """The profiles that run with it, as far as they can be seen, a sentence each."""
    try:
        found = status_reading.find(None, time.time())
    except VpnpfError:
        return
    for each in found:
        if each.alive and _uses(each.seen, subject):
            yield f"the profile {printable(each.seen.profile)} runs and goes on with the login that it has until it is stopped"


def _uses(seen: Seen, subject: Subject) -> bool:
    if subject.kind == "provider":
        return seen.provider == subject.name
    return any(forward.client == subject.name for forward in seen.forwards)
