"""Which sockets the kernel says wait on a port: real sockets, and answers that no kernel gives."""

import contextlib
import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.errors import Transient, Unavailable
from vpnpf.io import sockets
from vpnpf.io.conntrack import Origin
from vpnpf.io.sockets import Damaged, KernelSockets, Part, parse, request
from vpnpf.model import ListeningSocket, Protocol

ANY4, ANY6 = "0.0.0.0", "::"
SO_BINDTODEVICE = 25
TCP, UDP = Protocol.TCP, Protocol.UDP


@contextlib.contextmanager
def bound(protocol, address, port=0, *, only6=None, device=""):
    """A socket that waits on the address; yields it."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol is TCP else socket.SOCK_DGRAM
    with socket.socket(family, kind) as made:
        if only6 is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        if device:
            made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        made.bind((address, port))
        if protocol is TCP:
            made.listen()
        yield made


def port_of(made):
    return made.getsockname()[1]


def sock_of(protocol, address, made, device=""):
    return ListeningSocket(protocol, address, port_of(made), device)


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("address", "only6", "seen"),
    [
        ("127.0.0.1", None, ["127.0.0.1"]),
        (ANY4, None, [ANY4]),
        ("::1", None, ["::1"]),
        (ANY6, True, [ANY6]),
        (ANY6, False, [ANY4, ANY6]),
        ("::ffff:127.0.0.1", False, ["127.0.0.1"]),
    ],
)
async def test_a_socket_that_waits_is_found(protocol, address, only6, seen):
    with bound(protocol, address, only6=only6) as made:
        found = await KernelSockets().listening(port_of(made))
        assert found == tuple(sock_of(protocol, each, made) for each in seen)
    assert await KernelSockets().listening(found[0].port) == ()


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize("address", ["127.0.0.1", "::1", ANY4])
async def test_the_device_it_is_bound_to_is_told(protocol, address):
    with bound(protocol, address, device="lo") as made:
        assert await KernelSockets().listening(port_of(made)) == (sock_of(protocol, address, made, "lo"),)


async def test_all_of_a_port_in_order():
    with (
        bound(TCP, "127.0.0.1") as first,
        bound(TCP, "127.0.0.2", port_of(first)) as second,
        bound(UDP, "::1", port_of(first)) as third,
    ):
        assert await KernelSockets().listening(port_of(first)) == (
            sock_of(TCP, "127.0.0.1", first),
            sock_of(TCP, "127.0.0.2", second),
            sock_of(UDP, "::1", third),
        )


async def test_a_connected_udp_socket_waits_for_nobody_else():
    with bound(UDP, "127.0.0.1") as made, bound(UDP, "127.0.0.1") as other:
        made.connect(other.getsockname())
        assert await KernelSockets().listening(port_of(made)) == ()


async def test_a_bound_or_connected_tcp_socket_listens_to_nobody():
    with bound(TCP, "127.0.0.1") as listening, socket.socket() as made, socket.socket() as idle:
        made.connect(listening.getsockname())
        taken, _ = listening.accept()
        with taken:
            assert await KernelSockets().listening(port_of(made)) == ()
            # The accepted connection has the listener's port too, and is not told.
            assert await KernelSockets().listening(port_of(listening)) == (sock_of(TCP, "127.0.0.1", listening),)
        idle.bind(("127.0.0.1", 0))
        assert await KernelSockets().listening(port_of(idle)) == ()


async def test_many_sockets_on_one_port():
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(bound(UDP, "127.0.1.1"))
        for number in range(2, 200):
            stack.enter_context(bound(UDP, f"127.0.1.{number}", port_of(first)))
        assert len(await KernelSockets().listening(port_of(first))) == 199


async def test_no_descriptor_is_left_over(monkeypatch):
    made = []
    real = socket.socket

    class Seen(real):
        def __init__(self, *arguments, **more):
            super().__init__(*arguments, **more)
            made.append(self)

    monkeypatch.setattr(sockets.socket, "socket", Seen)
    await KernelSockets().listening(1)
    monkeypatch.setattr(sockets, "parse", lambda *arguments: (_ for _ in ()).throw(Damaged("torn")))
    with pytest.raises(Unavailable, match="torn"):
        await KernelSockets().listening(1)
    assert len(made) == 2
    assert all(each.fileno() == -1 for each in made)


async def test_without_netlink_it_says_what_is_missing(monkeypatch):
    """As under a service with RestrictAddressFamilies: the kernel knows no such family."""
    real = socket.socket

    class Denied(real):
        def __init__(self, family=-1, *more, **named):
            if family == socket.AF_NETLINK:
                raise OSError(errno.EAFNOSUPPORT, "?")
            super().__init__(family, *more, **named)

    monkeypatch.setattr(sockets.socket, "socket", Denied)
    with pytest.raises(Unavailable, match="looking for sockets on port 1: Address family not supported") as caught:
        await KernelSockets().listening(1)
    assert "AF_NETLINK" in caught.value.hint


async def test_a_list_that_keeps_changing_is_told(monkeypatch):
    monkeypatch.setattr(sockets, "parse", lambda *arguments: Part((), done=True, torn=True))
    with pytest.raises(Transient, match="kept changing"):
        await KernelSockets().listening(1)


# -- the pure part --------------------------------------------------------------------------------


def kernel_says(protocol, port, *, sequence=1):
    """One datagram as this machine's kernel sends it."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, sockets._NETLINK_SOCK_DIAG) as sock:
        sock.sendall(request(protocol, socket.AF_INET, port, sequence))
        return sock.recv(1 << 16)


def test_an_answer_to_another_question_is_passed_over():
    with bound(TCP, "127.0.0.1") as made:
        data = kernel_says(TCP, port_of(made), sequence=7)
        assert len(parse(data, TCP, port_of(made), 7).found) == 1
        assert parse(data, TCP, port_of(made), 8) == Part((), done=False)
        assert parse(data, TCP, port_of(made) - 1, 7).found == ()


def test_a_cut_answer_is_damaged():
    with bound(TCP, "127.0.0.1") as made:
        data = kernel_says(TCP, port_of(made))
        for length in range(1, len(data)):
            with contextlib.suppress(Damaged):
                assert not parse(data[:length], TCP, port_of(made), 1).found


def message(kind, body, *, flags=0, sequence=1, length=None):
    size = 16 + len(body) if length is None else length
    return struct.pack("=IHHII", size, kind, flags, sequence, 0) + body


def test_an_error_and_a_torn_list_are_told():
    assert parse(message(2, struct.pack("=i", -2)), TCP, 1, 1) == Part((), done=True, error=2)
    assert parse(message(3, struct.pack("=i", 0), flags=0x10), TCP, 1, 1) == Part((), done=True, torn=True)
    assert parse(message(3, b""), TCP, 1, 1) == Part((), done=True)


@pytest.mark.parametrize("length", [0, 15, 17, 1 << 31])
def test_a_length_that_lies_is_damaged_and_does_not_hang(length):
    with pytest.raises(Damaged):
        parse(message(20, b"", length=length), TCP, 1, 1)


MESSAGES = st.builds(
    message,
    st.sampled_from([2, 3, 20, 1]),
    st.one_of(st.binary(max_size=120), st.binary(min_size=72, max_size=100).map(lambda b: b"\x0a" + b[1:])),
    flags=st.integers(0, 65535),
    sequence=st.integers(0, 2),
    length=st.none() | st.integers(0, 1 << 32 - 1),
)


@given(
    st.one_of(st.binary(max_size=300), st.lists(MESSAGES, max_size=4).map(b"".join)),
    st.sampled_from(Protocol),
    st.integers(0, 65535),
)
def test_any_bytes_are_read_or_damaged(data, protocol, port):
    try:
        part = parse(data, protocol, port, 1)
    except Damaged:
        return
    for one in part.found:
        assert port in {0, one.port}
        socket.getaddrinfo(one.address, port, flags=socket.AI_NUMERICHOST)


# -- who is connected -----------------------------------------------------------------------------


@contextlib.contextmanager
def visited(address, *, only6=None, family=None):
    """A listener with one visitor; yields the listener's port and the visitor's."""
    family = family or (socket.AF_INET6 if ":" in address else socket.AF_INET)
    with bound(TCP, address, only6=only6) as listening, socket.socket(family) as visitor:
        visitor.connect(("127.0.0.1" if family == socket.AF_INET else "::1", port_of(listening)))
        with listening.accept()[0]:
            yield port_of(listening), visitor.getsockname()[1]


@pytest.mark.parametrize(
    ("address", "only6", "family", "near"),
    [
        ("127.0.0.1", None, None, "127.0.0.1"),
        ("::1", None, None, "::1"),
        ("::", False, socket.AF_INET, "127.0.0.1"),
    ],
)
async def test_who_is_connected_is_told_until_he_leaves(address, only6, family, near):
    looking = KernelSockets()
    with visited(address, only6=only6, family=family) as (port, far):
        for _ in range(2):
            (one,) = await looking.connected(port)
            assert (one.local, one.local_port, one.address, one.port) == (near, port, near, far)
    assert await looking.connected(port) == ()
    assert not looking._began


@pytest.mark.parametrize("began", Origin)
async def test_what_was_begun_here_is_not_told_and_doubt_is_not_called_certain(monkeypatch, began):
    monkeypatch.setattr(sockets, "origins", lambda flows: [began] * len(flows))
    with visited("127.0.0.1") as (port, _):
        found = await KernelSockets().connected(port)
    assert [each.came_in for each in found] == {Origin.HERE: [], Origin.THERE: [True], Origin.UNKNOWN: [False]}[began]


async def test_the_kernel_is_asked_once_for_each_connection_and_for_so_many_at_a_look(monkeypatch):
    asked = []

    def origins(flows):
        asked.append(len(flows))
        return [Origin.THERE] * len(flows)

    monkeypatch.setattr(sockets, "origins", origins)
    monkeypatch.setattr(sockets, "FRESH", 2)
    looking = KernelSockets()
    with bound(TCP, "127.0.0.1") as listening, contextlib.ExitStack() as stack:
        for _ in range(5):
            visitor = stack.enter_context(socket.create_connection(listening.getsockname()))
            stack.enter_context(listening.accept()[0])
            assert visitor.fileno() > 0
        found = [len(await looking.connected(port_of(listening))) for _ in range(4)]
    assert (asked, found) == ([2, 2, 1, 0], [2, 4, 5, 5])


async def test_a_crowd_is_looked_at_in_part_and_no_look_waits_for_it(monkeypatch):
    monkeypatch.setattr(sockets, "MOST", 20)
    with bound(TCP, "127.0.0.1") as listening, contextlib.ExitStack() as stack:
        listening.listen(400)
        for _ in range(300):
            stack.enter_context(socket.create_connection(listening.getsockname()))
            stack.enter_context(listening.accept()[0])
        looking = KernelSockets()
        assert len(await looking.connected(port_of(listening))) == 20
        assert len(await looking.connected(port_of(listening))) == 20


async def test_without_netlink_connections_cannot_be_seen(monkeypatch):
    monkeypatch.setattr(sockets, "parse", lambda *arguments: (_ for _ in ()).throw(Damaged("torn")))
    with pytest.raises(Unavailable, match="connections on port 1"):
        await KernelSockets().connected(1)
