"""The network namespace of a profile: in it there is `lo` and the tunnel, so there is no other way out.

The engine itself moves in, so that the packet filter, routes, sockets and the torrent client's API are those inside.
Outside stays what carries the tunnel: its own packets, and the look-up of the server's name. A WireGuard device
keeps sending from the namespace that it was made in, wherever it is moved (wireguard.com/netns).

The namespace has a name (`ip netns`), so it outlives us, and with it the programs in it; the next run takes it over.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from vpnpf.errors import PermissionDenied, Unavailable
from vpnpf.interfaces import Outside
from vpnpf.io import netns, privileges, process
from vpnpf.tunnels.namespace_files import Files

_IPV6 = Path("/proc/sys/net/ipv6/conf")
_ENTERING = "entering the tunnel's network namespace"
_MOST = 5
"""Programs that are named when a namespace cannot go."""


class ProfileNamespace:
    """The namespace of one profile, found by its name.

    `runner` is a process that is in it, to find it where its name cannot be seen: where vpnpf was given mounts of its
    own, by a container or a unit of systemd.
    """

    def __init__(self, profile: str, runner: int | None = None) -> None:
        self.name = f"vpnpf-{profile}"
        """As `ip netns` shows it."""
        self.path = netns.NAMED / self.name if runner is None else Path(f"/proc/{runner}/ns/net")
        self.files = Files(self.name)
        self._outside: Outside | None = None
        self._number = (0, 0)

    @property
    def exists(self) -> bool:
        """Whether it is there, and not where we are."""
        return netns.is_namespace(self.path) and netns.number(self.path) != netns.number()

    def check_machine(self) -> None:
        """See that this machine has what `move_in` needs. Raises Unavailable, PermissionDenied."""
        for program in ("ip", "nsenter"):
            process.find(program)
        privileges.need(privileges.ADMIN, _ENTERING, "a network namespace for the tunnel needs root (CAP_SYS_ADMIN)")

    async def move_in(self, outside: Outside) -> None:
        """Make it, or take over what an earlier run left, and put the calling thread into it.

        `outside` is where we are now. Raises Unavailable, PermissionDenied, Transient; then `leave`.
        """
        ipv6 = _ipv6()
        self._outside = (
            outside  # from here on there may be something to remove, also if we are ended in the midst of it
        )
        if not self.exists:
            with contextlib.suppress(OSError):  # an empty file, if anything: it stands for nothing any more
                self.path.unlink()
            await process.must(("ip", "netns", "add", self.name), doing="making the tunnel's network namespace")
        self.files.make()
        self.enter()
        await process.must(("ip", "link", "set", "lo", "up"), doing=_ENTERING)
        for name, value in ipv6.items():
            if value == "1":
                (_IPV6 / name / "disable_ipv6").write_text(value)

    def enter(self) -> None:
        """Put the calling thread into it, with our files in the place of the machine's.

        Raises Unavailable, PermissionDenied.
        """
        try:
            here = netns.number()
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if netns.number(self.path) == here:
                    cause, hint = "it is the one that this machine's own links are in", f"ip netns del {self.name}"
                    raise Unavailable(_ENTERING, cause, hint)
                netns.own_mounts()
                self.files.show()
                netns.enter(descriptor, netns.CLONE_NEWNET)
            finally:
                os.close(descriptor)
            self._number = netns.number()
        except PermissionError as error:
            raise PermissionDenied(_ENTERING, error.strerror or str(error), "run it with sudo") from error
        except OSError as error:
            raise Unavailable(_ENTERING, error.strerror or str(error)) from error

    def leave(self) -> str:
        """Go back outside and remove it, unless programs live in it: then say which. Empty: it is gone.

        Nothing happens the second time.
        """
        if self._outside is None:
            return ""
        outside, self._outside = self._outside, None
        inside = self._number
        with contextlib.suppress(OSError):
            outside.enter()
        if inside != (0, 0) and (living := netns.members(inside)):
            named = ", ".join(f"{_comm(pid)} ({pid})" for pid in living[:_MOST])
            more = f" and {len(living) - _MOST} more" if len(living) > _MOST else ""
            return (
                f"the network namespace {self.name} stays, without a way out, since programs run in it: {named}{more}"
            )
        if not os.access(self.path.parent, os.W_OK):  # it was made for us, and stays
            return ""
        try:
            if netns.is_namespace(self.path):
                if netns.number(self.path) == outside.number:  # somebody else's name for this machine's own
                    return ""
                netns.uncover(self.path)
            self.path.unlink(missing_ok=True)
        except OSError as error:
            return f"the network namespace {self.name} stays: {error.strerror or error}"
        self.files.remove()
        return ""


def _ipv6() -> dict[str, str]:
    """Whether IPv6 is switched off, for the devices there are and those to come; empty: the kernel has none."""
    found = {}
    for name in ("all", "default"):
        with contextlib.suppress(OSError):
            found[name] = (_IPV6 / name / "disable_ipv6").read_text().strip()
    return found


def _comm(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path("/proc", str(pid), "comm").read_text().strip()
    return "?"
