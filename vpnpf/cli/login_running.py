"""Which runs go on with a login that is being forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from vpnpf.cli import status_reading
from vpnpf.control.seen import Seen
from vpnpf.errors import VpnpfError
from vpnpf.printable import printable


def running(uses: Callable[[Seen], bool]) -> Iterator[str]:
    """The profiles that run with it, as far as they can be seen."""
    try:
        found = status_reading.find(None, time.time())
    except VpnpfError:
        return
    for each in found:
        if each.alive and uses(each.seen):
            yield f"the profile {printable(each.seen.profile)} runs and goes on with the login that it has until it is stopped"
