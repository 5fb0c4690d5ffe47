"""What the kernel tells about changes of links, rules and packet filters, as they happen (netlink(7), rtnetlink(7)).

Nothing is asked and nothing decided here: whoever listens is woken, and looks for himself.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import struct
from collections.abc import Callable, Iterable, Iterator

from vpnpf.errors import Unavailable

ROUTE, NETFILTER = 0, 12
"""NETLINK_ROUTE, NETLINK_NETFILTER."""
LINKS, ADDRESSES4, ROUTES4, RULES4, ROUTES6, RULES6 = 1, 5, 7, 8, 11, 19
"""RTNLGRP_LINK, RTNLGRP_IPV4_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV4_RULE, RTNLGRP_IPV6_ROUTE, RTNLGRP_IPV6_RULE."""
NFTABLES = 7
"""NFNLGRP_NFTABLES."""
NEWLINK, DELLINK, DELADDR, DELROUTE, DELRULE = 16, 17, 21, 25, 33
"""RTM_*."""
UP = 1
"""IFF_UP."""
_DOING = "listening to the kernel's changes"
_SOL_NETLINK, _ADD_MEMBERSHIP = 270, 1
_HEADER = struct.Struct("=IHHII")
_LARGEST = 1 << 16


class Changes:
    """A socket that gets what is told to `groups`; it is opened by the first use and keeps what comes between two waits."""

    def __init__(self, protocol: int, groups: Iterable[int], matters: Callable[[bytes], bool]) -> None:
        self._protocol = protocol
        self._groups = tuple(groups)
        self._matters = matters
        """Says of what one datagram holds whether it is worth a look."""
        self._socket: socket.socket | None = None
        self._waiting: asyncio.Future[None] | None = None

    def listen(self) -> None:
        """Begin, if it was not begun. Raises Unavailable if the kernel does not let us."""
        if self._socket is not None:
            return
        opened = None
        try:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, self._protocol)
            opened.bind((0, 0))
            for group in self._groups:
                opened.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
        except OSError as error:
            if opened is not None:
                opened.close()
            raise Unavailable(_DOING, error.strerror or str(error)) from error
        self._socket = opened

    def forget(self) -> bool:
        """Drop what has come; say whether any of it matters."""
        found = False
        while self._socket is not None:
            try:
                found = self._matters(self._socket.recv(_LARGEST)) or found
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                found = True  # more than could be kept: who knows what
        return found

    async def wait(self) -> None:
        """Wait until something comes that matters; what has come already counts. Raises Unavailable."""
        self.listen()
        while not self.forget():
            await self._readable()

    async def _readable(self) -> None:
        if self._socket is None:
            raise Unavailable(_DOING, "it is over")
        loop, opened = asyncio.get_running_loop(), self._socket
        readable = self._waiting = loop.create_future()
        loop.add_reader(opened, lambda: None if readable.done() else readable.set_result(None))
        try:
            await readable
        finally:
            # The number may be somebody else's descriptor as soon as it is closed.
            if opened is self._socket:
                loop.remove_reader(opened)

    def close(self) -> None:
        """End it, and whoever waits for it; a later use opens it anew."""
        if self._socket is None:
            return
        if self._waiting is not None and not self._waiting.done():
            self._waiting.get_loop().remove_reader(self._socket)
            self._waiting.set_result(None)
        self._socket.close()
        self._socket = None


def messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of each message in a datagram (struct nlmsghdr); what is cut short ends it."""
    while len(datagram) >= _HEADER.size:
        length, kind, *_ = _HEADER.unpack_from(datagram)
        if not _HEADER.size <= length <= len(datagram):
            return
        yield kind, datagram[_HEADER.size : length]
        datagram = datagram[(length + 3) & ~3 :]
