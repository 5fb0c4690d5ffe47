"""The control socket: who may ask, what comes back, and that nobody who asks badly delays or ends anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import struct
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.control import client, server
from vpnpf.control.client import NotRunning, ask
from vpnpf.control.messages import LARGEST, parse_answer, parse_request, refusal, request, result
from vpnpf.control.place import name_of, short
from vpnpf.control.server import MOST, ControlServer
from vpnpf.errors import PermissionDenied, Transient, Unavailable, UsageError, VpnpfError

PROFILE = "home"


async def echo(arguments):
    return {"arguments": arguments}


async def no(arguments):
    raise Unavailable("doing it", "it is not there", f"look for {arguments['what']}")


async def mistake(arguments):
    raise RuntimeError("secret of the inside")


class Serving:
    """A server that is up, in a directory."""

    def __init__(self, directory, verbs=None):
        self.directory = directory
        self.said = []
        given_verbs = verbs or {"echo": echo, "no": no, "mistake": mistake}
        self.server = ControlServer(directory, PROFILE, given_verbs, self.said.append)

    @property
    def path(self):
        return self.directory / name_of(PROFILE)

    async def __aenter__(self):
        before = self.path.lstat().st_ino if self.path.exists() else None
        self.task = asyncio.create_task(self.server.serve())
        # It has no word for being up; it is when one can connect.
        for _ in range(1000):
            await asyncio.sleep(0)
            if self.task.done() or (self.path.exists() and self.path.lstat().st_ino != before):
                break
        return self

    async def __aexit__(self, *_):
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def ask(self, verb, **arguments):
        return await asyncio.to_thread(ask, PROFILE, verb, arguments, (self.directory,))

    @contextlib.asynccontextmanager
    async def raw(self):
        with short(self.directory) as near:
            reader, writer = await asyncio.open_unix_connection(f"{near}/{name_of(PROFILE)}")
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    async def told(self, data):
        """What comes back for some bytes."""
        async with self.raw() as (reader, writer):
            writer.write(data)
            writer.write_eof()
            return await reader.read()


async def until(condition):
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a connection's task has no word for its end
            await asyncio.sleep(0.001)


@pytest.fixture
async def serving(tmp_path):
    async with Serving(tmp_path) as made:
        yield made


# -- questions and answers ------------------------------------------------------------------------


async def test_a_question_is_answered(serving):
    assert await serving.ask("echo", a=1, b="ü") == {"arguments": {"a": 1, "b": "ü"}}


async def test_a_refusal_comes_out_as_the_error_it_was(serving):
    with pytest.raises(Unavailable) as caught:
        await serving.ask("no", what="it")
    assert (str(caught.value), caught.value.hint) == ("doing it: it is not there", "look for it")


async def test_a_mistake_of_ours_ends_nothing(serving):
    with pytest.raises(VpnpfError, match="RuntimeError"):
        await serving.ask("mistake")
    assert await serving.ask("echo") == {"arguments": {}}


async def test_an_unknown_verb(serving):
    with pytest.raises(UsageError, match='does not know "launch"'):
        await serving.ask("launch")


async def test_another_version(serving):
    answer = await serving.told(b'{"version":2,"verb":"echo"}\n')
    with pytest.raises(UsageError, match="version 2"):
        parse_answer(answer)


# -- where it is, and whose -----------------------------------------------------------------------


async def test_the_socket_is_its_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        async with Serving(tmp_path) as made:
            assert stat.S_IMODE(made.path.lstat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_a_socket_that_a_killed_run_left_is_replaced_and_the_own_one_removed(tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / name_of(PROFILE)))
    left.close()
    with pytest.raises(NotRunning):
        ask(PROFILE, "echo", {}, (tmp_path,))
    async with Serving(tmp_path) as made:
        assert await made.ask("echo") == {"arguments": {}}
    assert not list(tmp_path.iterdir())


async def test_a_file_that_is_no_socket_is_left_alone_and_said(tmp_path):
    (tmp_path / name_of(PROFILE)).write_text("mine")
    async with Serving(tmp_path) as made:
        await made.task
        assert "no socket" in made.said[0]
    assert (tmp_path / name_of(PROFILE)).read_text() == "mine"


async def test_a_directory_that_is_not_there_is_said(tmp_path):
    async with Serving(tmp_path / "none") as made:
        await made.task
        assert "No such file" in made.said[0]


async def test_a_long_path_is_no_hindrance(tmp_path):
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    async with Serving(deep) as made:
        assert await made.ask("echo") == {"arguments": {}}


def test_nobody_runs(tmp_path):
    with pytest.raises(NotRunning, match="not running") as caught:
        ask(PROFILE, "echo", {}, (tmp_path, tmp_path / "none"))
    assert caught.value.exit_code == 69
    assert "vpnpf run home" in caught.value.hint


async def test_another_user_is_refused_with_a_clear_answer(serving, monkeypatch):
    monkeypatch.setattr(server, "_CREDENTIALS", OtherUser)
    with pytest.raises(PermissionDenied, match="1234 may not") as caught:
        await serving.ask("echo")
    assert caught.value.exit_code == 77


class OtherUser:
    size = struct.calcsize("3i")

    @staticmethod
    def unpack(_):
        return 1, 1234, 1234


ASKING = """
import os, sys
from pathlib import Path
from vpnpf.control.client import ask
from vpnpf.errors import PermissionDenied
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    print(ask("home", "echo", {}, (Path(sys.argv[1]),)))
except PermissionDenied as error:
    print("denied:", error)
"""


@pytest.fixture
def open_place():
    """A directory that every user can reach: those above pytest's own are 0700."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vpnpf-control-") as made:
        Path(made).chmod(0o755)
        yield Path(made)


@pytest.mark.system
async def test_a_real_other_user_is_stopped_by_the_file_and_by_the_credentials(open_place):
    """The directory is open here, which ours never is; with the socket open too, the kernel's word is what is left."""

    async def as_nobody():
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", ASKING, str(open_place), stdout=-1)
        return (await process.communicate())[0].decode()

    async with Serving(open_place) as made:
        assert "Permission denied" in await as_nobody()
        made.path.chmod(0o666)
        assert "65534 may not" in await as_nobody()


# -- bad askers -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"{}\n",
        b"[]\n",
        b"nonsense\n",
        b"\xff\xfe\n",
        b'{"version":1}\n',
        b'{"version":1,"verb":5}\n',
        b'{"version":1,"verb":"echo","arguments":[]}\n',
        b'{"version":"1","verb":"echo"}\n',
        b"[" * 100_000 + b"\n",
        b'{"version":1,"verb":"echo"}',
        b"x" * 1000,
    ],
)
async def test_what_is_no_question_is_refused(serving, data):
    with pytest.raises(UsageError):
        parse_answer(await serving.told(data))
    assert await serving.ask("echo") == {"arguments": {}}


async def test_who_says_nothing_gets_nothing(serving):
    assert await serving.told(b"") == b""


async def test_a_question_without_an_end_is_cut_off(serving):
    async with serving.raw() as (reader, writer):
        with contextlib.suppress(ConnectionError):
            while not writer.transport.is_closing():
                writer.write(b"x" * 65536)
                await writer.drain()
        assert len(await read_all(reader)) < 1000
    assert await serving.ask("echo") == {"arguments": {}}


async def read_all(reader):
    with contextlib.suppress(ConnectionError):
        return await reader.read()
    return b""


async def test_who_is_slow_is_told_and_let_go(serving, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.05)
    async with serving.raw() as (reader, writer):
        writer.write(b'{"version":1,')
        with pytest.raises(UsageError, match=r"not there within 0\.05 s"):
            parse_answer(await reader.read())


async def test_who_never_reads_the_answer_is_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.05)

    async def much(_):
        return {"much": "x" * 3_000_000}

    async with Serving(tmp_path, {"much": much}) as made, made.raw() as (reader, writer):
        reader._transport.pause_reading()
        writer.write(request("much", {}))
        await until(lambda: made.server._answering)
        await until(lambda: not made.server._answering)


async def test_a_large_answer_comes_whole(tmp_path):
    async def much(_):
        return {"much": "x" * 3_000_000}

    async with Serving(tmp_path, {"much": much}) as made:
        assert len((await made.ask("much"))["much"]) == 3_000_000


async def test_so_many_and_no_more_and_the_next_is_told(serving, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 5.0)
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(MOST):
            await stack.enter_async_context(serving.raw())
        await until(lambda: len(serving.server._answering) == MOST)
        with pytest.raises(Transient, match="others are asking"):
            await serving.ask("echo")
    await until(lambda: not serving.server._answering)
    assert await serving.ask("echo") == {"arguments": {}}


async def test_a_verb_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(server, "LONGEST", 0.05)
    ended = asyncio.Event()

    async def forever(_):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Serving(tmp_path, {"forever": forever}) as made:
        with pytest.raises(Transient, match=r"no answer within 0\.05 s"):
            await made.ask("forever")
        assert ended.is_set()


async def test_the_loop_is_held_up_by_nobody(serving):
    """While eight connections send nonsense as fast as they can, the loop goes on turning."""
    longest, last = 0.0, asyncio.get_running_loop().time()

    async def flood():
        for _ in range(30):
            await read_told(serving)

    async def read_told(made):
        with contextlib.suppress(ConnectionError):
            await made.told(b"[" * 50_000)

    floods = [asyncio.create_task(flood()) for _ in range(MOST)]
    while not all(each.done() for each in floods):
        await asyncio.sleep(0)
        now = asyncio.get_running_loop().time()
        longest, last = max(longest, now - last), now
    assert longest < 0.5


async def test_a_server_that_ends_in_the_middle(tmp_path):
    started = asyncio.Event()

    async def forever(_):
        started.set()
        await asyncio.Event().wait()

    async with Serving(tmp_path, {"forever": forever}) as made:
        asking = asyncio.create_task(made.ask("forever"))
        await started.wait()
    with pytest.raises(Unavailable):
        await asking


# -- the far side seen from the asker -------------------------------------------------------------


@pytest.mark.parametrize("data", [b"", b"{}\n", b"nonsense\n", b'{"version":1,"ok":true}\n', b'{"version":1'])
def test_an_answer_that_is_none(tmp_path, data):
    with pytest.raises(Unavailable):
        answered(tmp_path, data)


def test_an_answer_that_has_no_end(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "LARGEST", 1000)
    with pytest.raises(Unavailable, match="without an answer"):
        answered(tmp_path, b"x" * 100_000)


def answered(directory, data):
    """Ask one who says `data` whatever he is asked."""
    with socket.socket(socket.AF_UNIX) as listening, short(directory) as near:
        listening.bind(f"{near}/{name_of(PROFILE)}")
        listening.listen()

        def say():
            connection, _ = listening.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(data)

        thread = threading.Thread(target=say)
        thread.start()
        try:
            return ask(PROFILE, "echo", {}, (directory,))
        finally:
            thread.join()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_what_was_asked_arrives(arguments):
    found = parse_request(request("verb", arguments))
    assert (found.verb, found.arguments) == ("verb", arguments)
    assert parse_answer(result(arguments)) == arguments


@given(st.binary(max_size=200))
def test_any_bytes_are_a_question_or_a_usage_error(data):
    with contextlib.suppress(UsageError):
        parse_request(data)


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error_of_ours(data):
    with contextlib.suppress(VpnpfError):
        parse_answer(data)


@pytest.mark.parametrize("kind", [UsageError, Unavailable, Transient, PermissionDenied, VpnpfError])
def test_errors_go_through_with_their_kind(kind):
    with pytest.raises(kind) as caught:
        parse_answer(refusal(kind("doing", "cause", "hint")))
    assert (caught.value.doing, caught.value.cause, caught.value.hint) == ("doing", "cause", "hint")
    assert caught.value.exit_code == kind.exit_code


def test_a_message_is_one_line():
    assert request("verb", {"text": "two\nlines"}).count(b"\n") == 1
    assert json.loads(result({"text": "two\nlines"}))["result"] == {"text": "two\nlines"}
    assert LARGEST > 2_000_000
