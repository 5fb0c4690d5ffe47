"""The kernel's reverse path filter (ip-sysctl, rp_filter), loosened while a tunnel is up."""

from __future__ import annotations

import contextlib
from pathlib import Path

from vpnpf.errors import Unavailable

CONF = Path("/proc/sys/net/ipv4/conf")
STRICT, LOOSE = "1", "2"


class ReversePathFilter:
    """A strict filter drops the server's answers: they carry no mark, and without it the way back is the tunnel.

    The larger of the values of "all" and of a device counts for that device, so one change loosens them all.
    """

    def __init__(self, keep: Path, conf: Path = CONF) -> None:
        self._keep = keep
        """Where the value of "all" is kept meanwhile; in a directory that only we can write."""
        self._conf = conf
        self._all = conf / "all/rp_filter"

    def loosen(self) -> None:
        """Make it loose if it is strict anywhere. Raises Unavailable; then nothing has changed."""
        try:
            if _read(self._all) == LOOSE or STRICT not in map(_read, self._conf.glob("*/rp_filter")):
                return
            self._keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._keep.write_text(_read(self._all))
            try:
                self._all.write_text(LOOSE)
            except OSError:
                self._keep.unlink()  # else what a person sets now would be taken for ours
                raise
        except OSError as error:
            hint = "set net.ipv4.conf.all.rp_filter = 2 yourself (deploy/systemd/sysctl.conf does it at boot)"
            raise Unavailable(f"writing {self._all}", error.strerror or str(error), hint) from error

    def restore(self) -> None:
        """Put back what `loosen` changed; what somebody else set meanwhile stays. Raises Unavailable."""
        try:
            kept = self._keep.read_text().strip()
        except OSError:
            return
        try:
            if _read(self._all) == LOOSE and kept in {"0", STRICT}:
                self._all.write_text(kept)
            self._keep.unlink(missing_ok=True)
        except OSError as error:
            hint = f"set it to {kept}: it was that before"
            raise Unavailable(f"writing {self._all}", error.strerror or str(error), hint) from error


def _read(path: Path) -> str:
    with contextlib.suppress(FileNotFoundError):  # a device that goes away takes its settings along
        return path.read_text().strip()
    return ""
