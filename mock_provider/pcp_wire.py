"""PCP as it is on the wire, read and written apart from vpnpf's own codec, so that neither hides the other's mistakes."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from vpnpf.model import Protocol

HEADER, LONGEST = 24, 1100
ANNOUNCE, MAP = 0, 1
MAP_END = 60
PROTOCOLS = {6: Protocol.TCP, 17: Protocol.UDP}
PREFER_FAILURE, FILTER = 2, 3
LENGTHS = {PREFER_FAILURE: 0, FILTER: 20}
MAPPED = bytes(10) + b"\xff\xff"
ANY_ADDRESS = (MAPPED + bytes(4), bytes(16))

UNSUPP_VERSION, NOT_AUTHORIZED, MALFORMED_REQUEST, UNSUPP_OPCODE, UNSUPP_OPTION, MALFORMED_OPTION = 1, 2, 3, 4, 5, 6
NO_RESOURCES, UNSUPP_PROTOCOL, CANNOT_PROVIDE_EXTERNAL, ADDRESS_MISMATCH = 8, 9, 11, 12
SHORT_ERRORS = {7, 8, 10}
SHORT, LONG = 30, 1800
"""Seconds that errors hold (RFC 6887 section 7.4)."""


class PcpError(Exception):
    """An error answer: the result code, and for how long it holds."""

    def __init__(self, result: int, seconds: int | None = None) -> None:
        super().__init__(result)
        self.result = result
        self.seconds = (SHORT if result in SHORT_ERRORS else LONG) if seconds is None else seconds


@dataclass(frozen=True, slots=True)
class Wanted:
    """A MAP request (RFC 6887 section 11.1)."""

    lifetime: int
    nonce: bytes
    number: int
    internal: int
    external: int
    address: bytes
    prefer_failure: bool = False
    filters: tuple[bytes, ...] = ()


def header(opcode: int, result: int, seconds: int, epoch: int) -> bytes:
    """The first 24 bytes of an answer (RFC 6887 section 7.2)."""
    return struct.pack("!BBBBII12x", 2, 128 | opcode, 0, result, seconds, epoch & 0xFFFFFFFF)


def map_body(wanted: Wanted, external: int, address: bytes) -> bytes:
    """What a MAP answer says of its mapping (RFC 6887 section 11.1)."""
    return struct.pack("!12sB3xHH16s", wanted.nonce, wanted.number, wanted.internal, external, address)


def mapped(address: str) -> bytes:
    """An IPv4 address as IPv4-mapped IPv6 (RFC 6887 section 5)."""
    return MAPPED + ipaddress.IPv4Address(address).packed


def read_map(data: bytes) -> tuple[Wanted, bytes]:
    """A MAP request, and its options as they go into the answer. Raises PcpError."""
    nonce, number, internal, external, address = struct.unpack_from("!12sB3xHH16s", data, HEADER)
    if number == 0 and internal != 0:
        raise PcpError(MALFORMED_REQUEST)
    options = read_options(data[MAP_END:], LENGTHS)
    prefer_failure = [data for code, data in options if code == PREFER_FAILURE]
    filters = tuple(data for code, data in options if code == FILTER)
    if len(prefer_failure) > 1 or (prefer_failure and external == 0) or not all(map(good_filter, filters)):
        raise PcpError(MALFORMED_OPTION)
    lifetime = int.from_bytes(data[4:8])
    processed = b"".join(struct.pack("!BxH", code, len(data)) + data for code, data in options)
    return Wanted(lifetime, nonce, number, internal, external, address, bool(prefer_failure), filters), processed


def read_options(data: bytes, lengths: Mapping[int, int]) -> list[tuple[int, bytes]]:
    """Options by code, of those that have a length here (RFC 6887 section 7.3). Raises PcpError for wrong ones."""
    options = []
    while data:
        if len(data) < 4:
            raise PcpError(MALFORMED_OPTION)
        code, length = struct.unpack_from("!BxH", data)
        end = 4 + length + -length % 4
        if end > len(data):
            raise PcpError(MALFORMED_OPTION)
        if code in lengths:
            if length != lengths[code]:
                raise PcpError(MALFORMED_OPTION)
            options.append((code, data[4 : 4 + length]))
        elif code < 128:
            raise PcpError(MALFORMED_OPTION if code in LENGTHS else UNSUPP_OPTION)
        data = data[end:]
    return options


def good_filter(data: bytes) -> bool:
    """Whether a FILTER option makes sense (RFC 6887 section 13.3 with erratum 3891)."""
    prefix, port = struct.unpack_from("!xBH", data)
    address = data[4:]
    if prefix == 0:
        return not port and not any(address)
    return (96 if address.startswith(MAPPED) else 0) < int(prefix) <= 128


def keep_filters(kept: tuple[bytes, ...], fresh: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """The filters after those of a request, in which prefix length 0 clears all before it."""
    for each in fresh:
        kept = () if each[1] == 0 else kept if each in kept else (*kept, each)
    return kept


# -- for those who look on ----------------------------------------------------------------------


def asked(data: bytes) -> tuple[int, int, int] | None:
    """Internal port, wished external port and lifetime of a MAP request; None: it is none."""
    if len(data) < MAP_END or data[1] != MAP:
        return None
    internal, external = struct.unpack_from("!HH", data, 40)
    return internal, external, int.from_bytes(data[4:8])


def granted(answer: bytes) -> tuple[int, int, int, int] | None:
    """Result, internal port, external port and lifetime of a MAP answer; None: it is none."""
    ports = asked(answer[:1] + bytes([answer[1] & 127]) + answer[2:])
    return ports and (answer[3], *ports)


def words(data: bytes) -> str:
    """A request in words."""
    ports = asked(data)
    if ports is None:
        return "pcp announce?" if data[1] == ANNOUNCE else f"pcp opcode {data[1]}"
    internal, wish, lifetime = ports
    return f"pcp {PROTOCOLS.get(data[36], data[36])} internal {internal}, wish {wish}, {lifetime} s"
