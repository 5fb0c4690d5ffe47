"""The control socket's messages and its client: what goes through, and what an odd far side may say."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.control import client
from vpnpf.control.client import Connection, NotRunning
from vpnpf.control.messages import LARGEST, NotNow, encode, parse_answer, parse_request, refusal, status_of
from vpnpf.control.place import name_of, short
from vpnpf.errors import (
    ConfigError,
    Misconfigured,
    Mistake,
    PermissionDenied,
    Transient,
    Unavailable,
    UsageError,
    VpnpfError,
)

PROFILE = "home"


def test_nobody_runs(tmp_path):
    with pytest.raises(NotRunning, match="not running") as caught:
        Connection(PROFILE, (tmp_path, tmp_path / "none")).get("/v1")
    assert caught.value.exit_code == 69
    assert "vpnpf up home" in caught.value.hint


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "ended without an answer"),
        (b"nonsense\n", "cannot be read"),
        (b'{"version": 1, "ok": true, "result": {}}\n', "cannot be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "ended without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff\xfe{", "cannot be read"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", "cannot be read"),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000, "cannot be read"),
    ],
)
def test_an_answer_that_is_none(tmp_path, data, said):
    with pytest.raises(Unavailable, match=said):
        answered(tmp_path, data)


def test_an_answer_that_has_no_end(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "LARGEST", 1000)
    with pytest.raises(Unavailable, match="longer than 1000"):
        answered(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 100_000)


def test_so_many_wait_already(tmp_path):
    with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as stack, short(tmp_path) as near:
        listening.bind(f"{near}/{name_of(PROFILE)}")
        listening.listen(0)
        stack.enter_context(socket.socket(socket.AF_UNIX)).connect(f"{near}/{name_of(PROFILE)}")
        with pytest.raises(Transient, match="no answer within"):
            Connection(PROFILE, (tmp_path,)).get("/v1")


def test_where_nobody_runs_the_command_line_loads_no_http(tmp_path):
    program = (
        "import sys; from pathlib import Path; from vpnpf.control.client import Connection, NotRunning\n"
        "try: Connection('home', (Path(sys.argv[1]),)).get('/v1')\n"
        "except NotRunning: print({'http.client', 'ssl', 'uvicorn', 'h11', 'asyncio'} & set(sys.modules))"
    )
    done = subprocess.run((sys.executable, "-c", program, tmp_path), check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_another_version_says_so(tmp_path):
    body = refusal(UsageError("asking vpnpf", "it speaks version 2 of its interface", "restart it"))
    head = f"HTTP/1.1 404 Not Found\r\ncontent-length: {len(body)}\r\n\r\n"
    with pytest.raises(UsageError, match="speaks version 2"):
        answered(tmp_path, head.encode() + body)


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
            return Connection(PROFILE, (directory,)).get("/v1")
        finally:
            thread.join()


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.booleans()))
def test_what_was_asked_arrives(arguments):
    assert parse_request(encode(arguments)) == arguments
    assert parse_answer(200, encode(arguments)) == arguments


@given(st.binary(max_size=200))
def test_any_bytes_are_a_question_or_a_usage_error(data):
    with contextlib.suppress(UsageError):
        parse_request(data)


@given(st.integers(100, 599), st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_an_error_of_ours(status, data):
    with contextlib.suppress(VpnpfError):
        parse_answer(status, data)


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (UsageError, 400),
        (Unavailable, 503),
        (Transient, 503),
        (PermissionDenied, 403),
        (VpnpfError, 500),
        (NotNow, 409),
    ],
)
def test_errors_go_through_with_their_kind(kind, status):
    error = kind("doing", "cause", "hint")
    assert status_of(error) == status
    with pytest.raises(Transient if kind is NotNow else kind) as caught:
        parse_answer(status, refusal(error))
    assert (caught.value.doing, caught.value.cause, caught.value.hint) == ("doing", "cause", "hint")
    assert caught.value.exit_code == kind.exit_code


def test_a_broken_configuration_goes_through_with_all_its_mistakes():
    error = ConfigError((Mistake("config.toml: a", "is wrong", "put it right"), Mistake("config.toml: b", "is too")))
    assert status_of(error) == 422
    with pytest.raises(ConfigError, match=r"config\.toml: a: is wrong") as caught:
        parse_answer(422, refusal(error))
    assert caught.value.exit_code == 78
    assert caught.value.mistakes == error.mistakes


def test_what_is_misconfigured_without_a_list_of_mistakes_goes_through_too():
    error = Misconfigured("logging in", "the password is wrong", "ask for it again")
    assert status_of(error) == 422
    assert "mistakes" not in json.loads(refusal(error))["error"]
    with pytest.raises(VpnpfError, match="the password is wrong") as caught:
        parse_answer(422, refusal(error))
    assert caught.value.exit_code == 78


def test_a_long_policy_has_room():
    assert LARGEST > 2_000_000
