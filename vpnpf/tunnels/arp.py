"""Whom the kernel answers ARP for (ip-sysctl, arp_ignore), narrowed while a tunnel is up."""

from __future__ import annotations

from pathlib import Path

from vpnpf.errors import Unavailable

CONF = Path("/proc/sys/net/ipv4/conf")
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
        self._keep = keep
        """Where it is kept that the value was ours; in a directory that only we can write."""
        self._all = conf / "all/arp_ignore"

    def narrow(self) -> None:
        """Answer on each link for its own addresses alone. Raises Unavailable; then nothing has changed."""
        try:
            if self._all.read_text().strip() != ANY:
                return
            self._keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._keep.write_text(ANY)
            try:
                self._all.write_text(OWN_DEVICE)
            except OSError:
                self._keep.unlink()  # else what a person sets now would be taken for ours
                raise
        except OSError as error:
            hint = "set net.ipv4.conf.all.arp_ignore = 1 yourself (deploy/systemd/sysctl.conf does it at boot)"
            raise Unavailable(f"writing {self._all}", error.strerror or str(error), hint) from error

    def restore(self) -> None:
        """Put back what `narrow` changed; what somebody else set meanwhile stays. Raises Unavailable."""
        try:
            kept = self._keep.read_text().strip()
        except OSError:
            return
        try:
            if kept == ANY and self._all.read_text().strip() == OWN_DEVICE:
                self._all.write_text(ANY)
            self._keep.unlink(missing_ok=True)
        except OSError as error:
            raise Unavailable(f"writing {self._all}", error.strerror or str(error), "set it to 0 yourself") from error
