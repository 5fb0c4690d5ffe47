"""Becoming an ordinary user for good, and giving up what could leave a network namespace (capabilities(7))."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from pathlib import Path

from msgspec import Struct

from vpnpf.errors import PermissionDenied

SETPCAP, NET_ADMIN, ADMIN = 8, 12, 21
"""CAP_SETPCAP, CAP_NET_ADMIN, and CAP_SYS_ADMIN: namespaces and mounts."""
KEPT = frozenset({0, 1, 3, 4, 5, 6, 7, 10, 13})
"""What a program may still get by being root or by a file that grants it: CAP_CHOWN, DAC_OVERRIDE, FOWNER, FSETID,
KILL, SETGID, SETUID, NET_BIND_SERVICE, NET_RAW. None of them leads into another namespace or to the kernel's memory;
programs that take on root and give it up again are not hurt by their absence."""
_LAST = Path("/proc/sys/kernel/cap_last_cap")
_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_DROP, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 24, 47, 4
_VERSION_3 = 0x20080522
_WORDS = 6
"""Two triples: effective, permitted, inheritable; the low 32 bits and the high ones."""

_libc = ctypes.CDLL(None, use_errno=True)


class Identity(Struct, frozen=True):
    """A user to become."""

    uid: int
    gid: int
    name: str = ""
    """Empty: this machine knows no name for the number."""
    home: str = "/"
    shell: str = "/bin/sh"


def no_core() -> None:
    """Leave no core file behind, of this process and of those that it starts: secrets are in their memory."""
    # The soft limit, which is the one that counts, and which none of those programs raises.
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def end_with(parent: int) -> None:
    """Have us told to end (SIGTERM) when the process that started us ends, however it does (prctl(2), PR_SET_PDEATHSIG)."""
    _ok(_libc.prctl(_PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGTERM)))
    if os.getppid() != parent:  # it has ended before we said so
        os.kill(os.getpid(), signal.SIGTERM)


def need(capability: int, doing: str, cause: str, hint: str = "run it with sudo") -> None:
    """See that this process has a capability. Raises PermissionDenied."""
    if not has(capability):
        raise PermissionDenied(doing, cause, hint)


def has(capability: int) -> bool:
    """Whether a capability is in force; yes where the kernel does not say."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return True


def limit() -> None:
    """Give up, for us and for all that we start, every capability that is not KEPT. Raises OSError."""
    for each in range(int(_LAST.read_text()) + 1):
        if each not in KEPT:
            _ok(_libc.prctl(_PR_CAPBSET_DROP, *map(ctypes.c_ulong, (each, 0, 0, 0))))
    _ok(_libc.prctl(_PR_CAP_AMBIENT, *map(ctypes.c_ulong, (_PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))))
    header = (ctypes.c_uint32 * 2)(_VERSION_3, 0)
    sets = (ctypes.c_uint32 * _WORDS)()
    _ok(_libc.capget(header, sets))
    sets[2] = sets[5] = 0
    _ok(_libc.capset(header, sets))


def become(user: Identity) -> None:
    """Be this user, with his groups and no way back. Raises OSError."""
    if user.name:
        os.initgroups(user.name, user.gid)
    else:
        os.setgroups([user.gid])
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)


def _ok(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
