"""The kernel's namespaces (namespaces(7)): moving a thread into one, and the way back to the machine's own.

Python has no calls for them before 3.12, so they are the C library's. All of them move the calling thread alone;
threads and children that it starts afterwards are where it is.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

from vpnpf.interfaces import Outside

CLONE_FS, CLONE_NEWNS, CLONE_NEWNET = 0x200, 0x20000, 0x40000000
MS_NOSUID, MS_NODEV, MS_BIND, MS_REC, MS_SLAVE = 0x2, 0x4, 0x1000, 0x4000, 0x80000
MNT_DETACH = 2
NAMED = Path("/run/netns")
"""Where `ip netns` keeps namespaces that have a name."""
OWN = "/proc/thread-self/ns"

_libc = ctypes.CDLL(None, use_errno=True)


def enter(descriptor: int, kind: int) -> None:
    """Put the calling thread into a namespace (setns(2)). Raises OSError."""
    _ok(_libc.setns(descriptor, kind))


def enter_mounts(descriptor: int) -> None:
    """Put the calling thread, one of its own that ends afterwards, into a mount namespace. Raises OSError."""
    _ok(_libc.unshare(CLONE_FS))  # the kernel moves nobody who shares root and working directory with others
    enter(descriptor, CLONE_NEWNS)


def number(path: str | Path = f"{OWN}/net") -> tuple[int, int]:
    """What tells one namespace from all others. Raises OSError."""
    found = Path(path).stat()
    return found.st_dev, found.st_ino


def is_namespace(path: Path) -> bool:
    """Whether a file stands for a namespace; what a reboot or another mount namespace left is an empty file."""
    try:
        return number(path)[0] == number()[0]
    except OSError:
        return False


def own_mounts() -> None:
    """Give the calling thread mounts of its own: what it mounts is seen by nobody else, what others mount by it too.

    Raises OSError.
    """
    _ok(_libc.unshare(CLONE_NEWNS))
    _mount("none", "/", "", MS_REC | MS_SLAVE)


def lay(source: Path, target: Path) -> None:
    """Let a file be seen in the place of another, with mounts of our own only (mount(2), MS_BIND). Raises OSError."""
    _mount(str(source), str(target), "", MS_BIND)


def cover(directory: Path) -> None:
    """Let an empty directory be seen in the place of another, with mounts of our own only. Raises OSError."""
    _mount("none", str(directory), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755,size=64k")


def uncover(path: Path) -> None:
    """Take away what was mounted on a path, at once for whoever looks there (umount2(2)). Raises OSError."""
    _ok(_libc.umount2(os.fsencode(path), MNT_DETACH))


def members(namespace: tuple[int, int]) -> tuple[int, ...]:
    """Ids of the processes in a network namespace, our own left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if number(entry / "ns/net") == namespace:
                    found.append(int(entry.name))
    return tuple(sorted(found))


@contextlib.contextmanager
def outside() -> Iterator[Outside]:
    """The namespaces that the calling thread is in now, to come back to them (nsenter(1), setns(2)). Raises OSError."""
    with contextlib.ExitStack() as stack:
        net, mounts = (os.open(f"{OWN}/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("net", "mnt"))
        stack.callback(os.close, net)
        stack.callback(os.close, mounts)

        def enter_both() -> None:
            enter_mounts(mounts)
            enter(net, CLONE_NEWNET)

        ours = f"/proc/{os.getpid()}/fd"
        yield Outside(number(), ("nsenter", f"--net={ours}/{net}", f"--mount={ours}/{mounts}"), enter_both)


def _mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    _ok(_libc.mount(*map(os.fsencode, (source, target, kind)), ctypes.c_ulong(flags), os.fsencode(data)))


def _ok(result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
