"""Which sockets wait for inbound packets on a port, as the kernel says (NETLINK_SOCK_DIAG, sock_diag(7)).

Needs no privilege. Sees the network namespace that the calling thread is in. The kernel filters by port and
state, so a look costs four short exchanges (TCP and UDP over IPv4 and IPv6), well under a millisecond.

`request` and `parse` are pure; `KernelSockets` only carries their bytes. Layouts: linux/netlink.h,
linux/inet_diag.h. Netlink speaks the machine's own byte order, ports and addresses in it the network's.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from msgspec import Struct

from vpnpf.errors import Transient, Unavailable
from vpnpf.io.conntrack import Flow, Origin, origins
from vpnpf.model import Connection, ListeningSocket, Protocol

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLM_F_REQUEST = 0x1
_NLM_F_DUMP = 0x300
_NLM_F_DUMP_INTR = 0x10
_INET_DIAG_SKV6ONLY = 11

_TCP_LISTEN = 1 << 10
_TCP_CLOSE = 1 << 7
_TCP_ESTABLISHED = 1 << 1
_STATES = {Protocol.TCP: _TCP_LISTEN, Protocol.UDP: _TCP_CLOSE}
"""The state in which a socket takes packets from anybody; an unconnected UDP socket counts as closed."""
_NUMBERS = {Protocol.TCP: socket.IPPROTO_TCP, Protocol.UDP: socket.IPPROTO_UDP}

_HEADER = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port id."""
_REQUEST = struct.Struct("=BBBxI")
"""inet_diag_req_v2 up to its socket id: family, protocol, extensions, states."""
_ID = struct.Struct("!HH16s16s")
"""inet_diag_sockid up to its device: source port, destination port, source, destination."""
_ID_REST = struct.Struct("=I8s")
"""The rest of it: device index, cookie."""
_ANSWER = struct.Struct("=4B")
"""inet_diag_msg up to its socket id: family, state, timer, retransmissions."""
_ANSWER_REST = struct.Struct("=12x2I")
"""The rest of it: timer and queues, then user and inode."""
_ANSWER_LENGTH = _ANSWER.size + _ID.size + _ID_REST.size + _ANSWER_REST.size
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")
_LARGEST = 32768
"""Bytes; the kernel never makes a larger part of a dump (NLMSG_GOODSIZE is below)."""
_ANY_COOKIE = b"\xff" * 8


class Damaged(ValueError):
    """The bytes are not what the kernel's headers say."""


class Diagnosed(Struct, frozen=True):
    """A socket as the kernel lists it."""

    protocol: Protocol
    address: str
    port: int
    device: int
    """Index of the device it is bound to; 0: none."""
    v6_only: bool
    user: int = 0
    """Id of the user that made it."""
    inode: int = 0
    """What the descriptors of its owners are called in /proc: "socket:[inode]"."""
    remote: str = ""
    """Of the far side, if it is connected."""
    remote_port: int = 0
    identity: bytes = b""
    """What the kernel calls its cookie: no other socket ever has it."""


class Part(Struct, frozen=True):
    """One datagram of a dump."""

    found: tuple[Diagnosed, ...]
    done: bool
    """Whether it was the last."""
    error: int = 0
    """An errno instead of an answer, or 0."""
    torn: bool = False
    """Whether the table changed while it was read, so that a socket may be missing."""


def request(protocol: Protocol, family: int, port: int, sequence: int, states: int = 0) -> bytes:
    """Ask for all sockets of a protocol and family that take packets on a local port; 0: on any.

    `states` are others than those, as bits (linux/tcp_states.h).
    """
    body = _REQUEST.pack(family, _NUMBERS[protocol], 0, states or _STATES[protocol])
    body += _ID.pack(port, 0, bytes(16), bytes(16)) + _ID_REST.pack(0, _ANY_COOKIE)
    length = _HEADER.size + len(body)
    return _HEADER.pack(length, _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST | _NLM_F_DUMP, sequence, 0) + body


def parse(data: bytes, protocol: Protocol, port: int, sequence: int) -> Part:
    """Read one datagram of the answer; messages of another exchange are passed over. Port 0: any. Raises Damaged."""
    found: list[Diagnosed] = []
    torn = False
    for kind, flags, number, body in _messages(data):
        if number != sequence:
            continue
        torn = torn or bool(flags & _NLM_F_DUMP_INTR)
        if kind in {_NLMSG_ERROR, _NLMSG_DONE}:
            # A dump that could not begin ends with a DONE that holds the error.
            code = -_ERROR.unpack_from(body)[0] if len(body) >= _ERROR.size else 0
            return Part(tuple(found), done=True, error=code, torn=torn)
        if kind == _SOCK_DIAG_BY_FAMILY:
            one = _diagnosed(body, protocol)
            if port in {0, one.port}:
                found.append(one)
    return Part(tuple(found), done=False, torn=torn)


def _messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEADER.size:
            raise Damaged("a netlink header is cut off")
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, offset)
        if not _HEADER.size <= length <= len(data) - offset:
            raise Damaged(f"a netlink message says it has {length} bytes")
        yield kind, flags, sequence, data[offset + _HEADER.size : offset + length]
        offset += _aligned(length)


def _diagnosed(body: bytes, protocol: Protocol) -> Diagnosed:
    if len(body) < _ANSWER_LENGTH:
        raise Damaged(f"a socket of {len(body)} bytes")
    family = body[0]
    user, inode = _ANSWER_REST.unpack_from(body, _ANSWER.size + _ID.size + _ID_REST.size)
    port, far_port, source, far = _ID.unpack_from(body, _ANSWER.size)
    device, cookie = _ID_REST.unpack_from(body, _ANSWER.size + _ID.size)
    if family == socket.AF_INET:
        address = str(ipaddress.IPv4Address(source[:4]))
        remote = str(ipaddress.IPv4Address(far[:4])) if far_port else ""
        return Diagnosed(protocol, address, port, device, False, user, inode, remote, far_port, cookie)
    if family == socket.AF_INET6:
        only = _attributes(body[_ANSWER_LENGTH:]).get(_INET_DIAG_SKV6ONLY, b"\0") != b"\0"
        remote = _address6(far) if far_port else ""
        return Diagnosed(protocol, _address6(source), port, device, only, user, inode, remote, far_port, cookie)
    raise Damaged(f"a socket of address family {family}")


def _address6(data: bytes) -> str:
    address = ipaddress.IPv6Address(data)
    return str(address.ipv4_mapped or address)


def _attributes(data: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    offset = 0
    while len(data) - offset >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if not _ATTRIBUTE.size <= length <= len(data) - offset:
            raise Damaged(f"an attribute says it has {length} bytes")
        found[kind] = data[offset + _ATTRIBUTE.size : offset + length]
        offset += _aligned(length)
    return found


def _aligned(length: int) -> int:
    return (length + 3) & ~3


class KernelSockets:
    """The kernel's list of sockets (`interfaces.Sockets`)."""

    def __init__(self) -> None:
        self._began: dict[int, dict[bytes, Origin]] = {}
        """By port and identity, of the sockets that were there at the last look: who began a connection never changes."""

    async def listening(self, port: int) -> tuple[ListeningSocket, ...]:
        """Sockets bound to this local port for inbound packets, in this network namespace.

        "0.0.0.0" means any IPv4 address and "::" any IPv6 address: a socket that takes both is listed as
        both. Raises Unavailable if the kernel cannot say, Transient if the list kept changing.
        """
        found = await diagnosed(f"looking for sockets on port {port}", port)
        listed = {each for one in found for each in _listed(one)}
        return tuple(sorted(listed, key=lambda s: (s.protocol, ":" in s.address, s.address, s.device)))

    async def connected(self, port: int) -> tuple[Connection, ...]:
        """TCP connections on this local port in this network namespace, but those that were begun here.

        At most MOST, of which a look takes up FRESH that it did not know; the others follow at the next ones. Raises
        Unavailable if the kernel cannot say.
        """
        doing = f"looking for connections on port {port}"
        found = [each for each in await _established(doing, port) if each.remote_port]
        before = self._began.pop(port, {})
        fresh = [each for each in found if each.identity not in before][:FRESH]
        asked = [Flow(each.address, each.port, each.remote, each.remote_port) for each in fresh]
        known = before | dict(zip((each.identity for each in fresh), origins(asked), strict=True))
        now = {each.identity: known[each.identity] for each in found if each.identity in known}
        if now:
            self._began[port] = now
        while len(self._began) > PORTS:  # those that nobody looks at any more
            del self._began[next(iter(self._began))]
        return tuple(
            Connection(each.address, each.port, each.remote, each.remote_port, began is Origin.THERE)
            for each in found
            if (began := now.get(each.identity, Origin.HERE)) is not Origin.HERE
        )


MOST = 1024
"""Connections that are looked at."""
PORTS = 32
"""Local ports of which it is remembered who began their connections."""
FRESH = 256
"""Of those, as many as the kernel is asked at one look who began them."""


async def diagnosed(doing: str, port: int = 0) -> list[Diagnosed]:
    """All sockets that take packets on a local port of this network namespace; 0: on any.

    Raises Unavailable if the kernel cannot say, Transient if the list kept changing.
    """
    found: list[Diagnosed] = []
    with (
        _said(doing),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as sock,
    ):
        sock.setblocking(False)
        sequence = 0
        for protocol in Protocol:
            for family in (socket.AF_INET, socket.AF_INET6):
                for _ in range(_TRIES):
                    sequence += 1
                    parts = await _dump(sock, protocol, family, port, sequence)
                    if not any(part.torn for part in parts):
                        break
                else:
                    raise Transient(doing, "the kernel's list kept changing while it was read")
                _check(doing, parts[-1].error)
                found += (one for part in parts for one in part.found)
    return found


@contextmanager
def _said(doing: str) -> Iterator[None]:
    """What the kernel does not do, or says in another form, becomes Unavailable."""
    try:
        yield
    except OSError as error:
        raise Unavailable(doing, os.strerror(error.errno or 0), _HINT) from error
    except (Damaged, struct.error) as error:
        raise Unavailable(doing, f"the kernel's answer has another form: {error}") from error


async def _established(doing: str, port: int) -> list[Diagnosed]:
    found: list[Diagnosed] = []
    with _said(doing):
        for family in (socket.AF_INET, socket.AF_INET6):
            # One socket each: what is left of a dump that was long enough goes with it.
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as sock:
                sock.setblocking(False)
                parts = await _dump(sock, Protocol.TCP, family, port, 1, _TCP_ESTABLISHED, MOST)
                _check(doing, parts[-1].error)
                found += (one for part in parts for one in part.found)
    return found[:MOST]


_TRIES = 5
_HINT = "allow netlink sockets (RestrictAddressFamilies=AF_NETLINK), and load tcp_diag and udp_diag"


async def _dump(
    sock: socket.socket, protocol: Protocol, family: int, port: int, sequence: int, states: int = 0, most: int = 0
) -> list[Part]:
    """All parts; with `most`, none after those that have so many sockets together."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, request(protocol, family, port, sequence, states))
    parts: list[Part] = []
    while not parts or (not parts[-1].done and not 0 < most <= sum(len(part.found) for part in parts)):
        parts.append(parse(await loop.sock_recv(sock, _LARGEST), protocol, port, sequence))
    return parts


def _check(doing: str, error: int) -> None:
    if error in {errno.ENOENT, errno.EAFNOSUPPORT}:
        # ENOENT: the kernel has no module for this protocol. Without IPv6 there are no such sockets.
        if error == errno.EAFNOSUPPORT:
            return
        raise Unavailable(doing, "the kernel cannot list its sockets", _HINT)
    if error:
        raise Unavailable(doing, os.strerror(error), _HINT)


def _listed(one: Diagnosed) -> Iterator[ListeningSocket]:
    device = device_name(one.device)
    yield ListeningSocket(one.protocol, one.address, one.port, device)
    if one.address == "::" and not one.v6_only:
        yield ListeningSocket(one.protocol, "0.0.0.0", one.port, device)  # noqa: S104 - told, not bound


def device_name(index: int) -> str:
    """What a device's index stands for; empty: 0, which is none."""
    if index == 0:
        return ""
    try:
        return socket.if_indextoname(index)
    except OSError:
        # Bound to a device that is gone: no packet can come in by it, and no device has this name.
        return f"#{index}"
