"""NAT-PMP messages (RFC 6886), strict.

The bytes are written and read by py-natpmp's message classes; lengths, opcodes, results and ports are
checked here, since that package checks none of them. A datagram that is not a well-formed answer to
the request is no answer: `parse_*` return None for it and the wait goes on.
"""

from __future__ import annotations

from enum import IntEnum
from ipaddress import IPv4Address

import natpmp as wire
from msgspec import Struct

from vpnpf.model import Protocol

PORT = 5351
"""UDP port of the gateway (RFC 6886 section 3.1)."""
RECOMMENDED_LIFETIME = 7200
"""Seconds (RFC 6886 section 3.3)."""
LONGEST_LIFETIME = 86400
"""Seconds; a longer grant is treated as this, so that a forgotten mapping is noticed within a day."""

_ANSWER = 128
_OPCODE = {Protocol.UDP: wire.NATPMP_PROTOCOL_UDP, Protocol.TCP: wire.NATPMP_PROTOCOL_TCP}
_ADDRESS_LENGTH = 12
_MAPPING_LENGTH = 16
_ERROR_LENGTH = 8
_PCP = 2
"""Version of PCP (RFC 6887 section 7), whose server has the same port."""


class Result(IntEnum):
    """Result codes of RFC 6886 section 3.5."""

    SUCCESS = 0
    UNSUPPORTED_VERSION = 1
    NOT_AUTHORIZED = 2
    NETWORK_FAILURE = 3
    OUT_OF_RESOURCES = 4
    UNSUPPORTED_OPCODE = 5


class AddressAnswer(Struct, frozen=True):
    """The gateway's external address (RFC 6886 section 3.2)."""

    epoch: int
    """Seconds since the gateway's start of epoch."""
    address: str | None
    """None: it said 0.0.0.0, so it knows none."""


class MappingAnswer(Struct, frozen=True):
    """A mapping as it now stands (RFC 6886 section 3.3)."""

    epoch: int
    internal_port: int
    external_port: int
    lifetime: int
    """Seconds; 0: the mapping is gone."""
    at: float = 0.0
    """When it arrived, in seconds on CLOCK_BOOTTIME; whoever received it fills it in."""


class ErrorAnswer(Struct, frozen=True):
    """An answer with a result other than 0; codes beyond RFC 6886 are kept as they are."""

    result: int

    def __str__(self) -> str:
        """In words, for a person."""
        try:
            return Result(self.result).name.lower().replace("_", " ") + f" (result {self.result})"
        except ValueError:
            return f"result {self.result}"


Answer = AddressAnswer | MappingAnswer | ErrorAnswer


def address_request() -> bytes:
    """Ask for the external address: 2 bytes."""
    return bytes(wire.PublicAddressRequest().toBytes())


def mapping_request(protocol: Protocol, internal_port: int, external_port: int, lifetime: int) -> bytes:
    """Ask for a mapping, or with a lifetime of 0 for its end: 12 bytes.

    Ports are 0 to 65535, `lifetime` is 0 to 4294967295 seconds. Raises ValueError for others, and for internal port 0
    with lifetime 0: that would end *all* mappings of the protocol (RFC 6886 section 3.4).
    """
    if not (0 <= internal_port < 1 << 16 and 0 <= external_port < 1 << 16 and 0 <= lifetime < 1 << 32):
        raise ValueError(f"no ports and lifetime: {internal_port}, {external_port}, {lifetime}")
    if lifetime == 0 and internal_port == 0:
        raise ValueError("internal port 0 with lifetime 0 would delete every mapping of this machine")
    return bytes(wire.PortMapRequest(_OPCODE[protocol], internal_port, external_port, lifetime).toBytes())


def parse_address(data: bytes) -> AddressAnswer | ErrorAnswer | None:
    """Read an answer to `address_request`; None: it is not one."""
    error = _parse_error(data, opcode=0)
    if error is not None or len(data) != _ADDRESS_LENGTH:
        return error
    answer = wire.PublicAddressResponse(data)
    if (answer.version, answer.opcode) != (0, _ANSWER):
        return None
    address = IPv4Address(answer.ip)
    return AddressAnswer(answer.sec_since_epoch, None if address.is_unspecified else str(address))


def parse_mapping(data: bytes, protocol: Protocol, internal_port: int) -> MappingAnswer | ErrorAnswer | None:
    """Read an answer to `mapping_request` for this protocol and internal port; None: it is not one.

    A granted mapping with external port 0 is not a valid answer and is dropped.
    """
    opcode = _OPCODE[protocol]
    error = _parse_error(data, opcode)
    if error is not None or len(data) != _MAPPING_LENGTH:
        return error
    answer = wire.PortMapResponse(data)
    if (answer.version, answer.opcode) != (0, _ANSWER + opcode) or answer.private_port != internal_port:
        return None
    if answer.public_port == 0 and answer.lifetime != 0:
        return None
    lifetime = min(answer.lifetime, LONGEST_LIFETIME)
    return MappingAnswer(answer.sec_since_epoch, answer.private_port, answer.public_port, lifetime)


def _parse_error(data: bytes, opcode: int) -> ErrorAnswer | None:
    """Read a result other than 0 out of any of the shapes an error has (RFC 6886 section 3.5).

    An unsupported version comes as 8 bytes with any opcode, an unsupported opcode as the request echoed,
    the others in the length of the answer or less. A PCP-only server answers version 2, result 1 in its own layout.
    """
    if len(data) < 4:  # noqa: PLR2004 - version, opcode and result
        return None
    version, answered, result = data[0], data[1], int.from_bytes(data[2:4])
    if version == _PCP and answered & _ANSWER and data[3] == Result.UNSUPPORTED_VERSION:
        return ErrorAnswer(Result.UNSUPPORTED_VERSION)
    if version != 0 or result == Result.SUCCESS or len(data) > _MAPPING_LENGTH:
        return None
    if answered == _ANSWER + opcode or (result == Result.UNSUPPORTED_VERSION and len(data) >= _ERROR_LENGTH):
        return ErrorAnswer(result)
    return None
