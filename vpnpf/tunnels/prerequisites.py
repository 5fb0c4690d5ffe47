"""What a machine must have for a tunnel."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
from pathlib import Path

from vpnpf.errors import PermissionDenied, Unavailable

TUN = Path("/dev/net/tun")
_TUN_NUMBER = (10, 200)
"""Documentation/admin-guide/devices.txt of the kernel."""
_CAP_NET_ADMIN = 12


def need_the_privilege() -> None:
    """See that we may change the network. Raises PermissionDenied."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:") and not int(line.split()[1], 16) >> _CAP_NET_ADMIN & 1:
            raise PermissionDenied("starting", "changing the network needs root", "run it with sudo")


def need_tun(path: Path = TUN) -> None:
    """See that there is a TUN device. Raises Unavailable."""
    doing, hint = f"looking for {path}", "modprobe tun; in a container: --device /dev/net/tun"
    try:
        found = path.stat()
    except OSError as error:
        raise Unavailable(doing, error.strerror or str(error), hint) from error
    if not stat.S_ISCHR(found.st_mode) or (os.major(found.st_rdev), os.minor(found.st_rdev)) != _TUN_NUMBER:
        raise Unavailable(doing, "it is not the TUN device", hint)


def kernel_has_wireguard() -> bool:
    """Whether the kernel has WireGuard, or a module with it."""
    if Path("/sys/module/wireguard").exists():
        return True
    modules = Path("/lib/modules", platform.release())
    for name in ("modules.dep", "modules.builtin"):
        with contextlib.suppress(OSError):
            if "/wireguard.ko" in Path(modules, name).read_text():
                return True
    return False
