"""Questions that somebody in a tunnel answers if he is there: the provider's gateway, and its resolver.

Whatever comes back is an answer, an ICMP error too; what it says is not looked at.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import socket
import struct

from vpnpf.model import Tunnel

_GATEWAY_PORT, _DNS_PORT = 5351, 53
_EXTERNAL_ADDRESS = b"\0\0"
"""Asks for the external address (RFC 6886 section 3.2); it changes nothing, also where nobody knows it."""
_OPT = 41
_PADDING = 12
"""EDNS option (RFC 7830)."""
_BIND_DEVICE = 25
"""SO_BINDTODEVICE."""
_ANY_BYTES = 512


async def ask(tunnel: Tunnel, patience: float, size: int = 0) -> bool:
    """Ask everybody there is, and wait for the first answer for `patience` seconds; say whether one came.

    `size`: bytes that the packets with the questions have to have, IP header included, and may not be cut into
    parts on the way (0: as they come). Only the resolver is asked then.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as stack:
        waiting: set[asyncio.Task[bool]] = set()
        for address, port, data in _questions(tunnel, size):
            with contextlib.suppress(OSError):
                asked = stack.enter_context(_socket(tunnel.interface, address, whole=bool(size)))
                asked.connect((address, port))
                asked.send(data)
                waiting.add(loop.create_task(_answered(asked)))
        try:
            async with asyncio.timeout(patience):
                while waiting:
                    done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                    if any(each.result() for each in done):
                        return True
        except TimeoutError:
            pass
        finally:
            for each in waiting:
                each.cancel()
            if waiting:
                await asyncio.wait(waiting)
    return False


async def _answered(asked: socket.socket) -> bool:
    try:
        await asyncio.get_running_loop().sock_recv(asked, _ANY_BYTES)
    except ConnectionRefusedError:  # somebody is there to say so
        return True
    except OSError:
        return False
    return True


def _socket(interface: str, address: str, *, whole: bool) -> socket.socket:
    v6 = ":" in address
    made = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, _BIND_DEVICE, interface.encode() + b"\0")
        if whole:
            # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE; the same for IPv6: not in parts, whatever is known of the way.
            made.setsockopt(*((socket.IPPROTO_IPV6, 23, 3) if v6 else (socket.IPPROTO_IP, 10, 3)))
    except OSError:
        made.close()
        raise
    return made


def _questions(tunnel: Tunnel, size: int) -> list[tuple[str, int, bytes]]:
    found = [(address, _DNS_PORT, query(size - _headers(address) if size else 0)) for address in tunnel.plan.dns]
    if tunnel.gateway and not size:
        found.append((tunnel.gateway, _GATEWAY_PORT, _EXTERNAL_ADDRESS))
    return found


def _headers(address: str) -> int:
    return (40 if ipaddress.ip_address(address).version == 6 else 20) + 8  # noqa: PLR2004 - the version


def query(size: int) -> bytes:
    """A query for the root's name servers (RFC 1035 section 4.1), padded to `size` bytes (RFC 7830)."""
    identifier = os.urandom(2)
    header = identifier + struct.pack("!HHHHH", 0x0100, 1, 0, 0, 1)
    question = b"\0" + struct.pack("!HH", 2, 1)
    fixed = len(header) + len(question) + 11
    padding = max(0, size - fixed - 4)
    options = struct.pack("!HH", _PADDING, padding) + bytes(padding) if size else b""
    return header + question + b"\0" + struct.pack("!HHIH", _OPT, 1232, 0, len(options)) + options
