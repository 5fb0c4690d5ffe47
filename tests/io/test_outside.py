"""What a provider can do beside the tunnel: real sockets on loopback, and in a network namespace of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
import threading

import pytest

from vpnpf.errors import Misconfigured, NoAnswer, Refused, Transient
from vpnpf.interfaces import Credentials, Outside
from vpnpf.io import outside as module
from vpnpf.io.clock import BootClock
from vpnpf.io.outside import BesideTunnel
from vpnpf.model import Endpoint, Protocol
from vpnpf.testing import FakeAccount

SO_MARK = 36
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


def endpoint(port, address="127.0.0.1"):
    return Endpoint(address, port, Protocol.TCP)


def io(mark=0, outside=None, account=None):
    return BesideTunnel(account or FakeAccount(), BootClock(), mark, outside)


@contextlib.contextmanager
def listening(backlog=5):
    with socket.create_server(("127.0.0.1", 0), backlog=backlog) as made:
        yield made


@contextlib.asynccontextmanager
async def web():
    """Answers each request with "ok"; yields its port."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.fixture
def marks(monkeypatch):
    """The marks that sockets are given, in order."""
    given = []

    class Noted(socket.socket):
        def setsockopt(self, level, option, value, *rest):
            if (level, option) == (socket.SOL_SOCKET, SO_MARK):
                given.append(value)  # the privilege for it may be missing here
            else:
                super().setsockopt(level, option, value, *rest)

    monkeypatch.setattr("socket.socket", Noted)
    return given


async def test_how_far_a_server_is():
    with listening() as there:
        assert 0 <= await io().reach(endpoint(there.getsockname()[1])) < 1


async def test_a_port_that_is_closed_is_refused():
    with listening() as there:
        port = there.getsockname()[1]
    with pytest.raises(Refused, match=rf"connecting to 127.0.0.1:{port}: connection refused"):
        await io().reach(endpoint(port))


async def test_a_server_that_does_not_answer_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(module, "REACH", 0.05)
    with contextlib.ExitStack() as stack:
        there = stack.enter_context(listening(0))
        port = there.getsockname()[1]
        for _ in range(4):  # its queue is full then, and what comes after gets no answer
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        with pytest.raises(NoAnswer, match=r"no answer in 0.05 s"):
            await io().reach(endpoint(port))


@pytest.mark.parametrize("address", ["vpn.example.net", "", "127.0.0.1%lo", "999.1.1.1"])
async def test_nothing_but_an_address_is_connected_to(monkeypatch, address):
    monkeypatch.setattr("socket.getaddrinfo", None)
    with pytest.raises(Transient):
        await io().reach(endpoint(80, address))


async def test_an_address_without_a_way_is_told():
    with pytest.raises(Transient, match=r"connecting to 255\.255\.255\.255:80: "):
        await io().reach(endpoint(80, "255.255.255.255"))


async def test_the_mark_is_on_everything(marks):
    asking = io(mark=0x77)
    with listening() as there:
        await asking.reach(endpoint(there.getsockname()[1]))
    assert marks == [0x77]
    async with web() as port:
        assert (await asking.http.request("GET", f"http://127.0.0.1:{port}/")).body == b"ok"
        assert (await asking.http.request("GET", f"http://there.example:{port}/", connect_to="127.0.0.1")).body == b"ok"
    assert marks == [0x77] * 3


async def test_mark_0_is_none_and_needs_no_privilege(marks):
    with listening() as there:
        await io().reach(endpoint(there.getsockname()[1]))
    async with web() as port:
        await io().http.request("GET", f"http://127.0.0.1:{port}/")
    assert not marks


async def test_the_account_is_handed_on():
    account = FakeAccount()
    asking, login = io(account=account), Credentials("alice", "secret")
    account.login = login
    assert await asking.credentials() == login
    await asking.refused(login, "HTTP 401")
    with pytest.raises(Misconfigured):
        await asking.credentials()
    asking.store.save("list", {"a": 1})
    assert account.store.load("list") == {"a": 1}
    assert len(asking.random_bytes(16)) == 16
    assert asking.random_bytes(16) != asking.random_bytes(16)
    assert asking.wall() > 1e9
    assert asking.now() > 0


class Elsewhere:
    """Where threads are put; which were, and which have ended."""

    def __init__(self):
        self.threads = []

    def enter(self):
        self.threads.append(threading.current_thread())

    @property
    def outside(self):
        return Outside((0, 0), ("true",), self.enter)


async def test_with_a_network_namespace_sockets_and_names_are_another_threads(monkeypatch):
    there, asked = Elsewhere(), []
    asking = io(outside=there.outside)
    found = socket.getaddrinfo

    def getaddrinfo(host, *arguments, **named):
        asked.append((host, threading.current_thread()))
        return found("127.0.0.1", *arguments, **named)

    monkeypatch.setattr("socket.getaddrinfo", getaddrinfo)
    async with web() as port:
        await asking.reach(endpoint(port))
        assert len(there.threads) == 1
        assert (await asking.http.request("GET", f"http://list.example:{port}/")).body == b"ok"
    assert [host for host, _ in asked] == ["list.example"]
    assert asked[0][1] in there.threads
    assert len(there.threads) == 3, "one for the name, and one for each socket"
    assert len(set(there.threads)) == 3
    assert threading.main_thread() not in there.threads
    for thread in there.threads:
        thread.join(5)
        assert not thread.is_alive()


async def test_a_namespace_that_is_gone_is_told():
    def enter():
        raise OSError(2, "No such file or directory")

    asking = io(outside=Outside((0, 0), ("true",), enter))
    with pytest.raises(Transient, match="No such file"):
        await asking.reach(endpoint(1))
    with pytest.raises(Transient, match="No such file"):
        await asking.http.request("GET", "http://127.0.0.1:1/")


# -- in a namespace that is one -------------------------------------------------------------------

WORK = """
import asyncio, os, socket, sys
from vpnpf.interfaces import Outside
from vpnpf.io import netns
from vpnpf.io.clock import BootClock
from vpnpf.io.outside import BesideTunnel
from vpnpf.model import Endpoint, Protocol
from vpnpf.testing import FakeAccount

async def main(outside):
    asking = BesideTunnel(FakeAccount(), BootClock(), 0, outside)
    port = int(sys.argv[1])
    await asking.reach(Endpoint("127.0.0.1", port, Protocol.TCP))
    answer = await asking.http.request("GET", f"http://127.0.0.1:{port}/")
    print(answer.body.decode(), netns.number() != outside.number)
    asking = BesideTunnel(FakeAccount(), BootClock(), 0)
    try:
        await asking.reach(Endpoint("127.0.0.1", port, Protocol.TCP))
    except Exception as error:
        print(type(error).__name__)

with netns.outside() as outside:
    netns._ok(netns._libc.unshare(netns.CLONE_NEWNET))
    asyncio.run(main(outside))
"""


@pytest.mark.system
async def test_from_inside_a_namespace_the_machine_is_asked():
    """The control: without `outside`, loopback is the namespace's own, and down."""
    async with web() as port:
        argv = (sys.executable, "-c", WORK, str(port))
        process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said, complaint = await process.communicate()
    assert process.returncode == 0, complaint.decode()
    assert said.decode().split("\n")[:2] == ["ok True", "Transient"]
