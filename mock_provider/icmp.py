"""ICMP errors, made by hand: for a gateway that refuses some requests and answers others."""

from __future__ import annotations

import socket
import struct


def port_unreachable(client: tuple[str, int], gateway: tuple[str, int], length: int) -> bytes:
    """ICMP type 3 code 3 for a datagram of `length` bytes, as a kernel sends it for a closed port (RFC 792)."""
    source, destination = socket.inet_aton(client[0]), socket.inet_aton(gateway[0])
    header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 28 + length, 0, 0x4000, 64, 17, 0, source, destination)
    header = header[:10] + _checksum(header) + header[12:]
    datagram = struct.pack("!HHHH", client[1], gateway[1], 8 + length, 0)
    message = struct.pack("!BBHI", 3, 3, 0, 0) + header + datagram
    return message[:2] + _checksum(message) + message[4:]


def _checksum(data: bytes) -> bytes:
    """The internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF).to_bytes(2, "big")
