"""What a valid answer is, written from the layouts of RFC 6886 and RFC 6887 alone, and nothing of vpnpf.

Each function returns what a datagram says as plain values, or None if nobody may take it for an answer.
"""

from __future__ import annotations

import ipaddress
import struct

DAY = 86400
UNSPECIFIED = "0.0.0.0"
IPV4_MAPPED = bytes.fromhex("00000000000000000000ffff")


def natpmp_error(data: bytes, opcode: int) -> int | None:
    """The result code of an error answer, 1 to 65535 (RFC 6886 section 3.5)."""
    if len(data) < 4:
        return None
    version, answered, result = struct.unpack_from("!BBH", data)
    if version == 2 and answered >= 128 and result & 0xFF == 1:
        return 1  # a PCP server; the byte before its result is reserved (RFC 6887 section 7.2)
    if version != 0 or result == 0 or len(data) > 16:
        return None
    unread = result == 1 and len(data) >= 8
    return result if unread or answered == opcode + 128 else None


def natpmp_address(data: bytes):
    """("error", result) or ("address", epoch, address or None) (RFC 6886 section 3.2)."""
    if (result := natpmp_error(data, 0)) is not None:
        return "error", result
    if len(data) != 12:
        return None
    version, opcode, result, epoch, a, b, c, d = struct.unpack("!BBHI4B", data)
    if (version, opcode, result) != (0, 128, 0):
        return None
    address = f"{a}.{b}.{c}.{d}"
    return "address", epoch, None if address == UNSPECIFIED else address


def natpmp_mapping(data: bytes, opcode: int, internal_port: int):
    """("error", result) or ("mapping", epoch, internal, external, seconds) (RFC 6886 section 3.3)."""
    if (result := natpmp_error(data, opcode)) is not None:
        return "error", result
    if len(data) != 16:
        return None
    version, answered, result, epoch, internal, external, lifetime = struct.unpack("!BBHIHHI", data)
    if (version, answered, result, internal) != (0, opcode + 128, 0, internal_port):
        return None
    if lifetime > 0 and external == 0:
        return None
    return "mapping", epoch, internal, external, min(lifetime, DAY)


def _pcp_header(data: bytes, opcode: int):
    """Version, result, lifetime and epoch of RFC 6887 section 7.2, or None."""
    if len(data) < 24 or len(data) > 1100 or len(data) % 4 != 0:
        return None
    version, answered, _, result, lifetime, epoch = struct.unpack_from("!BBBBII", data)
    if answered != 128 + opcode:
        return None
    if version == 2 or (version != 0 and result == 1):
        return version, result, lifetime, epoch
    return None


def _old_gateway(data: bytes):
    """A NAT-PMP gateway that says it does not know the version (RFC 6886 section 3.5)."""
    if 8 <= len(data) <= 16 and data[0] == 0:
        result, epoch = struct.unpack_from("!HI", data, 2)
        if result == 1:
            return "natpmp", epoch
    return None


def _pcp_error(version: int, result: int, lifetime: int, epoch: int):
    """How long an error lasts (RFC 6887 section 7.4): the short ones are NETWORK_FAILURE, NO_RESOURCES, USER_EX_QUOTA."""
    usual = 30 if result in (7, 8, 10) else 1800
    return "error", result, min(lifetime or usual, DAY), epoch, version


def _options(data: bytes) -> list[int] | None:
    """Codes of options that fill the rest exactly, each padded to a multiple of 4 (RFC 6887 section 7.3)."""
    codes, at = [], 0
    while at < len(data):
        if at + 4 > len(data):
            return None
        code, _, length = struct.unpack_from("!BBH", data, at)
        at += 4 + length + -length % 4
        if at > len(data):
            return None
        codes.append(code)
    return codes


def pcp_announce(data: bytes):
    """("announce", epoch), an error, or ("natpmp", epoch) (RFC 6887 section 14.1)."""
    header = _pcp_header(data, 0)
    if header is None:
        return _old_gateway(data)
    version, result, lifetime, epoch = header
    if result != 0:
        return _pcp_error(version, result, lifetime, epoch)
    return None if _options(data[24:]) is None else ("announce", epoch)


def pcp_map(data: bytes, nonce: bytes, number: int, internal_port: int):
    """("map", epoch, internal, external, address, seconds, options), an error, or ("natpmp", epoch) (section 11.1)."""
    header = _pcp_header(data, 1)
    if header is None:
        return _old_gateway(data)
    version, result, lifetime, epoch = header
    if len(data) < 60:
        # Only who knows neither version nor opcode may leave the body out, and then all of it.
        return _pcp_error(*header) if len(data) == 24 and result in (1, 4) else None
    echoed, protocol, _, internal, external, raw = struct.unpack_from("!12sB3sHH16s", data, 24)
    if echoed != nonce or protocol != number or internal != internal_port:
        return None
    if result != 0:
        return _pcp_error(version, result, lifetime, epoch)
    options = _options(data[60:])
    if options is None or (lifetime > 0 and external == 0):
        return None
    return "map", epoch, internal, external, _address(raw), min(lifetime, DAY), tuple(options)


def _address(raw: bytes) -> str | None:
    """The address in RFC 6887's 16 bytes (section 5); None: it is all zeros."""
    if raw[:12] == IPV4_MAPPED:
        text = ".".join(map(str, raw[12:]))
        return None if text == UNSPECIFIED else text
    return None if raw == bytes(16) else str(ipaddress.IPv6Address(raw))


def announcement(data: bytes):
    """(version, epoch, address or None) of what is sent to 224.0.0.1:5350; an error announces nothing."""
    said = natpmp_address(data)
    if said is not None and said[0] == "address":
        return 0, said[1], said[2]
    said = pcp_announce(data)
    if said is not None and said[0] == "announce":
        return 2, said[1], None
    return None
