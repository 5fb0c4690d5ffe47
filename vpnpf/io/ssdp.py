"""Looking for the gateway's UPnP device without a packet on any other way than the tunnel.

The socket is bound to the device and address, and multicast leaves by that device too, whatever the routes say:
else the search would reach the home router, which would gladly open a port there. The gateway is asked directly
first, since most tunnels carry no multicast and a packet filter takes no answer to it for one.
"""

from __future__ import annotations

import asyncio
import socket
import struct

from vpnpf.errors import NoAnswer, Transient
from vpnpf.protocol.ssdp import GROUP, LARGEST, MX, PORT, TARGETS, Found, parse, search

_MREQN = struct.Struct("=4s4si")
"""ip_mreqn, ip(7): group, address, index of the device."""
_DIRECT = (0.3, 0.7)
"""Seconds to wait after each try of asking the gateway directly; it answers at once if it does."""
_MULTICAST = (1.0, MX + 0.5)
"""The same for the group, whose members take their time."""
_GRACE = 0.3
"""Seconds that a better answer has after the first."""
_LINGER = MX + 0.5
"""Seconds in which further answers may come."""
_lingering: set[asyncio.Task[None]] = set()


async def locate(device: str, address: str, gateway: str) -> str:
    """The URL of the gateway's description, on the gateway itself; all three are names and IPv4 addresses.

    Raises NoAnswer after 4.5 s, Transient if the device is gone.
    """
    doing = f"looking for a UPnP gateway at {gateway}"
    try:
        sock = _bound(device, address)
        try:
            for host, waits in ((gateway, _DIRECT), (GROUP, _MULTICAST)):
                for wait in waits:
                    if not await _send(sock, host):
                        break
                    found = await _listen(sock, gateway, wait)
                    if found is not None:
                        return found.location
        finally:
            _close_later(sock)
    except OSError as error:
        hint = f"the device {device} is gone, or has no such address or no route to the gateway"
        if isinstance(error, PermissionError):
            hint = "a packet filter of this machine drops it, or the right to bind to a device is missing (CAP_NET_RAW)"
        raise Transient(doing, error.strerror or str(error), hint) from error
    hint = "is that the gateway of this tunnel, and is UPnP switched on there?"
    raise NoAnswer(doing, f"no answer in {sum(_DIRECT + _MULTICAST):g} s", hint)


def _bound(device: str, address: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        sock.bind((address, 0))
        own = _MREQN.pack(bytes(4), socket.inet_aton(address), socket.if_nametoindex(device))
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, own)
        # The gateway is on the link: neither those behind it nor this machine's own programs are asked.
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 1)
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
    except OSError:
        sock.close()
        raise
    return sock


def _close_later(sock: socket.socket) -> None:
    """Stay there for further answers, unread, or until the loop ends.

    One that finds nobody is told so by the kernel, with a packet (ICMP) that follows the routes and knows no device:
    it could go to the home router.
    """

    def close(task: asyncio.Task[None]) -> None:
        sock.close()
        _lingering.discard(task)

    staying = asyncio.create_task(asyncio.sleep(_LINGER))
    _lingering.add(staying)
    staying.add_done_callback(close)


async def _send(sock: socket.socket, host: str) -> bool:
    """Search for every target; False if the device carries no multicast. Raises OSError if it carries nothing."""
    loop = asyncio.get_running_loop()
    try:
        for target in TARGETS:
            await loop.sock_sendto(sock, search(target, host), (host, PORT))
    except OSError:
        if host != GROUP:
            raise
        return False
    return True


async def _listen(sock: socket.socket, gateway: str, wait: float) -> Found | None:
    """The best answer of the gateway within `wait` seconds, or None. Raises OSError."""
    loop = asyncio.get_running_loop()
    best: Found | None = None
    try:
        async with asyncio.timeout(wait) as limit:
            while best is None or best.rank > 0:
                # What is there already is read without a pause, and a flood must neither hold the loop nor the timeout.
                await asyncio.sleep(0)
                data, (sender, _) = await loop.sock_recvfrom(sock, LARGEST + 1)
                found = parse(data, sender, gateway)
                if found is None:
                    continue
                if best is None:
                    limit.reschedule(min(loop.time() + _GRACE, limit.when() or 0.0))
                if best is None or found.rank < best.rank:
                    best = found
    except TimeoutError:
        pass
    return best
