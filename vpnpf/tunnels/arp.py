"""Whom the kernel answers ARP for (ip-sysctl, arp_ignore), narrowed while a tunnel is up."""

from __future__ import annotations

from pathlib import Path

from vpnpf.tunnels.setting import CONF, Setting

ANY, OWN_DEVICE = "0", "1"


class ArpReplies:
    """By default the kernel answers on every link for every address of the machine, also for the tunnel's.

    Whoever is on the LAN finds the tunnel's address by asking for all of them, which is half of CVE-2019-14899, and
    no rule of the packet filter sees ARP. With 1 a link is answered for the addresses on it alone.

    The larger of the values of "all" and of a device counts for that device, so one change narrows them all, and
    what somebody made narrower still stays. 1 rather than 2: who asks whether an address is free (RFC 5227) must
    hear that it is not.
    """

    def __init__(self, keep: Path, conf: Path = CONF) -> None:
        self._setting = Setting("arp_ignore", OWN_DEVICE, keep, conf)

    def narrow(self) -> None:
        """Answer on each link for its own addresses alone. Raises Unavailable; then nothing has changed."""
        try:
            if self._setting.value() == ANY:
                self._setting.change()
        except OSError as error:
            raise self._setting.unavailable(error) from error

    def restore(self) -> None:
        """Put back what `narrow` changed; what somebody else set meanwhile stays. Raises Unavailable."""
        self._setting.restore()
