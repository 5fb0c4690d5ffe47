"""Frames as an attacker on the LAN writes them: TCP with SYN and ACK, ARP questions, ICMP redirects, router advertisements."""

from __future__ import annotations

import ipaddress
import json
import socket
import struct
from collections.abc import Sequence

from mock_provider.capture import Packet
from mock_provider.host import Host

ETH_ARP, ETH_IP = 0x0806, 0x0800
ARP = struct.Struct("!HHBBH6s4s6s4s")


async def hardware_address(host: Host, device: str = "eth0") -> bytes:
    """The device's address on the link."""
    listed = json.loads(await host.must(("ip", "-j", "link", "show", device)))
    return bytes.fromhex(listed[0]["address"].replace(":", ""))


def checksum(data: bytes) -> int:
    """The sum of RFC 1071."""
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ethernet(to: bytes, by: bytes, kind: int, payload: bytes) -> bytes:
    """A frame."""
    return to + by + kind.to_bytes(2, "big") + payload


def ipv4(source: str, destination: str, protocol: int, payload: bytes) -> bytes:
    """A packet of IPv4 without options (RFC 791)."""
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(payload), 7, 0, 64, protocol, 0) + addresses
    return head[:10] + checksum(head).to_bytes(2, "big") + head[12:] + payload


def syn_ack(source: str, destination: str, port: int, to_port: int) -> bytes:
    """A TCP segment with SYN and ACK that nobody asked for: whoever has the address answers with RST (RFC 9293 3.5.2)."""
    segment = struct.pack("!HHIIBBHHH", port, to_port, 1, 1, 5 << 4, 0x12, 1024, 0, 0)
    pseudo = socket.inet_aton(source) + socket.inet_aton(destination) + struct.pack("!BBH", 0, 6, len(segment))
    segment = segment[:16] + checksum(pseudo + segment).to_bytes(2, "big") + segment[18:]
    return ipv4(source, destination, socket.IPPROTO_TCP, segment)


def arp_question(by: bytes, source: str, wanted: str) -> bytes:
    """Who has this address? (RFC 826)"""
    head = (1, ETH_IP, 6, 4, 1, by, socket.inet_aton(source), bytes(6), socket.inet_aton(wanted))
    return ethernet(b"\xff" * 6, by, ETH_ARP, ARP.pack(*head))


def arp_answer(frame: bytes) -> str:
    """The address that an ARP answer is about; empty: it is none."""
    if int.from_bytes(frame[12:14], "big") != ETH_ARP or len(frame) < 14 + ARP.size:
        return ""
    fields = ARP.unpack_from(frame, 14)
    return socket.inet_ntoa(fields[6]) if fields[4] == 2 else ""


def redirect(router: str, packet: Packet, better: str) -> bytes:
    """ICMP redirect for a packet that was seen (RFC 792): "send that by way of `better`"."""
    inner = ipv4(packet.source, packet.destination, packet.protocol, packet.payload[:8])
    message = struct.pack("!BBH4s", 5, 1, 0, socket.inet_aton(better)) + inner
    message = message[:2] + checksum(message).to_bytes(2, "big") + message[4:]
    return ipv4(router, packet.source, socket.IPPROTO_ICMP, message)


def router_advertisement(by: bytes, *, prefix: str = "", routes: Sequence[str] = ()) -> bytes:
    """ICMPv6 router advertisement of high preference, with a prefix to make addresses of (RFC 4861 4.2) and routes (RFC 4191)."""
    message = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0x08, 1800, 0, 0) + bytes((1, 1)) + by
    if prefix:
        network = ipaddress.IPv6Network(prefix)
        message += (
            struct.pack("!BBBBIII", 3, 4, network.prefixlen, 0xC0, 3600, 3600, 0) + network.network_address.packed
        )
    for route in routes:
        network = ipaddress.IPv6Network(route)
        message += struct.pack("!BBBBI", 24, 3, network.prefixlen, 0x08, 1800) + network.network_address.packed
    return message
