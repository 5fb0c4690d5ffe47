"""PCP messages (RFC 6887), strict.

A datagram that is not a well-formed answer to the request is no answer: `parse_*` return None for it and the
wait goes on. Addresses are strings; IPv4 travels as IPv4-mapped IPv6 (section 5). Only mappings of one port are
asked for: port 0 means every port of a protocol, and with lifetime 0 the end of every mapping of this machine.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from ipaddress import IPv6Address, ip_address, ip_network

from msgspec import Struct

from vpnpf.hidden import without
from vpnpf.model import Protocol

PORT = 5351
"""UDP port of the server (RFC 6887 section 19.1)."""
VERSION = 2
NONCE_LENGTH = 12
"""Bytes of a mapping nonce."""
LONGEST_LIFETIME = 86400
"""Seconds; a longer one in an answer is treated as this (RFC 6887 section 15)."""
LONG_ERROR, SHORT_ERROR = 1800, 30
"""Seconds to wait before the same request, where an error says 0 (RFC 6887 section 7.4 recommends these)."""

_HEADER = struct.Struct("!BBBBII12x")
_REQUEST = struct.Struct("!BB2xI16s")
_MAP = struct.Struct("!12sB3xHH16s")
_OPTION = struct.Struct("!BxH")
_FILTER = struct.Struct("!xBH16s")
_MAP_END = _HEADER.size + _MAP.size
_LONGEST = 1100
_ANSWER = 128
_IPV4 = bytes(10) + b"\xff\xff"
"""What IPv4-mapped addresses begin with: 96 bits."""
_NUMBER = {Protocol.TCP: 6, Protocol.UDP: 17}
_PORTS = range(1, 65536)


class Opcode(IntEnum):
    """RFC 6887 section 19.2; PEER is not asked for."""

    ANNOUNCE = 0
    MAP = 1
    PEER = 2


class OptionCode(IntEnum):
    """RFC 6887 section 19.4; codes below 128 must be understood by the server."""

    THIRD_PARTY = 1
    PREFER_FAILURE = 2
    FILTER = 3


class Result(IntEnum):
    """Result codes of RFC 6887 section 7.4."""

    SUCCESS = 0
    UNSUPP_VERSION = 1
    NOT_AUTHORIZED = 2
    MALFORMED_REQUEST = 3
    UNSUPP_OPCODE = 4
    UNSUPP_OPTION = 5
    MALFORMED_OPTION = 6
    NETWORK_FAILURE = 7
    NO_RESOURCES = 8
    UNSUPP_PROTOCOL = 9
    USER_EX_QUOTA = 10
    CANNOT_PROVIDE_EXTERNAL = 11
    ADDRESS_MISMATCH = 12
    EXCESSIVE_REMOTE_PEERS = 13


SHORT_LIFETIME_ERRORS = frozenset({Result.NETWORK_FAILURE, Result.NO_RESOURCES, Result.USER_EX_QUOTA})
_UNREAD = frozenset({Result.UNSUPP_VERSION, Result.UNSUPP_OPCODE})
"""Errors of a server that did not read the request's body."""


class Filter(Struct, frozen=True):
    """A remote peer that a mapping lets in; one of several (RFC 6887 section 13.3)."""

    network: str | None
    """Prefix "203.0.113.0/24", or None: forget the filters so far. Raises ValueError for host bits and for length 0."""
    port: int = 0
    """Remote port; 0: all."""

    def __post_init__(self) -> None:
        if self.network is None:
            if self.port != 0:
                raise ValueError("a filter that clears the others has no port")
        elif ip_network(self.network).prefixlen == 0:
            raise ValueError("prefix length 0 would clear the filters instead of adding one")
        if not 0 <= self.port < _PORTS.stop:
            raise ValueError(f"no port: {self.port}")

    @property
    def data(self) -> bytes:
        """The option's 20 bytes."""
        if self.network is None:
            return bytes(_FILTER.size)
        network = ip_network(self.network)
        address = packed(str(network.network_address))
        length = network.prefixlen + len(address) * 8 - network.max_prefixlen
        return _FILTER.pack(length, self.port, address)


class MapRequest(Struct, frozen=True):
    """What MAP asks for (RFC 6887 section 11.1). Raises ValueError for what a server would call malformed."""

    client: str
    """Own address as the server sees it."""
    nonce: bytes
    """12 unguessable bytes; renewing and deleting need the same ones."""
    protocol: Protocol
    internal_port: int
    lifetime: int
    """Seconds; 0 ends the mapping."""
    external_port: int = 0
    """The wish; 0: none."""
    external_address: str | None = None
    """The wish, or None."""
    prefer_failure: bool = False
    """Rather no mapping than one that is not as wished (RFC 6887 section 13.2)."""
    filters: tuple[Filter, ...] = ()

    def __repr__(self) -> str:
        return without(self, "nonce")

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_LENGTH:
            raise ValueError(f"a nonce has {NONCE_LENGTH} bytes, not {len(self.nonce)}")
        if self.internal_port not in _PORTS or not 0 <= self.external_port < _PORTS.stop:
            raise ValueError(f"no ports: internal {self.internal_port}, external {self.external_port}")
        if not 0 <= self.lifetime < 2**32:
            raise ValueError(f"no lifetime: {self.lifetime}")
        wishes = self.external_port or self.external_address or self.prefer_failure or self.filters
        if self.lifetime == 0 and wishes:
            raise ValueError("the end of a mapping has no wishes")
        if self.prefer_failure and self.external_port == 0:
            raise ValueError("without a port wished for there is nothing to prefer failure over")


class MapAnswer(Struct, frozen=True):
    """A mapping as it now stands (RFC 6887 section 11.1)."""

    epoch: int
    """Seconds since the server's start of epoch."""
    internal_port: int
    external_port: int
    external_address: str | None
    """Canonical; None: the server does not say."""
    lifetime: int
    """Seconds; 0: the mapping is gone."""
    options: tuple[int, ...] = ()
    """Codes of the options that were processed."""


class AnnounceAnswer(Struct, frozen=True):
    """A sign of life (RFC 6887 section 14.1)."""

    epoch: int
    """Seconds since the server's start of epoch."""


class ErrorAnswer(Struct, frozen=True):
    """An answer with a result other than 0; codes beyond RFC 6887 are kept as they are, of class long."""

    result: int
    lifetime: int
    """Seconds in which the same request would meet the same error; never 0."""
    epoch: int = 0
    version: int = VERSION
    """Another one only with UNSUPP_VERSION: what the server speaks."""

    @property
    def long(self) -> bool:
        """Whether it is a long lifetime error: repeating the request soon cannot help (RFC 6887 section 7.4)."""
        return self.result not in SHORT_LIFETIME_ERRORS

    def __str__(self) -> str:
        """In words, for a person."""
        try:
            return Result(self.result).name.lower().replace("_", " ") + f" (result {self.result})"
        except ValueError:
            return f"result {self.result}"


class NatPmpOnly(Struct, frozen=True):
    """Version 0, result 1: the gateway speaks NAT-PMP and no PCP (RFC 6887 section 9, RFC 6886 section 3.5)."""

    epoch: int


def packed(address: str) -> bytes:
    """Give an address its 16 bytes (RFC 6887 section 5). Raises ValueError."""
    raw = ip_address(address).packed
    return _IPV4 + raw if len(raw) == 4 else raw  # noqa: PLR2004 - the bytes of an IPv4 address


def encode_announce(client: str) -> bytes:
    """Ask for a sign of life: 24 bytes."""
    return _REQUEST.pack(VERSION, Opcode.ANNOUNCE, 0, packed(client))


def encode_map(wanted: MapRequest) -> bytes:
    """Ask for a mapping or its end: 60 bytes and the options."""
    client = packed(wanted.client)
    anywhere = _IPV4 + bytes(4) if client.startswith(_IPV4) else bytes(16)
    where = packed(wanted.external_address) if wanted.external_address else anywhere
    number = _NUMBER[wanted.protocol]
    request = _REQUEST.pack(VERSION, Opcode.MAP, wanted.lifetime, client)
    request += _MAP.pack(wanted.nonce, number, wanted.internal_port, wanted.external_port, where)
    if wanted.prefer_failure:
        request += _OPTION.pack(OptionCode.PREFER_FAILURE, 0)
    for each in wanted.filters:
        request += _OPTION.pack(OptionCode.FILTER, _FILTER.size) + each.data
    return request


def parse_announce(data: bytes) -> AnnounceAnswer | ErrorAnswer | NatPmpOnly | None:
    """Read an answer to ANNOUNCE; None: it is not one."""
    if not _well_formed(data, Opcode.ANNOUNCE):
        return _natpmp_only(data)
    *_, result, _lifetime, epoch = _HEADER.unpack_from(data)
    if result != Result.SUCCESS:
        return _error(data)
    return None if _options(data[_HEADER.size :]) is None else AnnounceAnswer(epoch)


def parse_map(data: bytes, wanted: MapRequest) -> MapAnswer | ErrorAnswer | NatPmpOnly | None:
    """Read an answer to this MAP request; None: it is not one.

    Errors carry the request's body as well (RFC 6887 section 8.2). Only a server that cannot have read it, since it
    knows neither the version nor the opcode, may leave it out. A granted mapping with external port 0 is dropped.
    """
    if not _well_formed(data, Opcode.MAP):
        return _natpmp_only(data)
    *_, result, lifetime, epoch = _HEADER.unpack_from(data)
    unread = len(data) == _HEADER.size and result in _UNREAD
    if not (unread or _echoes(data, wanted)):
        return None
    if result != Result.SUCCESS:
        return _error(data)
    *_, internal, external, address = _MAP.unpack_from(data, _HEADER.size)
    options = _options(data[_MAP_END:])
    if options is None or (external == 0 and lifetime != 0):
        return None
    return MapAnswer(epoch, internal, external, _canonical(address), min(lifetime, LONGEST_LIFETIME), options)


def _well_formed(data: bytes, opcode: Opcode) -> bool:
    """Check length, version, R bit and opcode (RFC 6887 section 8.3)."""
    if not _HEADER.size <= len(data) <= _LONGEST or len(data) % 4 or data[1] != _ANSWER | opcode:
        return False
    # A server of another version says so in its own (section 9); version 0 is NAT-PMP, which has another layout.
    return data[0] == VERSION or (data[0] != 0 and data[3] == Result.UNSUPP_VERSION)


def _echoes(data: bytes, wanted: MapRequest) -> bool:
    """Match an answer with its request: nonce, protocol and internal port (RFC 6887 section 11.4)."""
    if len(data) < _MAP_END:
        return False
    nonce, number, internal, *_ = _MAP.unpack_from(data, _HEADER.size)
    return bool((nonce, number, internal) == (wanted.nonce, _NUMBER[wanted.protocol], wanted.internal_port))


def _natpmp_only(data: bytes) -> NatPmpOnly | None:
    """Read "unsupported version" of RFC 6886 section 3.5: 8 bytes, or some more up to its longest answer; any opcode."""
    if not 8 <= len(data) <= 16 or data[0] != 0 or int.from_bytes(data[2:4]) != 1:  # noqa: PLR2004
        return None
    return NatPmpOnly(int.from_bytes(data[4:8]))


def _error(data: bytes) -> ErrorAnswer:
    version, _opcode, _reserved, result, lifetime, epoch = _HEADER.unpack_from(data)
    if lifetime == 0:
        lifetime = SHORT_ERROR if result in SHORT_LIFETIME_ERRORS else LONG_ERROR
    return ErrorAnswer(result, min(lifetime, LONGEST_LIFETIME), epoch, version)


def _options(data: bytes) -> tuple[int, ...] | None:
    """Walk over options by their length (RFC 6887 section 7.3); None: they do not fill the datagram exactly."""
    codes = []
    while data:
        if len(data) < _OPTION.size:
            return None
        code, length = _OPTION.unpack_from(data)
        end = _OPTION.size + (length + 3) // 4 * 4
        if end > len(data):
            return None
        codes.append(code)
        data = data[end:]
    return tuple(codes)


def _canonical(address: bytes) -> str | None:
    ip = IPv6Address(address)
    known = ip.ipv4_mapped or ip
    return None if known.is_unspecified else str(known)
