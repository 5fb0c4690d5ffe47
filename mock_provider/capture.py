"""Counting packets on a cable, so that "no leak" is a measurement.

A count of zero is worth something only if the capture could see packets at that moment. So each count
first sends a control frame down the same cable and waits for it; it is the barrier as well: what was
sent before it has been counted when it arrives.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

ETH_P_ALL = 0x0003
ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_CONTROL = 0x88B5
"""IEEE 802 local experimental ethertype 1."""
PACKET_OUTGOING = 4
SOL_PACKET = 263
PACKET_STATISTICS = 6
PACKET_QDISC_BYPASS = 20
SO_RCVBUFFORCE = 33
RECEIVE_BUFFER = 32 << 20
ICMPV6_HOUSEKEEPING = frozenset({131, 132, 133, 134, 135, 136, 137, 143})
"""Neighbour discovery and multicast listener reports: never leave the link."""


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet as it passed on the cable."""

    outbound: bool
    """Whether the client sent it."""
    ethertype: int
    source: str = ""
    destination: str = ""
    protocol: int = 0
    """IP protocol number; 6: TCP, 17: UDP, 1: ICMP, 58: ICMPv6."""
    source_port: int = 0
    destination_port: int = 0
    """For ICMP and ICMPv6: the type."""
    payload: bytes = b""
    """What follows the IP header."""

    @property
    def is_ip(self) -> bool:
        return self.ethertype in (ETH_P_IP, ETH_P_IPV6)


Predicate = Callable[[Packet], bool]


def parse(frame: bytes, *, outbound: bool) -> Packet:
    """An Ethernet frame as a Packet; extension headers of IPv6 are not followed."""
    ethertype = int.from_bytes(frame[12:14], "big")
    if ethertype == ETH_P_IP and len(frame) >= 34:
        start = 14 + (frame[14] & 0x0F) * 4
        protocol = frame[23]
        source, destination = (
            socket.inet_ntop(socket.AF_INET, frame[26:30]),
            socket.inet_ntop(socket.AF_INET, frame[30:34]),
        )
    elif ethertype == ETH_P_IPV6 and len(frame) >= 54:
        start = 54
        protocol = frame[20]
        source, destination = (
            socket.inet_ntop(socket.AF_INET6, frame[22:38]),
            socket.inet_ntop(socket.AF_INET6, frame[38:54]),
        )
    else:
        return Packet(outbound, ethertype)
    rest = frame[start:]
    ports = (0, 0)
    if protocol in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) and len(rest) >= 4:
        ports = struct.unpack_from("!HH", rest)
    elif protocol in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) and rest:
        ports = (0, rest[0])
    return Packet(outbound, ethertype, source, destination, protocol, *ports, rest)


def leak(
    endpoint: str = "198.51.100.10",
    port: int = 51820,
    *,
    lan: tuple[str, ...] = (),
    transport: int = socket.IPPROTO_UDP,
) -> Predicate:
    """Whatever IP the client sends outside its tunnel.

    Left out: UDP (or another `transport`) to the tunnel's endpoint, DHCP, and IPv6 housekeeping of the link; and packets to the
    prefixes in `lan`, for profiles that keep the LAN reachable.
    """
    prefixes = tuple(map(ipaddress.ip_network, lan))

    def housekeeping(packet: Packet) -> bool:
        if packet.protocol == transport and (packet.destination, packet.destination_port) == (endpoint, port):
            return True
        if packet.protocol == socket.IPPROTO_UDP:
            return packet.ethertype == ETH_P_IP and (packet.source_port, packet.destination_port) == (68, 67)
        if packet.protocol == socket.IPPROTO_ICMPV6:
            # An error to a neighbour's link-local address stays on the link too (RFC 4291 section 2.5.6).
            return packet.destination_port in ICMPV6_HOUSEKEEPING or packet.destination.startswith("fe80:")
        # Listener reports travel behind a hop-by-hop header.
        return packet.ethertype == ETH_P_IPV6 and packet.protocol == 0 and packet.destination == "ff02::16"

    def leaked(packet: Packet) -> bool:
        if not packet.outbound or not packet.is_ip or housekeeping(packet):
            return False
        if not packet.destination:
            return True  # cut short, but it says that it is IP
        return not any(ipaddress.ip_address(packet.destination) in prefix for prefix in prefixes)

    return leaked


class Capture:
    """Packets on one end of a cable that match a predicate; an async context manager."""

    def __init__(
        self,
        near: Callable[[int, int, int], socket.socket],
        interface: str,
        far: Callable[[int, int, int], socket.socket],
        far_interface: str,
        predicate: Predicate | None = None,
    ) -> None:
        self._near, self._interface = near, interface
        self._far, self._far_interface = far, far_interface
        self._predicate = predicate or (lambda packet: packet.is_ip)
        self.packets: list[Packet] = []
        """Those that matched, in order; complete only after `count`."""
        self.others = 0
        """How many did not match."""
        self._changed = asyncio.Event()
        self._control = b""

    async def __aenter__(self) -> Self:
        self._socket = self._near(socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:  # root of a user namespace only: the machine's limit stands
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self._sender = self._far(socket.AF_PACKET, socket.SOCK_RAW, 0)
        # Past the queue. No filter of IP sees it either; one at the device's egress that drops unknown frames would,
        # and then a count fails rather than prove anything.
        self._sender.setsockopt(SOL_PACKET, PACKET_QDISC_BYPASS, 1)
        self._sender.bind((self._far_interface, 0))
        self._socket.bind((self._interface, ETH_P_ALL))
        asyncio.get_running_loop().add_reader(self._socket, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()
        self._sender.close()

    def _read(self) -> bool:
        """Take what has arrived; whether there may be more."""
        more = True
        try:
            for _ in range(512):
                frame, address = self._socket.recvfrom(65535)
                if self._control and frame[14 : 14 + len(self._control)] == self._control:
                    self._control = b""
                elif int.from_bytes(frame[12:14], "big") != ETH_P_CONTROL:
                    packet = parse(frame, outbound=address[2] != PACKET_OUTGOING)
                    if self._predicate(packet):
                        self.packets.append(packet)
                    else:
                        self.others += 1
        except OSError:  # nothing more to read, or the cable is down
            more = False
        self._changed.set()
        return more

    async def _until(self, done: Callable[[], bool]) -> None:
        while not done():
            self._changed.clear()
            await self._changed.wait()

    async def seen(self, number: int = 1, deadline: float = 5.0) -> None:
        """Wait until so many packets have matched. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            await self._until(lambda: len(self.packets) >= number)

    async def count(self, deadline: float = 5.0) -> int:
        """How many packets have matched. Raises AssertionError if this capture could have missed one."""
        while self._read():  # so that the control frame finds room
            pass
        self._control = wanted = os.urandom(46)
        try:
            self._sender.send(b"\xff" * 6 + b"\x02\0\0\0\0\x01" + ETH_P_CONTROL.to_bytes(2, "big") + wanted)
            async with asyncio.timeout(deadline):
                await self._until(lambda: not self._control)
        except OSError as error:  # a TimeoutError is one
            cause = str(error) or "its control frame did not arrive"
            raise AssertionError(f"the capture does not see the cable: {cause}") from error
        _, dropped = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if dropped:
            raise AssertionError(f"the capture was too slow: {dropped} packets went by uncounted")
        return len(self.packets)
