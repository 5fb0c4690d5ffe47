"""What must survive a restart, and who may run: small JSON files and locks.

Files are 0600 in a directory of 0700, replaced in one step: after a crash there is the old value or the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from vpnpf.errors import Unavailable
from vpnpf.whole_file import replace_file

STATUS = "status-"
"""What the name of a status file in the runtime directory begins with; then comes the profile's."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def state_directory() -> Path:
    """Where values are kept: $STATE_DIRECTORY (systemd.exec(5)), /var/lib/vpnpf for root, else the XDG state home."""
    return _directory("STATE_DIRECTORY", "/var/lib/vpnpf", "XDG_STATE_HOME", ".local/state")


def runtime_directory() -> Path:
    """Where locks are kept, gone after a reboot: $RUNTIME_DIRECTORY, /run/vpnpf for root, else the XDG runtime dir."""
    return _directory("RUNTIME_DIRECTORY", "/run/vpnpf", "XDG_RUNTIME_DIR", ".cache")


def secrets_directory() -> Path:
    """Where what is secret is kept over a restart, and nothing else: leases with their tokens, and what providers store."""
    return state_directory() / "secrets"


def _directory(systemd: str, roots: str, xdg: str, otherwise: str) -> Path:
    given = os.environ.get(systemd, "").partition(":")[0]
    if given:
        return Path(given)
    if os.geteuid() == 0:
        return Path(roots)
    home = os.environ.get(xdg)
    try:
        return Path(home) / "vpnpf" if home else Path.home() / otherwise / "vpnpf"
    except RuntimeError as error:
        raise Unavailable("choosing a directory", "this user has no home", f"set {systemd}") from error


def make_private(directory: Path) -> Path:
    """Make a directory 0700 with its parents; one that is there has to be ours alone to write.

    Raises Unavailable if it cannot be made, or others could put files into it.
    """
    doing = f"making {directory}"
    try:
        _make(directory)
        found = directory.lstat()
    except OSError as error:
        raise Unavailable(doing, error.strerror or str(error), "set STATE_DIRECTORY and RUNTIME_DIRECTORY") from error
    if stat.S_ISDIR(found.st_mode) and os.geteuid() == 0 != found.st_uid:
        hint = "run it as that user, or start its service: systemctl start vpnpf@PROFILE"
        raise Unavailable(doing, f"it belongs to the user {found.st_uid}, who runs vpnpf", hint)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {0, os.geteuid()}:
        raise Unavailable(doing, "it is not a directory of ours", "remove it, or set another one")
    if found.st_mode & 0o022:
        raise Unavailable(
            doing, f"others may write to it (mode {found.st_mode & 0o7777:04o})", f"chmod 700 {directory}"
        )
    return directory


def _make(directory: Path) -> None:
    """With its parents, all of them 0700: by the umask others could write to those, and then neither would be used."""
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except FileNotFoundError:
        _make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


class FileStore:
    """Values by name (`interfaces.Store`)."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def load(self, name: str) -> dict[str, object] | None:
        """The value saved last, or None. A damaged file is put aside as NAME.damaged, not raised.

        One that cannot be read at the moment is as good as none, and stays.
        """
        path = self._path(name)
        try:
            value = json.loads(path.read_bytes())
        except OSError:
            return None
        except (ValueError, RecursionError):
            value = None
        if isinstance(value, dict):
            return cast("dict[str, object]", value)
        with contextlib.suppress(OSError):
            path.replace(path.with_suffix(".damaged"))
        return None

    def save(self, name: str, value: Mapping[str, object]) -> None:
        """Replace the value in one step. Raises Unavailable if the disk says no; then the old one may stand."""
        path = self._path(name)
        text = json.dumps(dict(value))
        make_private(self._directory)
        try:
            replace_file(path, text)
            self._sync()
        except OSError as error:
            hint = f"is {self._directory} writable, and is there room?"
            raise Unavailable(f"saving {path}", error.strerror or str(error), hint) from error

    def forget(self, name: str) -> None:
        """Remove the value, and a damaged one that was put aside; nothing happens if there is none."""
        path = self._path(name)
        for each in (path, path.with_suffix(".damaged")):
            with contextlib.suppress(OSError):
                each.unlink()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name for a file: {name!r}")
        return self._directory / f"{name}.json"

    def _sync(self) -> None:
        descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class InstanceLock:
    """A lock that the kernel lets go of when its holder ends, however it ends (flock(2))."""

    def __init__(self, directory: Path, name: str, what: str) -> None:
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a name for a file: {name!r}")
        self._path = directory / f"{name}.lock"
        self._what = what
        """What the holder does, for the error: "runs the profile home"."""
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Raises Unavailable, naming the process that holds it."""
        make_private(self._path.parent)
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            hint = "it was made by another user: run vpnpf as that one, or remove it"
            raise Unavailable(f"locking {self._path}", error.strerror or str(error), hint) from error
        try:
            self._take(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def _take(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip()
            who, how = (
                (f"process {holder}", f"kill {holder}") if holder.isdigit() else ("just starting", "pgrep -a vpnpf")
            )
            raise Unavailable("starting", f"another vpnpf ({who}) {self._what}", f"end it first: {how}") from None
        with contextlib.suppress(OSError):  # a full disk: the lock holds without the number
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # The file stays: removing it would let a third process lock a file that a second one is waiting for.
        os.close(self._descriptor)


def holder(directory: Path, name: str) -> int | None:
    """The process that holds a lock, or None: nobody, or who cannot be said. The lock is not tried: that would be in the way."""
    path = directory / f"{name}.lock"
    with contextlib.suppress(OSError, ValueError):
        pid = int(path.read_text())
        held = path.stat()
        for descriptor in Path("/proc", str(pid), "fd").iterdir():
            with contextlib.suppress(OSError):  # it was closed meanwhile
                if os.path.samestat(descriptor.stat(), held):
                    return pid
    return None
