"""A setting of the kernel below /proc/sys: changed while a tunnel is up, and put back."""

from __future__ import annotations

import contextlib
from pathlib import Path

from vpnpf.errors import Unavailable

CONF = Path("/proc/sys/net/ipv4/conf")


class Setting:
    """One of net.ipv4.conf.all, which has a value of ours for a time."""

    def __init__(self, name: str, ours: str, keep: Path, conf: Path = CONF) -> None:
        self._name = name
        self._ours = ours
        self._keep = keep
        """Where the value before is kept meanwhile; in a directory that only we can write."""
        self._conf = conf
        self._path = conf / "all" / name

    def value(self) -> str:
        """As it is now. Raises OSError."""
        return self._path.read_text().strip()

    def everywhere(self) -> set[str]:
        """The values of all devices, and of "all" and "default". Raises OSError."""
        return set(map(_read, self._conf.glob(f"*/{self._name}")))

    def change(self) -> None:
        """Give it our value. Raises OSError; then nothing has changed."""
        self._keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._keep.write_text(self.value())
        try:
            self._path.write_text(self._ours)
        except OSError:
            self._keep.unlink()  # else what a person sets now would be taken for ours
            raise

    def restore(self) -> None:
        """Put the value before back; what somebody else set meanwhile stays. Raises Unavailable."""
        try:
            kept = self._keep.read_text().strip()
        except OSError:
            return
        try:
            if self.value() == self._ours and kept.isascii() and kept.isdigit() and int(kept) < int(self._ours):
                self._path.write_text(kept)
            self._keep.unlink(missing_ok=True)
        except OSError as error:
            hint = f"set it to {kept}: it was that before"
            raise Unavailable(f"writing {self._path}", error.strerror or str(error), hint) from error

    def unavailable(self, error: OSError) -> Unavailable:
        """What it means that it could not be changed."""
        hint = (
            f"set net.ipv4.conf.all.{self._name} = {self._ours} yourself (deploy/systemd/sysctl.conf does it at boot)"
        )
        return Unavailable(f"writing {self._path}", error.strerror or str(error), hint)


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):  # a device that goes away takes its settings along
        return path.read_text().strip()
    return ""
