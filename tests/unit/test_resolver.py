"""Names to addresses, and /etc/resolv.conf taken over and given back."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.errors import Misconfigured, Transient, Unavailable
from vpnpf.io import resolver
from vpnpf.io.resolver import MARK, SystemResolver, resolve

SERVERS = ("10.2.0.1", "2a07:b944::2:1")
STUB = """\
# This is /run/systemd/resolve/stub-resolv.conf managed by man:systemd-resolved(8).
nameserver 127.0.0.53
options edns0 trust-ad
search lan
"""


# -- looking up ------------------------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch):
    """What the C library says from now on: a list of addresses, or an exception."""
    said = []

    def getaddrinfo(*_arguments, **_named):
        if isinstance(said[0], Exception):
            raise said[0]
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, 2, 17, "", (each, 51820)) for each in said[0]]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return said


async def test_an_address_is_its_own_and_nobody_is_asked(monkeypatch):
    monkeypatch.setattr(socket, "getaddrinfo", None)
    assert await resolve("198.51.100.10", 51820) == ("198.51.100.10",)
    assert await resolve("2001:DB8:0::1", 51820) == ("2001:db8::1",)


async def test_all_addresses_of_a_name_ipv4_first_each_once(answers):
    answers.append(["2001:db8::1", "198.51.100.10", "198.51.100.11", "198.51.100.10"])
    assert await resolve("vpn.example", 51820) == ("198.51.100.10", "198.51.100.11", "2001:db8::1")


async def test_addresses_that_no_server_has_are_left_out(answers):
    answers.append(["0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0", "198.51.100.10"])
    assert await resolve("vpn.example", 51820) == ("198.51.100.10",)
    answers[0] = ["0.0.0.0", "::"]
    with pytest.raises(Misconfigured, match=r"looking up vpn\.example: it has no address that a server can have"):
        await resolve("vpn.example", 51820)


async def test_a_name_that_does_not_exist_is_asked_for_again_later(answers):
    answers.append(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    with pytest.raises(Misconfigured) as raised:
        await resolve("vpn.exmaple", 51820)
    assert "is the name right" in raised.value.hint
    assert raised.value.retry_after


@pytest.mark.parametrize(
    "problem",
    [
        socket.gaierror(socket.EAI_AGAIN, "Try again"),
        OSError(24, "Too many open files"),
        UnicodeError("label too long"),
    ],
)
async def test_what_may_work_later_is_transient(answers, problem):
    answers.append(problem)
    with pytest.raises(Transient, match=r"looking up vpn\.example"):
        await resolve("vpn.example", 51820)


async def test_a_resolver_that_hangs_has_a_deadline(monkeypatch):
    asked, end = threading.Event(), threading.Event()

    def getaddrinfo(*_arguments, **_named):
        asked.set()
        end.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "Try again")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(resolver, "_DEADLINE", 0.05)
    try:
        with pytest.raises(Transient, match=r"no answer in 0\.05 s"):
            await resolve("vpn.example", 51820)
        assert asked.is_set()
    finally:
        end.set()


def test_a_resolver_that_hangs_does_not_hold_up_our_end():
    program = """
import asyncio, socket, threading
from vpnpf.io import resolver
socket.getaddrinfo = lambda *_a, **_n: threading.Event().wait()
resolver._DEADLINE = 0.05
async def main():
    try:
        await resolver.resolve("vpn.example", 1)
    except Exception as error:
        print(error)
asyncio.run(main())
"""
    done = subprocess.run((sys.executable, "-c", program), timeout=20, capture_output=True, text=True, check=True)
    assert done.stdout == "looking up vpn.example: no answer in 0.05 s\n"
    assert done.stderr == ""


async def test_an_answer_to_nobody_is_dropped(monkeypatch):
    """The one who asked was cancelled: neither the loop nor the thread may complain."""
    loop, asked, go, threads = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []
    complaints = []
    loop.set_exception_handler(lambda _loop, context: complaints.append(context))

    def getaddrinfo(*_arguments, **_named):
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(asked.set)
        go.wait(5)
        return [(socket.AF_INET, 2, 17, "", ("198.51.100.10", 51820))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    task = asyncio.create_task(resolve("vpn.example", 51820))
    await asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()
    await asyncio.to_thread(threads[0].join)
    await asyncio.sleep(0)
    assert not complaints


# -- resolv.conf -----------------------------------------------------------------------------------


def servers_in(path):
    return tuple(line.split()[1] for line in path.read_text().splitlines() if line.startswith("nameserver"))


def state(path):
    """All that can be told of a path from outside."""
    if path.is_symlink():
        return ("link", str(path.readlink()))
    if not path.exists():
        return ("none",)
    found = path.stat()
    return ("file", path.read_bytes(), found.st_mode, found.st_uid, found.st_gid)


def plain(etc):
    (etc / "resolv.conf").write_text("nameserver 192.168.77.1\nsearch lan\n")


def private(etc):
    plain(etc)
    (etc / "resolv.conf").chmod(0o600)


def owned(etc):
    plain(etc)
    os.chown(etc / "resolv.conf", 65534, 65533)


def empty(etc):
    (etc / "resolv.conf").touch()


def binary(etc):
    (etc / "resolv.conf").write_bytes(b"nameserver 192.168.77.1\n# caf\xe9 \x00\xff\r\n\n")


def long(etc):
    (etc / "resolv.conf").write_text("# " + "x" * 100_000 + "\nnameserver 192.168.77.1\n")


def stub(etc):
    """As systemd-resolved has it."""
    run = etc.parent / "run"
    run.mkdir()
    (run / "stub-resolv.conf").write_text(STUB)
    (etc / "resolv.conf").symlink_to("../run/stub-resolv.conf")


def dangling(etc):
    (etc / "resolv.conf").symlink_to("/run/resolvconf/not-there-yet")


def absent(etc):
    pass


VARIANTS = (plain, private, owned, empty, binary, long, stub, dangling, absent)


@pytest.fixture
def etc(tmp_path):
    made = tmp_path / "etc"
    made.mkdir()
    return made


@pytest.fixture(params=VARIANTS, ids=lambda variant: variant.__name__)
def before(request, etc):
    request.param(etc)
    return state(etc / "resolv.conf")


def test_it_is_taken_and_given_back_as_it_was(etc, before):
    path = etc / "resolv.conf"
    SystemResolver(path).take(SERVERS)
    assert servers_in(path) == SERVERS
    assert not path.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o644
    assert not any(line for line in path.read_text().splitlines() if line and line[0] not in "n#")
    SystemResolver(path).give_back()
    assert state(path) == before
    assert [entry.name for entry in etc.iterdir()] == (["resolv.conf"] if before != ("none",) else [])


def test_what_a_link_leads_to_stays_as_it_is(etc):
    stub(etc)
    SystemResolver(etc / "resolv.conf").take(SERVERS)
    assert (etc.parent / "run/stub-resolv.conf").read_text() == STUB
    SystemResolver(etc / "resolv.conf").give_back()
    assert (etc / "resolv.conf").read_text() == STUB


def test_given_back_twice_or_never_taken_is_no_change(etc, before):
    path = etc / "resolv.conf"
    SystemResolver(path).give_back()
    assert state(path) == before
    SystemResolver(path).take(SERVERS)
    SystemResolver(path).give_back()
    SystemResolver(path).give_back()
    assert state(path) == before


def test_taken_again_by_the_next_process_it_still_knows_what_was_before(etc, before):
    path = etc / "resolv.conf"
    SystemResolver(path).take(SERVERS)
    SystemResolver(path).take(("10.64.0.1",))
    assert servers_in(path) == ("10.64.0.1",)
    SystemResolver(path).give_back()
    assert state(path) == before


def test_taking_what_is_taken_writes_nothing(etc):
    plain(etc)
    path = etc / "resolv.conf"
    SystemResolver(path).take(SERVERS)
    inode, changed = path.stat().st_ino, path.stat().st_mtime_ns
    SystemResolver(path).take(SERVERS)
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (inode, changed)


def test_what_somebody_else_wrote_meanwhile_is_what_comes_back(etc):
    """A DHCP client on another network: its file is wanted, not that of the network before."""
    plain(etc)
    path = etc / "resolv.conf"
    SystemResolver(path).take(SERVERS)
    path.write_text("nameserver 172.16.0.1\n")
    SystemResolver(path).take(SERVERS)
    assert servers_in(path) == SERVERS
    SystemResolver(path).give_back()
    assert path.read_text() == "nameserver 172.16.0.1\n"


def test_what_somebody_else_wrote_last_stays(etc):
    plain(etc)
    path = etc / "resolv.conf"
    SystemResolver(path).take(SERVERS)
    path.unlink()
    path.symlink_to("/run/NetworkManager/resolv.conf")
    SystemResolver(path).give_back()
    assert str(path.readlink()) == "/run/NetworkManager/resolv.conf"


@pytest.mark.parametrize(
    "second",
    [
        "",
        "# before:\n",
        "# before: {\n",
        "# before: []\n",
        "# before: 7\n",
        '# before: {"link": null}\n',
        "# before: " + "[" * 9999,
    ],
)
def test_a_record_that_is_damaged_makes_it_somebody_elses_file(etc, second):
    path = etc / "resolv.conf"
    path.write_text(f"{MARK}{second}")
    SystemResolver(path).give_back()
    assert path.read_text() == f"{MARK}{second}"
    SystemResolver(path).take(SERVERS)
    assert servers_in(path) == SERVERS


def test_a_record_gives_no_mode_but_permissions(etc):
    path = etc / "resolv.conf"
    record = {"link": None, "text": "x", "mode": 0o107777, "owner": [0, 0]}
    path.write_text(f"{MARK}# before: {json.dumps(record)}\n")
    SystemResolver(path).give_back()
    assert path.stat().st_mode == 0o100777


# -- where the file cannot be replaced -------------------------------------------------------------


@pytest.fixture(params=[errno.EBUSY, errno.EXDEV, errno.EROFS, errno.EACCES, errno.EPERM])
def only_the_file(request, monkeypatch):
    """As in a container: resolv.conf is a mount of its own, or its directory is not ours to write."""

    def refuse(*_arguments, **_named):
        raise OSError(request.param, os.strerror(request.param))

    if request.param in {errno.EBUSY, errno.EXDEV}:
        monkeypatch.setattr(Path, "replace", refuse)
    else:
        monkeypatch.setattr(resolver, "_make", refuse)


@pytest.mark.parametrize("variant", [plain, empty, binary, long])
def test_where_only_the_file_may_be_written_it_is_written_into(etc, only_the_file, variant):
    variant(etc)
    path = etc / "resolv.conf"
    before = state(path)
    inode = path.stat().st_ino
    SystemResolver(path).take(SERVERS)
    assert servers_in(path) == SERVERS
    assert path.stat().st_ino == inode
    SystemResolver(path).give_back()
    assert state(path) == before
    assert [entry.name for entry in etc.iterdir()] == ["resolv.conf"]


def test_it_is_never_written_through_a_link(etc, only_the_file):
    stub(etc)
    with pytest.raises(Unavailable, match="writing"):
        SystemResolver(etc / "resolv.conf").take(SERVERS)
    assert (etc.parent / "run/stub-resolv.conf").read_text() == STUB
    assert str((etc / "resolv.conf").readlink()) == "../run/stub-resolv.conf"


def test_killed_while_it_is_written_into_the_file_is_whole(etc, only_the_file, monkeypatch):
    plain(etc)
    path = etc / "resolv.conf"
    before = state(path)
    SystemResolver(path).take(SERVERS)

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", killed)
        with pytest.raises(KeyboardInterrupt):
            SystemResolver(path).give_back()
    lines = path.read_text().rstrip("\n").split("\n")
    assert [line for line in lines if line and not line.startswith("#")] == ["nameserver 192.168.77.1", "search lan"]
    # The next run takes it over and gives it back byte for byte.
    SystemResolver(path).take(SERVERS)
    SystemResolver(path).give_back()
    assert state(path) == before


def test_killed_while_it_is_taken_it_can_be_given_back(etc, only_the_file, monkeypatch):
    long(etc)
    path = etc / "resolv.conf"
    before = state(path)

    def killed(*_arguments):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "ftruncate", killed)
        with pytest.raises(KeyboardInterrupt):
            SystemResolver(path).take(SERVERS)
    SystemResolver(path).give_back()
    assert state(path) == before


@pytest.mark.parametrize("variant", [plain, stub])
def test_killed_before_the_file_is_replaced_nothing_is_left_for_ever(etc, monkeypatch, variant):
    variant(etc)
    path = etc / "resolv.conf"
    before = state(path)

    def killed(*_arguments):
        raise KeyboardInterrupt

    for each in (SystemResolver(path).give_back, lambda: SystemResolver(path).take(SERVERS)):
        SystemResolver(path).take(SERVERS)
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", killed)
            patched.setattr(Path, "unlink", lambda _path, missing_ok=True: None)
            with contextlib.suppress(KeyboardInterrupt):
                each()
        SystemResolver(path).give_back()
        assert state(path) == before
        assert [entry.name for entry in etc.iterdir()] == ["resolv.conf"]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_without_the_right_to_write_it_the_way_out_is_told(etc, monkeypatch, number):
    plain(etc)

    def refuse(*_arguments, **_named):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(resolver, "_make", refuse)
    monkeypatch.setattr(resolver, "_write_into", refuse)
    with pytest.raises(Unavailable, match="writing") as raised:
        SystemResolver(etc / "resolv.conf").take(SERVERS)
    assert "deploy/systemd/resolver" in raised.value.hint


def test_a_disk_that_is_full_changes_nothing_and_is_told(etc, monkeypatch):
    plain(etc)
    path = etc / "resolv.conf"
    before = state(path)

    def full(*_arguments, **_named):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(resolver, "_make", full)
    with pytest.raises(Unavailable, match="No space left on device") as raised:
        SystemResolver(path).take(SERVERS)
    assert "DNS line" in raised.value.hint
    assert state(path) == before


def test_a_directory_in_its_place_is_told_and_is_not_ours(etc):
    path = etc / "resolv.conf"
    path.mkdir()
    with pytest.raises(Unavailable, match="Is a directory"):
        SystemResolver(path).take(SERVERS)
    SystemResolver(path).give_back()
    assert path.is_dir()


@given(
    st.binary().map(lambda data: data.decode(errors="surrogateescape")),
    st.lists(st.ip_addresses().map(str), max_size=3).map(tuple),
)
def test_any_file_comes_back(text, servers):
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "resolv.conf")
        path.write_bytes(text.encode(errors="surrogateescape"))
        before = state(path)
        SystemResolver(path).take(servers)
        assert servers_in(path) == servers
        SystemResolver(path).give_back()
        assert state(path) == before
