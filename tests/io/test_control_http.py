"""The control socket as HTTP: what comes back, and that nobody who asks badly delays or ends anything."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import stat
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.io.control_world import PROFILE, Serving, chunk, read_all, ready_state, until
from vpnpf import __version__
from vpnpf.control import app, http, routes, stream
from vpnpf.control.app import REQUESTS, WATCHERS
from vpnpf.control.client import Connection, NotRunning
from vpnpf.control.messages import LARGEST
from vpnpf.control.peers import Peer, Role
from vpnpf.control.place import name_of, short
from vpnpf.control.routes import Route
from vpnpf.core.serialise import state_json
from vpnpf.errors import PermissionDenied, Transient, Unavailable, UsageError, VpnpfError
from vpnpf.events import PhaseChanged
from vpnpf.hub import Moment
from vpnpf.model import Phase

READY = ready_state()
HOST = b"host: vpnpf\r\n"
ECHO = b"POST /v1/echo HTTP/1.1\r\n" + HOST


@pytest.fixture
async def serving(tmp_path):
    async with Serving(tmp_path) as made:
        yield made


def status(answer):
    return int(answer.split(b" ", 2)[1])


def error(answer):
    return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


# -- questions and answers ------------------------------------------------------------------------


async def test_a_question_is_answered(serving):
    assert await serving.echo(a=1, b="ü") == {"a": 1, "b": "ü"}
    assert await serving.ask("post", "/v1/echo") == {"body": {}, "role": "owner"}


async def test_what_it_is_and_how_it_stands(serving):
    said = await serving.ask("get", "/v1")
    assert said == {
        "api": 1,
        "version": __version__,
        "profile": PROFILE,
        "pid": os.getpid(),
        "role": "owner",
        "phase": None,
    }
    with pytest.raises(Transient, match="just starting"):
        await serving.ask("get", "/v1/state")
    serving.hub.publish(READY, ())
    assert (await serving.ask("get", "/v1"))["phase"] == "ready"
    clock = serving.seen.clock
    said = await serving.ask("get", "/v1/state")
    assert {said.pop("pid"), said.pop("version")} == {os.getpid(), __version__}
    assert said.pop("time").endswith("Z")
    assert said == json.loads(json.dumps(state_json(READY, clock.wall() - clock.now())))


async def test_a_text_is_no_json(tmp_path):
    async def report(body, role):
        return "two\nlines ü\n"

    async with Serving(tmp_path, {("GET", "/v1/report"): Route(Role.OWNER, report)}) as made:
        assert await made.ask("text", "/v1/report") == "two\nlines ü\n"
        with pytest.raises(UsageError, match='does not know "/v1/none"'):
            await made.ask("text", "/v1/none")


async def test_a_refusal_comes_out_as_the_error_it_was(serving):
    with pytest.raises(Unavailable) as caught:
        await serving.ask("post", "/v1/no", {"what": "it"})
    assert (str(caught.value), caught.value.hint) == ("doing it: it is not there", "look for it")


async def test_a_mistake_of_ours_ends_nothing(serving):
    with pytest.raises(VpnpfError, match="RuntimeError"):
        await serving.ask("post", "/v1/mistake")
    assert await serving.echo() == {}


@pytest.mark.parametrize(
    ("line", "expected", "said"),
    [
        (b"GET /v1/launch HTTP/1.1", 404, 'does not know "/v1/launch"'),
        (b"GET / HTTP/1.1", 404, "speaks version 1"),
        (b"GET /v2/state HTTP/1.1", 404, "speaks version 1"),
        (b"GET /v1/../v1 HTTP/1.1", 404, "does not know"),
        (b"GET /v1/%00%ff HTTP/1.1", 404, "does not know"),
        (b"GET http://elsewhere/v1 HTTP/1.1", 404, "speaks version 1"),
        (b"GET /v1/echo HTTP/1.1", 405, "takes POST only"),
        (b"HEAD /v1 HTTP/1.1", 405, "takes GET only"),
        (b"BREW /v1 HTTP/1.1", 405, "takes GET only"),
    ],
)
async def test_what_is_not_there(serving, line, expected, said):
    answer = await serving.told(line + b"\r\n" + HOST + b"\r\n")
    assert status(answer) == expected
    if not line.startswith(b"HEAD"):
        assert said in error(answer)["cause"]
        assert error(answer)["exit"] == 64


async def test_nothing_is_said_of_what_serves(serving):
    head = (await serving.told(b"GET /v1 HTTP/1.1\r\n" + HOST + b"\r\n")).partition(b"\r\n\r\n")[0].lower()
    names = [line.partition(b":")[0] for line in head.split(b"\r\n")[1:]]
    assert names == [b"content-type", b"connection", b"content-length"]


# -- where it is, and whose -----------------------------------------------------------------------


async def test_the_socket_is_its_owners_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        async with Serving(tmp_path) as made:
            assert stat.S_IMODE(made.path.lstat().st_mode) == 0o600
    finally:
        os.umask(before)


async def test_a_group_that_is_not_there_is_said(tmp_path):
    async with Serving(tmp_path, group="no-such-group") as made:
        assert "no group no-such-group" in made.said[0]
        assert stat.S_IMODE(made.path.lstat().st_mode) == 0o600
        assert await made.echo() == {}


async def test_a_socket_that_a_killed_run_left_is_replaced_and_the_own_one_removed(tmp_path):
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / name_of(PROFILE)))
    left.close()
    with pytest.raises(NotRunning):
        Connection(PROFILE, (tmp_path,)).get("/v1")
    async with Serving(tmp_path) as made:
        assert await made.echo() == {}
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
        assert await made.echo() == {}


async def test_no_socket_of_tcp_is_opened(serving):
    before = inet_sockets()
    assert await serving.echo() == {}
    assert not inet_sockets() - before
    with socket.create_server(("127.0.0.1", 0)):  # the control: it would have been seen
        assert inet_sockets() - before


def inet_sockets():
    """Those of this process that have an address of a network."""
    mine = set()
    for each in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            mine.add(str(each.readlink()))
    lines = []
    for table in ("tcp", "tcp6", "udp", "udp6"):
        lines += Path("/proc/self/net", table).read_text().splitlines()[1:]
    return {f"socket:[{line.split()[9]}]" for line in lines} & mine


async def test_another_user_is_refused_with_a_clear_answer(serving, monkeypatch):
    monkeypatch.setattr(http, "peer_of", lambda *_: Peer(1234, Role.STRANGER))
    for method, path in (("post", "/v1/echo"), ("get", "/v1"), ("get", "/v1/none")):
        with pytest.raises(PermissionDenied, match="1234 may not") as caught:
            await serving.ask(method, path)
        assert caught.value.exit_code == 77


# -- bad askers -----------------------------------------------------------------------------------

BAD = [
    b"\r\n\r\n\r\n",
    b"\xff\xfe\r\n\r\n",
    b"GET /v1 HTTP/1.1\r\n\r\n",  # without a host
    b"GET /v1\r\n\r\n",
    b"GET /v1 HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    b"GET /v1 HTTP/1.1\r\n" + HOST + b"a b: c\r\n\r\n",
    b"GET /v1\x00 HTTP/1.1\r\n" + HOST + b"\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100) + b"\n\n",
    ECHO + b"content-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    ECHO + b"content-length: -2\r\n\r\n{}",
    ECHO + b"content-length: +2\r\n\r\n{}",
    ECHO + b"content-length: 2 2\r\n\r\n{}",
    ECHO + b"content-length: 0x2\r\n\r\n{}",
    ECHO + b"content-length: " + b"9" * 5000 + b"\r\n\r\n{}",
    ECHO + b"transfer-encoding: gzip\r\n\r\n{}",
    ECHO + b"transfer-encoding: chunked, gzip\r\n\r\n{}",
    ECHO + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    ECHO + b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
    ECHO + b"transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
]


@pytest.mark.parametrize("data", BAD)
async def test_what_is_no_request_is_refused(serving, data):
    answer = await serving.told(data)
    assert status(answer) in {400, 501}
    assert error(answer)["exit"] == 64
    assert await serving.echo() == {}


@pytest.mark.parametrize("body", [b"[]", b"nonsense", b"\xff\xfe", b"5", b"[" * 100_000, b'{"a":'])
async def test_a_body_that_is_no_object_is_refused(serving, body):
    answer = await serving.told(ECHO + f"content-length: {len(body)}\r\n\r\n".encode() + body)
    assert (status(answer), error(answer)["exit"]) == (400, 64)


async def test_with_both_lengths_the_one_of_the_chunks_holds_and_nothing_is_smuggled(serving):
    """RFC 9112 section 6.3: chunked wins, and the connection ends with the answer."""
    data = ECHO + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n"
    answer = await serving.told(data + b"GET /v1 HTTP/1.1\r\n" + HOST + b"\r\n")
    assert answer.count(b"HTTP/1.1") == 1


@pytest.mark.parametrize("chunks", [b"zz\r\n{}\r\n", b"-1\r\n", b"2\r\n{}xx", b"2;" + b"x" * 20_000])
async def test_chunks_that_are_none_end_the_connection(serving, chunks):
    answer = await serving.told(ECHO + b"transfer-encoding: chunked\r\n\r\n" + chunks)
    assert b" 200 " not in answer
    assert await serving.echo() == {}


async def test_a_body_in_chunks_is_whole(serving):
    answer = await serving.told(ECHO + b'transfer-encoding: chunked\r\n\r\n5\r\n{"a":\r\n2\r\n1}\r\n0\r\n\r\n')
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["body"] == {"a": 1}


async def test_a_connection_has_one_request_whether_pipelined_or_later(serving):
    one = b"GET /v1 HTTP/1.1\r\n" + HOST + b"\r\n"
    for data in (one * 2, one * 500):
        answer = await serving.told(data)
        assert answer.count(b"HTTP/1.1 200") == 1
        assert b"connection: close" in answer
    async with serving.raw() as (reader, writer):
        writer.write(one)
        assert status(await read_all(reader)) == 200
        writer.write(one)
        assert await read_all(reader) == b""


def flood(made, head, part):
    """Send without end; what has come back when that is no longer taken."""
    with socket.socket(socket.AF_UNIX) as connection, short(made.directory) as near:
        connection.settimeout(20)
        connection.connect(f"{near}/{name_of(PROFILE)}")
        connection.sendall(head)
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(part)
        answer = b""
        with contextlib.suppress(ConnectionError):
            while more := connection.recv(65536):
                answer += more
        return answer


async def test_headers_without_an_end_are_cut_off(serving):
    answer = await asyncio.to_thread(flood, serving, b"GET /v1 HTTP/1.1\r\n", b"x-filler: y\r\n" * 1000)
    assert (status(answer), error(answer)["exit"]) == (400, 64)
    assert await serving.echo() == {}


async def test_a_body_that_is_too_large_is_refused_before_it_comes_or_when_it_has(serving):
    answer = await serving.told(ECHO + f"content-length: {LARGEST + 1}\r\n\r\n".encode())
    assert (status(answer), error(answer)["exit"]) == (413, 64)
    part = b"%x\r\n%s\r\n" % (65536, b"x" * 65536)
    answer = await asyncio.to_thread(flood, serving, ECHO + b"transfer-encoding: chunked\r\n\r\n", part)
    assert status(answer) == 413
    with pytest.raises(UsageError, match="longer than"):
        await serving.echo(a="x" * LARGEST)
    assert len((await serving.echo(a="x" * 3_000_000))["a"]) == 3_000_000


@pytest.mark.parametrize("data", [b"", b"GET /v1 HT", ECHO, ECHO + b"content-length: 9\r\n\r\n{}"])
async def test_who_is_slow_is_told_and_let_go(serving, monkeypatch, data):
    monkeypatch.setattr(app, "PATIENCE", 0.05)
    answer = await serving.told(data)
    assert status(answer) == 408
    assert "not there within 0.05 s" in error(answer)["cause"]


async def test_who_sends_a_byte_now_and_then_is_let_go_too(serving, monkeypatch):
    monkeypatch.setattr(app, "PATIENCE", 0.2)
    # Not by streams: those throw away what came as soon as a byte of theirs cannot be sent any more.
    loop, caller = asyncio.get_running_loop(), socket.socket(socket.AF_UNIX)
    caller.setblocking(False)
    with caller, short(serving.directory) as near:
        await loop.sock_connect(caller, f"{near}/{name_of(PROFILE)}")

        async def drip():
            with contextlib.suppress(ConnectionError):
                for each in ECHO + b"content-length: 9\r\n\r\n" + b" " * 9000:
                    await loop.sock_sendall(caller, bytes((each,)))
                    await asyncio.sleep(0.01)

        dripping = asyncio.create_task(drip())
        assert status(await loop.sock_recv(caller, 65536)) == 408
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_who_never_reads_the_answer_is_let_go(serving, monkeypatch):
    monkeypatch.setattr(app, "PATIENCE", 0.05)
    async with serving.raw() as (reader, writer):
        reader._transport.pause_reading()
        writer.write(b"GET /v1/much HTTP/1.1\r\n" + HOST + b"\r\n")
        await until(lambda: connections(serving))
        await until(lambda: not connections(serving))


def connections(serving):
    return serving.server.http.server_state.connections if serving.server.http else ()


async def test_a_large_answer_comes_whole(serving):
    assert len((await serving.ask("get", "/v1/much"))["much"]) == 3_000_000


async def test_who_goes_midway_leaves_nothing_behind(serving):
    for data in (b"GET /v1 H", ECHO + b"content-length: 9\r\n\r\n{", b"GET /v1/much HTTP/1.1\r\n" + HOST + b"\r\n"):
        async with serving.raw() as (_, writer):
            writer.write(data)
            await until(lambda: connections(serving))
    async with serving.watching():
        pass
    await until(lambda: not connections(serving) and not serving.hub._readers)
    assert not serving.server._app._busy.total()


async def test_so_many_and_no_more_and_the_next_is_told(tmp_path, monkeypatch):
    go, waiting = asyncio.Event(), []

    async def wait(body, role):
        waiting.append(1)
        await go.wait()
        return {}

    async with Serving(tmp_path, {("GET", "/v1/wait"): Route(Role.WATCHER, wait)}) as made:
        async with contextlib.AsyncExitStack() as stack:

            async def begin(count):
                for _ in range(count):
                    _, writer = await stack.enter_async_context(made.raw())
                    writer.write(b"GET /v1/wait HTTP/1.1\r\n" + HOST + b"\r\n")

            await begin(REQUESTS - app.RESERVED)
            await until(lambda: len(waiting) == REQUESTS - app.RESERVED)
            with monkeypatch.context() as patch:  # the group leaves some for the owner
                patch.setattr(http, "peer_of", lambda *_: Peer(1234, Role.WATCHER))
                with pytest.raises(Transient, match="6 others are asking"):
                    await made.ask("get", "/v1")
            await begin(app.RESERVED)
            await until(lambda: len(waiting) == REQUESTS)
            with pytest.raises(Transient, match="8 others are asking"):
                await made.ask("get", "/v1")
            go.set()
            await until(lambda: not connections(made))
        assert await made.echo() == {}


@pytest.mark.parametrize("slow", [True, False])
async def test_what_waits_for_others_takes_no_place_from_the_rest(tmp_path, slow):
    """The control is that which does not say so."""
    go, waiting = asyncio.Event(), []

    async def wait(body, role):
        waiting.append(1)
        await go.wait()
        return {}

    made = Serving(tmp_path, {("GET", "/v1/wait"): Route(Role.OWNER, wait, slow=slow)})
    async with made, contextlib.AsyncExitStack() as stack:
        for _ in range(REQUESTS):
            _, writer = await stack.enter_async_context(made.raw())
            writer.write(b"GET /v1/wait HTTP/1.1\r\n" + HOST + b"\r\n")
        await until(lambda: len(waiting) == REQUESTS)
        with pytest.raises(Transient, match="8 others are asking"):
            await made.ask("get", "/v1/wait" if slow else "/v1")
        if slow:
            assert (await made.ask("get", "/v1"))["role"] == "owner"
        go.set()
        await until(lambda: not connections(made))


async def test_who_only_connects_takes_no_place_from_others_and_so_many_may(serving):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(http.CONNECTIONS - 1):
            await stack.enter_async_context(serving.raw())
        await until(lambda: len(connections(serving)) == http.CONNECTIONS - 1)
        assert await serving.echo() == {}
        await until(lambda: len(connections(serving)) == http.CONNECTIONS - 1)
        await stack.enter_async_context(serving.raw())
        with pytest.raises(Transient, match="too many others"):
            await serving.echo()
    await until(lambda: not connections(serving))
    assert await serving.echo() == {}


async def test_an_answer_that_takes_too_long_is_ended(tmp_path):
    ended = asyncio.Event()

    async def forever(body, role):
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    route = Route(Role.OWNER, forever, longest=0.05)
    async with Serving(tmp_path, {("GET", "/v1/forever"): route}) as made:
        with pytest.raises(Transient, match=r"no answer within 0\.05 s"):
            await made.ask("get", "/v1/forever")
        assert ended.is_set()
    assert routes.LONGEST == 20


async def test_a_server_that_ends_in_the_middle(tmp_path):
    started = asyncio.Event()

    async def forever(body, role):
        started.set()
        await asyncio.Event().wait()

    async with Serving(tmp_path, {("GET", "/v1/forever"): Route(Role.OWNER, forever)}) as made:
        asking = asyncio.create_task(made.ask("get", "/v1/forever"))
        await started.wait()
    with pytest.raises(Unavailable):
        await asking
    assert not list(tmp_path.iterdir())


# -- watching -------------------------------------------------------------------------------------


async def test_events_begin_with_the_state_and_end_with_the_run(tmp_path):
    async with Serving(tmp_path) as made:
        made.hub.publish(READY, ())
        found = []

        def watch():
            found.extend(made.connection.events())

        watching = asyncio.create_task(asyncio.to_thread(watch))
        await until(lambda: made.hub._readers)
        await until(lambda: not next(iter(made.hub._readers))._state)
        notice = PhaseChanged(Phase.READY, Phase.BLOCKED, "it is lost")
        made.hub.publish(replace(READY, phase=Phase.BLOCKED), (Moment(made.seen.clock.now(), notice),))
    await watching
    assert [(each["event"], each["profile"]) for each in found] == [
        ("state", PROFILE),
        ("phase", PROFILE),
        ("state", PROFILE),
    ]
    assert (found[0]["phase"], found[1]["cause"], found[2]["phase"]) == ("ready", "it is lost", "blocked")


async def test_an_empty_line_says_that_it_lives(serving, monkeypatch):
    monkeypatch.setattr(stream, "BEAT", 0.01)
    async with serving.watching() as (head, reader):
        assert b"application/x-ndjson" in head
        assert [await chunk(reader) for _ in range(3)] == [b"\n"] * 3
        serving.hub.publish(READY, ())
        while (line := await chunk(reader)) == b"\n":
            pass
        assert json.loads(line)["event"] == "state"


async def test_so_many_watchers_and_the_next_is_told(serving):
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(WATCHERS):
            await stack.enter_async_context(serving.watching())
        with pytest.raises(Transient, match="128 others"):
            await asyncio.to_thread(next, serving.connection.events())
        assert await serving.echo() == {}  # they take no place from questions


async def test_a_watcher_that_never_reads_is_let_go(serving, monkeypatch):
    monkeypatch.setattr(app, "STUCK", 0.1)
    monkeypatch.setattr(stream, "APART", 0.0)
    async with serving.watching() as (_, reader):
        reader._transport.pause_reading()
        async with asyncio.timeout(10):
            for number in range(10_000):
                if not serving.hub._readers:
                    break
                serving.hub.publish(replace(READY, exit_seen=f"{number}" * 10_000), ())
                await asyncio.sleep(0.001)
        assert not serving.hub._readers
        await until(lambda: not connections(serving))


@pytest.mark.alone
async def test_a_hundred_watchers_of_whom_one_is_stuck_do_not_delay_the_engine(serving):
    """A thousand states, one each millisecond: each watcher but the stuck one has the last of them at the end."""
    last = replace(READY, exit_seen="last")
    serving.hub.publish(READY, ())

    async def read(reader):
        while True:
            line = await chunk(reader)
            if json.loads(line)["exit_seen"] == "last":
                return time.perf_counter()

    async with contextlib.AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(serving.watching()) for _ in range(100)]
        watchers[0][1]._transport.pause_reading()
        reading = [asyncio.create_task(read(reader)) for _, reader in watchers[1:]]
        took = []
        for number in range(1000):
            state = replace(READY, exit_seen=f"{number:04}" * 5000)
            began = time.perf_counter()
            serving.hub.publish(state, ())
            took.append(time.perf_counter() - began)
            await asyncio.sleep(0.001)
        stuck = [each for each in connections(serving) if each.flow.write_paused]
        assert len(stuck) == 1
        serving.hub.publish(last, ())
        published = time.perf_counter()
        seen = await asyncio.gather(*reading)
    assert max(took) < 0.05
    assert sum(took) < 1.0
    assert max(seen) - published < 2.0


@pytest.mark.alone
async def test_without_the_pause_between_lines_a_burst_is_sent_as_a_burst(serving, monkeypatch):
    """The control of the one above: how much a watcher is sent is what bounds the work."""

    async def count():
        async with serving.watching() as (_, reader):
            got = 0

            async def read():
                nonlocal got
                while json.loads(await chunk(reader))["exit_seen"] != "last":
                    got += 1

            reading = asyncio.create_task(read())
            for number in range(200):
                serving.hub.publish(replace(READY, exit_seen=str(number)), ())
                await asyncio.sleep(0.001)
            serving.hub.publish(replace(READY, exit_seen="last"), ())
            await reading
            return got

    serving.hub.publish(READY, ())
    paced = await count()
    serving.hub.publish(READY, ())
    monkeypatch.setattr(stream, "APART", 0.0)
    assert paced < 50 < await count()


# -- what goes through the tunnel -----------------------------------------------------------------


async def lines(reader, event):
    """The next one of this kind."""
    while True:
        for line in (await chunk(reader)).splitlines():
            if line and json.loads(line)["event"] == event:
                return json.loads(line)


@pytest.fixture
def often(monkeypatch):
    monkeypatch.setattr(stream, "TRAFFIC", 0.02)


@pytest.mark.usefixtures("often")
async def test_who_watches_is_told_what_goes_through_the_tunnel(serving):
    serving.seen.counted = (1000, 20)
    serving.hub.publish(READY, ())
    async with serving.watching() as (_, reader):
        assert json.loads(await chunk(reader))["event"] == "state"
        first = await lines(reader, "traffic")
        serving.seen.counted = (2000, 30)
        while (later := await lines(reader, "traffic"))["received"] == 1000:
            pass
    assert {**first, "time": ""} == {"event": "traffic", "time": "", "received": 1000, "sent": 20}
    assert first["time"].endswith("Z")
    assert (later["received"], later["sent"]) == (2000, 30)
    assert set(serving.seen.read) == {READY.tunnel.interface}


@pytest.mark.usefixtures("often")
async def test_nobody_watches_and_nothing_is_read(serving):
    serving.seen.counted = (1, 1)
    serving.hub.publish(READY, ())
    async with serving.watching() as (_, reader):
        await lines(reader, "traffic")
    await until(lambda: not serving.hub._readers)
    read = len(serving.seen.read)
    await asyncio.sleep(0.1)  # five readings' worth
    assert len(serving.seen.read) == read
    async with serving.watching() as (_, reader):
        await lines(reader, "traffic")


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize(("tunnel", "counted"), [(None, (1, 1)), (READY.tunnel, None)])
async def test_without_a_tunnel_or_its_device_there_is_no_traffic_line(serving, monkeypatch, tunnel, counted):
    monkeypatch.setattr(stream, "BEAT", 0.1)
    serving.seen.counted = counted
    serving.hub.publish(replace(READY, tunnel=tunnel), ())
    async with serving.watching() as (_, reader):
        assert json.loads(await chunk(reader))["event"] == "state"
        assert await chunk(reader) == b"\n"
    assert bool(serving.seen.read) == (tunnel is not None)


@pytest.mark.usefixtures("often")
async def test_a_burst_of_states_hides_no_traffic(serving):
    serving.seen.counted = (1, 1)
    serving.hub.publish(READY, ())

    async def burst():
        number = 0
        while True:
            number += 1
            serving.hub.publish(replace(READY, exit_seen=str(number)), ())
            await asyncio.sleep(0.001)

    bursting = asyncio.create_task(burst())
    async with serving.watching() as (_, reader), asyncio.timeout(5):
        for _ in range(5):
            await lines(reader, "traffic")
    bursting.cancel()


@pytest.mark.usefixtures("often")
async def test_many_watchers_and_a_stuck_one_cost_one_reading_each_time(serving):
    serving.seen.counted = (1, 1)
    serving.hub.publish(READY, ())
    async with contextlib.AsyncExitStack() as stack:
        watchers = [await stack.enter_async_context(serving.watching()) for _ in range(20)]
        watchers[0][1]._transport.pause_reading()
        serving.seen.read.clear()
        for _ in range(5):
            async with asyncio.timeout(5):
                await asyncio.gather(*(lines(reader, "traffic") for _, reader in watchers[1:]))
        assert 4 <= len(serving.seen.read) < 40
    await until(lambda: not serving.hub._readers)
