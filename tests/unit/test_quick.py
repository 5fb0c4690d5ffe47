"""The question without the library for HTTP: it takes what is an answer of ours, and says what is wrong with any other."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading

import pytest

from vpnpf.control.dialing import NotRunning, name_of, sockets
from vpnpf.control.quick import ask
from vpnpf.errors import PermissionDenied, Transient, Unavailable, UsageError


def answered(tmp_path, data, patience=5.0, *, close=True):
    """What `ask` makes of bytes that the far side sends."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / name_of("home")))
        listening.listen(1)
        stop = threading.Event()

        def serve():
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(data)
                if not close:
                    stop.wait(10)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            return ask("home", "/v1/state", (tmp_path,), patience)
        finally:
            stop.set()
            thread.join()


def test_an_answer(tmp_path):
    assert answered(tmp_path, b'HTTP/1.1 200 OK\r\nContent-Length: 8\r\nx: y\r\n\r\n{"a": 1}') == {"a": 1}


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "ended without an answer"),
        (b"nonsense\r\n\r\n{}", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "ended without an answer"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n\xff\xfe{", "cannot be read"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "cannot be read"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}", "cannot be read"),
        (b"HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n", "cannot be read"),
    ],
)
def test_an_answer_that_is_none(tmp_path, data, said):
    with pytest.raises(Unavailable, match=said):
        answered(tmp_path, data)


def test_a_refusal_is_what_it_says(tmp_path):
    body = b'{"error": {"doing": "asking", "cause": "no such path", "hint": "look", "exit": 64}}'
    with pytest.raises(UsageError, match="no such path"):
        answered(tmp_path, b"HTTP/1.1 404 Not Found\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body))


def test_one_that_says_nothing_is_not_waited_for(tmp_path):
    with pytest.raises(Transient, match=r"no answer within 0\.2 s"):
        answered(tmp_path, b"HTTP/1.1 200 OK\r\n", 0.2, close=False)


def test_nobody_runs(tmp_path):
    with pytest.raises(NotRunning, match="not running"):
        ask("home", "/v1/state", (tmp_path,), 1.0)


def test_sockets_by_name(tmp_path):
    for name in ("control-b.sock", "control-a_1.sock", "control-.sock", "status-c.json", "control-d.sock.x"):
        (tmp_path / name).touch()
    assert sockets((tmp_path, tmp_path / "none")) == ["a_1", "b"]


def test_sockets_that_may_not_be_seen(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(type(tmp_path), "iterdir", refuse)
    with pytest.raises(PermissionDenied, match="Permission denied") as caught:
        sockets((tmp_path,))
    assert "name the profile" in caught.value.hint


def test_status_loads_nothing_that_it_does_not_need(tmp_path):
    """Else it could not keep its time: see tests/bench."""
    text = """
import sys, vpnpf.cli.status_showing
slow = {"click", "asyncio", "http", "http.client", "email", "ssl", "vpnpf.model", "vpnpf.events", "vpnpf.config"}
print(sorted(slow & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", text], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
