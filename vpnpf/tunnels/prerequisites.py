"""What a machine must have for a tunnel."""

from __future__ import annotations

import os
import platform
import stat
from pathlib import Path

from vpnpf.errors import PermissionDenied, Unavailable
from vpnpf.io import privileges

TUN = Path("/dev/net/tun")
MODULES = Path("/lib/modules")
_TUN_NUMBER = (10, 200)
"""Documentation/admin-guide/devices.txt of the kernel."""


def need_the_privilege() -> None:
    """See that we may change the network. Raises PermissionDenied."""
    hint = "run it with sudo, or as a service with the capability CAP_NET_ADMIN (docs/systemd.md)"
    privileges.need(privileges.NET_ADMIN, "starting", "changing the network needs root", hint)


def may_bound() -> bool:
    """Whether we may take privileges away from what we start."""
    return privileges.has(privileges.SETPCAP)


def need_tun(path: Path = TUN) -> None:
    """See that there is a TUN device that we may use. Raises Unavailable, PermissionDenied."""
    doing, hint = f"looking for {path}", "modprobe tun; in a container: --device /dev/net/tun"
    try:
        found = path.stat()
    except OSError as error:
        raise Unavailable(doing, error.strerror or str(error), hint) from error
    if not stat.S_ISCHR(found.st_mode) or (os.major(found.st_rdev), os.minor(found.st_rdev)) != _TUN_NUMBER:
        raise Unavailable(doing, "it is not the TUN device", hint)
    if not os.access(path, os.R_OK | os.W_OK):
        raise PermissionDenied(f"opening {path}", "this user may not", f"chmod 0666 {path}, as udev makes it")


def need_directory(path: Path) -> None:
    """See that we may put a socket into a directory, or make it. Raises PermissionDenied."""
    there = path if path.exists() else path.parent
    if not os.access(there, os.W_OK | os.X_OK):
        hint = f"let it belong to the user that runs vpnpf (RuntimeDirectory={path.name} in a unit), or use sudo"
        raise PermissionDenied(f"looking at {path}", "this user may not write to it", hint)


def kernel_has_wireguard(modules: Path = MODULES) -> bool:
    """Whether the kernel has WireGuard, or a module with it; yes, where the modules are hidden from us.

    The kernel loads what `ip link add` asks for, also for a service that may not see it (ProtectKernelModules=).
    """
    if Path("/sys/module/wireguard").exists():
        return True
    for name in ("modules.dep", "modules.builtin"):
        try:
            if "/wireguard.ko" in Path(modules, platform.release(), name).read_text():
                return True
        except PermissionError:
            return True
        except OSError:
            continue
    return False
