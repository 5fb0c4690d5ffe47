"""Another user who poses as vpnpf: nothing that he says is shown, and no password is sent to him. Real users, real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from vpnpf.cli import status_reading
from vpnpf.control import believing, dialing
from vpnpf.control.client import Connection
from vpnpf.control.quick import ask
from vpnpf.errors import PermissionDenied
from vpnpf.tui.found import running

pytestmark = pytest.mark.system

OTHER, NOBODY = 65531, 65532

POSE = """
import http.server, os, socket, socketserver, sys
path, user = sys.argv[1:]
os.setgroups([]); os.setgid(int(user)); os.setuid(int(user))

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self):
        sent = self.rfile.read(int(self.headers.get("content-length") or 0))
        print("got", sent.decode(), flush=True)
        body = b'{"api":1,"phase":"ready","title":"a","tried":true,"kept":"b","notes":[]}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True
    do_GET = do_POST = answer
    def address_string(self): return ""
    def log_message(self, *_): pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

os.umask(0)
server = Server(path, Handler)
print("there", flush=True)
server.serve_forever()
"""


@contextlib.contextmanager
def posing(directory: Path, user: int):
    """Somebody who listens where vpnpf would, and says what came in."""
    path = directory / "control-home.sock"
    argv = [sys.executable, "-c", POSE, str(path), str(user)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "there\n"
            yield process
        finally:
            process.kill()
            process.wait()
            path.unlink(missing_ok=True)


@pytest.fixture
def ground():
    """A directory that everybody can reach, below one as /tmp."""
    made = Path(f"/tmp/vpnpf-believing-{os.getpid()}")
    made.mkdir(mode=0o755)
    yield made
    for each in sorted(made.rglob("*"), reverse=True):
        each.rmdir() if each.is_dir() and not each.is_symlink() else each.unlink()
    made.rmdir()


def belonging(directory: Path, user: int, mode: int = 0o755) -> Path:
    directory.mkdir(parents=True)
    directory.chmod(mode)
    os.chown(directory, user, user)
    return directory


def login(directory: Path):
    return Connection("home", (directory,), 5.0).post("/v1/login", {"name": "p", "password": "hunter2-hunter2"})


def test_a_password_is_not_sent_to_who_poses_as_vpnpf(ground, monkeypatch):
    home = belonging(ground / "home", OTHER)
    place = belonging(home / "run", OTHER)
    with posing(place, OTHER) as other:
        with pytest.raises(PermissionDenied, match="65531"):
            login(place)
        with pytest.raises(PermissionDenied, match="65531"):
            ask("home", "/v1/state", (place,), 5.0)
        assert running((), (place,)) == ()
        # The control: without the look at who listens it would have been his.
        monkeypatch.setattr(dialing, "believe", lambda *_: None)
        login(place)
        assert "hunter2-hunter2" in other.stdout.readline()


def test_one_who_poses_does_not_stand_before_the_real_one(ground):
    belonging(ground / "home", OTHER)
    fake, real = belonging(ground / "home" / "run", OTHER), belonging(ground / "run", 0)
    with posing(fake, OTHER), posing(real, 0) as ours:
        Connection("home", (fake, real), 5.0).get("/v1")
        assert ours.stdout.readline() == "got \n"


def test_the_service_s_own_user_is_believed_where_root_gave_him_the_directory(ground):
    place = belonging(ground / "run", OTHER, 0o700)
    with posing(place, OTHER):
        assert login(place)["tried"]


@pytest.mark.parametrize("trick", ["another's socket", "a directory in /tmp", "a link", "a parent of his"])
def test_a_directory_counts_only_where_root_put_it(trick):
    """Each would be as good as the one above, were it not for that one thing."""
    made = Path(f"/tmp/vpnpf-trick-{os.getpid()}")
    place, who = made, OTHER
    try:
        if trick == "another's socket":  # in a directory that a third one owns and lets him write to
            made.mkdir(mode=0o755)
            place, who = belonging(made / "run", OTHER, 0o777), NOBODY
        elif trick == "a directory in /tmp":
            belonging(made, OTHER)
        elif trick == "a link":
            made.mkdir(mode=0o755)
            os.chown(made, OTHER, OTHER)
            belonging(made / "mine", OTHER)
            place = made / "link"
            place.symlink_to("mine")
        else:
            belonging(made, OTHER)
            place = belonging(made / "run", OTHER)
        with posing(place, who), pytest.raises(PermissionDenied, match=str(who)):
            login(place)
    finally:
        for each in sorted(made.rglob("*"), reverse=True):
            each.rmdir() if each.is_dir() and not each.is_symlink() else each.unlink()
        made.rmdir()


def test_a_status_file_of_another_user_is_not_how_things_stand(ground, monkeypatch):
    home = belonging(ground / "home", OTHER)
    place = belonging(home / "run", OTHER)
    said = {
        "time": datetime.now(UTC).isoformat(),
        "profile": "home",
        "provider": "p",
        "phase": "ready",
        "pid": os.getpid(),
    }
    (place / "status-home.json").write_text(json.dumps(said))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(place))
    now = datetime.now(UTC).timestamp()
    with pytest.raises(PermissionDenied, match="another user can write there"):
        status_reading.find("home", now)
    # The controls: the same file where root gave him the directory, and without the look at whose it is.
    os.chown(home, 0, 0)
    assert status_reading.find("home", now)[0].seen.phase == "ready"
    os.chown(home, OTHER, OTHER)
    monkeypatch.setattr(status_reading, "ours", lambda _: True)
    assert status_reading.find("home", now)[0].seen.phase == "ready"


def test_our_own_and_root_s_are_believed_wherever_they_are(ground):
    place = belonging(ground / "home" / "run", OTHER, 0o777)
    with posing(place, os.geteuid()):
        assert login(place)["tried"]
    assert believing.ours(Path("/run"))
