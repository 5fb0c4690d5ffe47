"""Which sockets wait here, and whose they are: real sockets, real programs, as whoever runs this."""

import asyncio
import contextlib
import os
import shutil
import socket
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.errors import Unavailable
from vpnpf.io import listeners, sockets
from vpnpf.io.listeners import addresses, listening, program_of
from vpnpf.model import Protocol

TCP, UDP = Protocol.TCP, Protocol.UDP
LISTENS = """
import socket, sys
made = socket.create_server(("127.0.0.1", 0))
print(made.getsockname()[1], flush=True)
sys.stdin.read()
"""
STARTS_A_CHILD = """
import os, socket, sys
made = socket.create_server(("127.0.0.1", 0))
if os.fork() == 0:
    print(made.getsockname()[1], os.getppid(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def bound(protocol, address, *, only6=None):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM if protocol is TCP else socket.SOCK_DGRAM) as made:
        if only6 is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        made.bind((address, 0))
        if protocol is TCP:
            made.listen()
        yield made.getsockname()[1]


@contextlib.asynccontextmanager
async def program(*argv):
    """A program that says something once it listens; yields its process and what it said."""
    child = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
    try:
        yield child, (await child.stdout.readline()).decode().split()
    finally:
        child.stdin.close()
        await child.wait()


async def on(port):
    return [each for each in (await listening()).listeners if each.port == port]


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("address", "only6"), [("127.0.0.1", None), ("0.0.0.0", None), ("::1", None), ("::", True), ("::", False)]
)
async def test_a_socket_is_found_with_its_program(protocol, address, only6):
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    with bound(protocol, address, only6=only6) as port:
        (found,) = await on(port)
    assert (found.protocol, found.address, found.v6_only) == (protocol, address, bool(only6))
    assert found.owner.pid == os.getpid()
    # Whether it runs a script, or was told what to do by its command line, as a worker of pytest's is.
    assert (found.owner.interpreter or found.owner.program).startswith("python")
    assert 0 < found.owner.since < before
    assert not found.unseen
    assert await on(port) == []


async def test_a_script_has_its_own_name_and_its_time(tmp_path):
    script = tmp_path / "redis-server"
    script.write_text(LISTENS)
    before = time.clock_gettime(time.CLOCK_BOOTTIME)
    async with program(sys.executable, script, "--password=hunter2") as (child, (port,)):
        (found,) = await on(int(port))
        assert (found.program, found.owner.pid) == ("redis-server", child.pid)
        assert before - 0.1 < found.owner.since < time.clock_gettime(time.CLOCK_BOOTTIME)
        assert found.who.startswith(f"redis-server (python3.11), pid {child.pid}, user ")
        assert "hunter2" not in repr(found)


async def test_of_several_that_share_a_socket_it_is_the_oldest():
    async with program(sys.executable, "-c", STARTS_A_CHILD) as (child, (port, parent)):
        (found,) = await on(int(port))
        assert found.owner.pid == child.pid == int(parent)


async def test_addresses_are_told_by_device_without_loopback():
    found = await addresses()
    assert found["lo"] == ()
    assert not any(each.startswith(("127.", "fe80:", "::1")) for them in found.values() for each in them)


async def test_a_kernel_that_says_nothing_is_told(monkeypatch):
    monkeypatch.setattr(sockets, "_NETLINK_SOCK_DIAG", 31)
    with pytest.raises(Unavailable, match="looking for sockets that wait: "):
        await listening()


async def test_a_process_that_ends_meanwhile_is_passed_over(monkeypatch, tmp_path):
    """A copy of /proc with entries as they look while a process goes."""
    (tmp_path / "1" / "fd").mkdir(parents=True)
    (tmp_path / "2").mkdir()
    (tmp_path / "self").mkdir()
    with bound(TCP, "127.0.0.1") as port:
        (found,) = [each for each in await sockets.diagnosed("?") if each.port == port]
        (tmp_path / "1" / "fd" / "3").symlink_to(f"socket:[{found.inode}]")
        monkeypatch.setattr(listeners, "PROC", tmp_path)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        (seen,) = await on(port)
        assert (seen.owner, seen.unseen) == (None, False)
        assert "kernel's own" in seen.who
        shutil.rmtree(tmp_path)
        tmp_path.mkdir()
        assert [each.owner for each in await on(port)] == [None]


async def test_a_thousand_sockets_take_little_time():
    with contextlib.ExitStack() as stack:
        ports = {stack.enter_context(bound(UDP, "127.0.0.1")) for _ in range(900)}
        began = time.perf_counter()
        found = (await listening()).listeners
        took = time.perf_counter() - began
    assert ports <= {each.port for each in found if each.owner and each.owner.pid == os.getpid()}
    assert took < 1


@pytest.mark.parametrize(
    ("executable", "arguments", "told"),
    [
        ("/usr/sbin/sshd", ["-D"], ("sshd", "")),
        ("/usr/bin/python3.11", ["-u", "/opt/hass/bin/hass", "--token=secret"], ("hass", "python3.11")),
        ("/usr/bin/python3", ["-m", "http.server", "8000"], ("http.server", "python3")),
        ("/usr/bin/python3", ["-c", "secret"], ("python3", "")),
        ("/usr/bin/java", ["-Xmx1g", "-jar", "/srv/minecraft.jar"], ("minecraft.jar", "java")),
        ("/usr/bin/node", [], ("node", "")),
        ("/usr/bin/node", ["/"], ("node", "node")),
        ("evil\x1b[2J" + "x" * 100, [], ("evil?[2J" + "x" * 32, "")),
    ],
)
def test_what_a_program_is_called(executable, arguments, told):
    assert program_of(executable, arguments) == told


@given(st.text(), st.lists(st.text()))
def test_any_command_line_has_a_short_printable_name(executable, arguments):
    program, interpreter = program_of(executable, arguments)
    assert len(program) <= 40
    assert len(interpreter) <= 40
    assert (program + interpreter).isprintable()
