"""Who began a connection, as the kernel's connection tracking says (nfnetlink_conntrack).

Takes CAP_NET_ADMIN, and a rule set that has connections tracked, as ours does. Sees the network namespace that the
calling thread is in. The answer to a question about one connection is there as soon as it was asked: tens of
microseconds. Layouts: linux/netfilter/nfnetlink.h, linux/netfilter/nfnetlink_conntrack.h.

`request` and `parse` are pure.
"""

from __future__ import annotations

import enum
import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence

from msgspec import Struct

_NETLINK_NETFILTER = 12
_GET = 1 << 8 | 1
_NEW = 1 << 8
_NLM_F_REQUEST = 0x1
_NESTED = 0x8000
_TYPE = 0x3FFF
"""Of an attribute's type, without its flags."""
_TUPLE_ORIG, _TUPLE_REPLY = 1, 2
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_V4_SRC, _V4_DST, _V6_SRC, _V6_DST = 1, 2, 3, 4
_PROTO_NUM, _PROTO_SRC_PORT, _PROTO_DST_PORT = 1, 2, 3
_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port id."""
_ABOUT = struct.Struct("=BBH")
"""nfgenmsg: family, version, resource."""
_ATTRIBUTE = struct.Struct("=HH")
_LARGEST = 8192


class Origin(enum.Enum):
    """Which side began."""

    HERE = "here"
    THERE = "there"
    UNKNOWN = "unknown"


class Flow(Struct, frozen=True):
    """A TCP connection, as the socket on this side has it."""

    address: str
    port: int
    remote: str
    remote_port: int


def origins(flows: Sequence[Flow]) -> list[Origin]:
    """Who began each; UNKNOWN for what the kernel does not say, for whatever reason. Never raises."""
    found = [Origin.UNKNOWN] * len(flows)
    if not flows:
        return found
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER) as sock:
            sock.setblocking(False)
            for number, flow in enumerate(flows):
                sock.sendall(request(flow, number + 1))
                found[number] = parse(sock.recv(_LARGEST), flow, number + 1)
    except OSError:  # no such module, or nothing was answered: the rest stays unknown
        pass
    return found


def request(flow: Flow, sequence: int) -> bytes:
    """Ask for the entry one of whose directions leads from our side of the connection to the other."""
    source, target = ipaddress.ip_address(flow.address), ipaddress.ip_address(flow.remote)
    v6 = source.version == 6  # noqa: PLR2004 - the protocol's name
    kinds = (_V6_SRC, _V6_DST) if v6 else (_V4_SRC, _V4_DST)
    addresses = _attribute(kinds[0], source.packed) + _attribute(kinds[1], target.packed)
    ports = _attribute(_PROTO_SRC_PORT, flow.port.to_bytes(2)) + _attribute(
        _PROTO_DST_PORT, flow.remote_port.to_bytes(2)
    )
    proto = _attribute(_PROTO_NUM, bytes((socket.IPPROTO_TCP,))) + ports
    nested = _attribute(_TUPLE_IP | _NESTED, addresses) + _attribute(_TUPLE_PROTO | _NESTED, proto)
    body = _ABOUT.pack(socket.AF_INET6 if v6 else socket.AF_INET, 0, 0) + _attribute(_TUPLE_ORIG | _NESTED, nested)
    return _HEADER.pack(_HEADER.size + len(body), _GET, _NLM_F_REQUEST, sequence, 0) + body


def parse(data: bytes, flow: Flow, sequence: int) -> Origin:
    """What an answer says of the flow; UNKNOWN for one that says nothing of it, or has another form. Never raises."""
    if len(data) < _HEADER.size + _ABOUT.size:
        return Origin.UNKNOWN
    length, kind, _, number, _ = _HEADER.unpack_from(data)
    if kind != _NEW or number != sequence or length > len(data):
        return Origin.UNKNOWN
    directions = dict(_attributes(data[_HEADER.size + _ABOUT.size : length]))
    # Where ports are redirected, only the direction in which we answer has our socket's.
    if _is(directions.get(_TUPLE_ORIG, b""), flow):
        return Origin.HERE
    return Origin.THERE if _is(directions.get(_TUPLE_REPLY, b""), flow) else Origin.UNKNOWN


def _is(data: bytes, flow: Flow) -> bool:
    parts = dict(_attributes(data))
    addresses, proto = dict(_attributes(parts.get(_TUPLE_IP, b""))), dict(_attributes(parts.get(_TUPLE_PROTO, b"")))
    source = addresses.get(_V4_SRC, addresses.get(_V6_SRC))
    target = addresses.get(_V4_DST, addresses.get(_V6_DST))
    return (source, target) == (
        ipaddress.ip_address(flow.address).packed,
        ipaddress.ip_address(flow.remote).packed,
    ) and (proto.get(_PROTO_SRC_PORT), proto.get(_PROTO_DST_PORT)) == (
        flow.port.to_bytes(2),
        flow.remote_port.to_bytes(2),
    )


def _attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    while len(data) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= length <= len(data) - offset:
            return
        yield kind & _TYPE, data[offset + _ATTRIBUTE.size : offset + length]
        offset += (length + 3) & ~3
