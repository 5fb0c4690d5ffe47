"""A WireGuard device, by the kernel or by wireguard-go.

wireguard-go outlives us on purpose: as long as it lives, the routes lead into a tunnel and not into nothing, and the
next run takes over. It listens for `wg` on a socket in a directory that all network namespaces share, so whoever
listens there is looked at before he is spoken to: it may be the tunnel of a profile of the same name elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from functools import partial
from pathlib import Path

from vpnpf.errors import LeaseLost, Transient
from vpnpf.far_end import credentials
from vpnpf.interfaces import Outside
from vpnpf.io import process
from vpnpf.tunnels import outside
from vpnpf.tunnels.ending import end
from vpnpf.tunnels.whole import in_thread

SOCKETS = Path("/var/run/wireguard")
_FOREGROUND = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error"}
_START, _END = 5.0, 2.0
"""Seconds that wireguard-go has to come up, and to end by itself before it is killed."""
_PROGRAM = "wireguard-go"
_DOING = f"starting {_PROGRAM}"
_LOOKING = "looking at the tunnel"


class Device:
    """One device with one peer. Also finds and removes what a killed process of ours left under this name."""

    def __init__(self, name: str, there: Outside | None = None) -> None:
        self.name = name
        self._outside = there
        """Where its own packets leave, if that is not here."""
        self._process: process.Child | None = None
        self._socket = SOCKETS / f"{name}.sock"

    async def create(self) -> str:
        """Make the device; say by what. Raises Transient, Unavailable; then `remove` cleans up."""
        made = await process.run((*outside.at(self._outside, "ip"), "link", "add", self.name, "type", "wireguard"))
        if made.status == 0:
            await outside.bring_in(self._outside, self.name)
            return "wireguard (kernel)"
        if (other := self._listener()) is not None:
            hint = "is a profile of this name running in another container or network namespace? Rename this one"
            raise Transient(_DOING, f"process {other} has the socket of the device {self.name}", hint)
        self._process = await process.spawn((*outside.at(self._outside, _PROGRAM), self.name), _FOREGROUND)
        until = time.monotonic() + _START
        while self._listener() != self._process.pid:
            if self._process.returncode is not None or time.monotonic() > until:
                hint = "is /dev/net/tun usable, and is no other program using this device?"
                raise Transient(_DOING, f"the device {self.name} does not come up", hint)
            await asyncio.sleep(0.005)
        await outside.bring_in(self._outside, self.name)
        return _PROGRAM

    async def configure(self, text: str) -> None:
        """Give it its keys and its peer in the words of `wg setconf`. Raises Transient."""
        argv = ("wg", "setconf", self.name, "/dev/stdin")
        await process.must(argv, doing="giving the tunnel its keys", stdin=text)

    async def put_back(self, text: str) -> None:
        """Take the peer away and put it back, in the words of `wg setconf`: it begins to shake hands at once.

        The device stays, with all that is bound to it. The tunnel's own packets leave from another port than before
        unless the file names one, so that what a router on the way remembers of the old one is not in the way.
        Raises LeaseLost, Transient. Not to be cancelled, or the peer may be away and not yet back.
        """
        if self._process is not None and self._listener() != self._process.pid:
            # The name may be somebody else's now, in another network namespace: he must not get our keys.
            raise self._gone()
        await self.configure(text)

    async def handshake(self) -> int:
        """When the last handshake was, in seconds since 1970; 0: never. Raises LeaseLost, Transient."""
        return int((await self._show("latest-handshakes"))[0])

    async def transfer(self) -> tuple[int, int]:
        """Bytes received and sent. Raises LeaseLost, Transient."""
        received, sent = (await self._show("transfer"))[:2]
        return int(received), int(sent)

    async def remove(self) -> None:
        """Take it away, whoever made it. Nothing happens if there is none. Raises Transient, Unavailable."""
        listener = self._listener()
        await outside.delete(self._outside, self.name)
        ours = self._process
        if ours is not None:
            if ours.returncode is None:
                await in_thread(end, ours.pid, _END)
            await ours.wait()
            self._process = None
        else:
            # A run that was killed may have started one that does not listen yet, and would do so after us.
            home = partial(outside.home, self._outside)
            for pid in {*([listener] if listener else []), *await in_thread(_started_for, self.name)}:
                await in_thread(partial(end, pid, _END, home=home))
        await in_thread(self._remove_socket)

    async def _show(self, what: str) -> list[str]:
        """What `wg` says of the peer, without its key."""
        shown = await process.run(("wg", "show", self.name, what))
        if shown.status != 0:
            raise self._gone()
        if len(fields := shown.stdout.split()) < 2:  # noqa: PLR2004 - key and value
            raise LeaseLost(_LOOKING, f"somebody took the peer of the device {self.name} away")
        return fields[1:]

    def _gone(self) -> LeaseLost:
        return LeaseLost(_LOOKING, f"the device {self.name} is gone")

    def _remove_socket(self) -> None:
        if self._listener() is None:
            with contextlib.suppress(OSError):  # as a trace it does nothing, and the next start removes it
                self._socket.unlink()

    def _listener(self) -> int | None:
        """The process that listens on the device's socket (0: in a container below us), or None."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as control:
            control.setblocking(False)
            try:
                control.connect(str(self._socket))
            except BlockingIOError:
                return 0
            except OSError:
                return None
            return credentials(control).process


def _started_for(name: str) -> list[int]:
    """Processes of wireguard-go for a device of this name, in any network namespace, as far as we may see them."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            argv = (entry / "cmdline").read_bytes().split(b"\0")
            if argv[0].rpartition(b"/")[2] == _PROGRAM.encode() and name.encode() in argv[1:]:
                found.append(int(entry.name))
    return found
