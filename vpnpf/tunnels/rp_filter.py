"""The kernel's reverse path filter (ip-sysctl, rp_filter), loosened while a tunnel is up."""

from __future__ import annotations

from pathlib import Path

from vpnpf.tunnels.setting import CONF, Setting

STRICT, LOOSE = "1", "2"


class ReversePathFilter:
    """A strict filter drops the server's answers: they carry no mark, and without it the way back is the tunnel.

    The larger of the values of "all" and of a device counts for that device, so one change loosens them all.
    """

    def __init__(self, keep: Path, conf: Path = CONF) -> None:
        self._setting = Setting("rp_filter", LOOSE, keep, conf)

    def loosen(self) -> None:
        """Make it loose if it is strict anywhere. Raises Unavailable; then nothing has changed."""
        try:
            if self._setting.value() != LOOSE and STRICT in self._setting.everywhere():
                self._setting.change()
        except OSError as error:
            raise self._setting.unavailable(error) from error

    def restore(self) -> None:
        """Put back what `loosen` changed; what somebody else set meanwhile stays. Raises Unavailable."""
        self._setting.restore()
