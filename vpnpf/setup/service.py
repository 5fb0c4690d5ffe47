"""What the service's user may read, where the units of deploy/systemd are installed."""

from __future__ import annotations

import os
from pathlib import Path

from vpnpf.errors import VpnpfError
from vpnpf.io.process import must
from vpnpf.setup.finding import SYSTEM

_RULES = (Path("/etc/tmpfiles.d/vpnpf.conf"), Path("/usr/lib/tmpfiles.d/vpnpf.conf"))
_SECONDS = 15.0


async def give_to_service(directory: Path) -> str:
    """Give files in /etc/vpnpf to the service's user, by the rules that came with it (tmpfiles.d(5)).

    Returns what did not work, as a sentence; empty: it worked, or there is no such service.
    """
    if os.geteuid() != 0 or directory != SYSTEM or not any(map(Path.exists, _RULES)):
        return ""
    argv = ("systemd-tmpfiles", "--create", "vpnpf.conf")
    try:
        await must(argv, doing="giving the files to the service's user", deadline=_SECONDS)
    except VpnpfError as error:
        return f"{error}. Next: sudo {' '.join(argv)}."
    return ""
