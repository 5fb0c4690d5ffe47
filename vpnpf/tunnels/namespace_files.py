"""What programs in a profile's network namespace see of /etc, and what they do not see of /run.

A network namespace keeps packets in, but not questions that leave the machine by another program's mouth: over a
unix socket systemd-resolved, nscd or avahi would ask from outside. So `hosts` in nsswitch.conf(5) is cut down to
what asks from inside, and the directories with their sockets look empty.

The files lie where `ip netns exec` looks for them (ip-netns(8)), so that it shows the same.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from vpnpf.errors import Unavailable
from vpnpf.io import netns
from vpnpf.tunnels import namespace_mend

ETC = Path("/etc")
NETNS = Path("/etc/netns")
MARK = "# written by vpnpf for the programs in this network namespace\n"
COVERED = ("/run/systemd/resolve", "/run/nscd", "/var/run/nscd", "/run/avahi-daemon", "/run/dbus")
"""Directories with the sockets of what looks names up for others; the system bus leads to most of them."""
_INSIDE = {"files", "dns", "myhostname"}
"""Sources of nsswitch.conf that ask nobody outside of the namespace."""
_DOING = "giving the tunnel's network namespace its files"


class Files:
    """resolv.conf and nsswitch.conf of one namespace; also a resolver for a tunnel back end (as SystemResolver)."""

    def __init__(self, namespace: str, directory: Path = NETNS, etc: Path = ETC) -> None:
        self.directory = directory / namespace
        self._etc = etc
        self._resolver = self.directory / "resolv.conf"

    def take(self, servers: tuple[str, ...]) -> None:
        """Let programs inside ask these servers, those that run too. Raises Unavailable."""
        self._write(self._resolver, MARK + "".join(f"nameserver {server}\n" for server in servers))
        try:
            if netns.number() == netns.number(netns.NAMED / self.directory.name):
                self._mend()
        except FileNotFoundError:  # there is no such namespace yet
            return
        except OSError as error:
            raise _unavailable(self._resolver, error) from error

    def _mend(self) -> None:
        for pid, names in namespace_mend.torn(self.directory):

            def lay(names: tuple[str, ...] = names) -> None:
                for name in names:
                    netns.lay(self.directory / name, self._target(name))

            with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
                namespace_mend.within(pid, lay)

    def give_back(self) -> None:
        """Let programs inside ask nobody; nothing happens where the files are gone. Raises Unavailable."""
        if self._resolver.exists():
            self.take(())

    def make(self) -> None:
        """Write what is not there; a resolver that stands stays, programs may be using it. Raises Unavailable."""
        try:
            self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
            switch = _read(self._etc / "nsswitch.conf")
        except OSError as error:
            raise _unavailable(self.directory, error) from error
        if switch:
            self._write(self.directory / "nsswitch.conf", MARK + asking_inside(switch))
        if not self._resolver.exists():
            self.take(())

    def show(self) -> None:
        """Lay them over this machine's for the calling thread, which has mounts of its own. Raises Unavailable."""
        try:
            for each in dict.fromkeys(Path(path).resolve() for path in COVERED):
                if each.is_dir():
                    netns.cover(each)
            for file in sorted(self.directory.iterdir()):
                netns.lay(file, self._target(file.name))
        except OSError as error:
            raise _unavailable(self.directory, error) from error

    def remove(self) -> None:
        """Take away what is ours; a person's own files for this namespace stay."""
        for file in (self._resolver, self.directory / "nsswitch.conf"):
            with contextlib.suppress(OSError):
                if _read(file).startswith(MARK):
                    file.unlink()
        for directory in (self.directory, self.directory.parent):
            with contextlib.suppress(OSError):  # somebody's files are in there
                directory.rmdir()

    def _target(self, name: str) -> Path:
        """The file that a path in /etc comes to; what a link into a covered directory led to is made anew there."""
        target = (self._etc / name).resolve()
        if not target.exists() and any(target.is_relative_to(Path(path).resolve()) for path in COVERED):
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            target.touch()
        return target

    def _write(self, path: Path, text: str) -> None:
        """Write into the file: it is mounted where programs look, and a new one in its place would not be."""
        try:
            if _read(path) == text:
                return
            data = text.encode()
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                # Never too short in between: what is left of a longer text is blank lines until it is cut off.
                os.write(descriptor, data.ljust(os.fstat(descriptor).st_size, b"\n"))
                os.ftruncate(descriptor, len(data))
                os.fchmod(descriptor, 0o644)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unavailable(path, error) from error


def asking_inside(switch: str) -> str:
    """nsswitch.conf with a `hosts` line of sources that ask from where the program is. Pure."""
    lines = []
    for line in switch.splitlines():
        key, colon, rest = line.partition(":")
        if colon and key.strip() == "hosts":
            sources = re.findall(r"\[[^\]]*\]|[^\s\[]+", rest.partition("#")[0])
            kept = [each for each in dict.fromkeys(sources) if each in _INSIDE]
            lines.append(" ".join(["hosts:", *kept, *([] if "dns" in kept else ["dns"])]))
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape")
    except FileNotFoundError:
        return ""


def _unavailable(path: Path, error: OSError) -> Unavailable:
    named = error.filename or path
    return Unavailable(_DOING, f"{named}: {error.strerror or error}", "is it there, and may it be written?")
