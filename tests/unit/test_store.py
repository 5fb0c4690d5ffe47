"""What survives a restart: never half of it, never readable to others, and one holder of a lock."""

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from vpnpf.errors import Unavailable
from vpnpf.store import FileStore, InstanceLock, make_private, runtime_directory, state_directory

OLD, NEW = {"port": 1, "token": "a"}, {"port": 2, "token": "b" * 100_000}


@pytest.fixture
def store(tmp_path):
    return FileStore(tmp_path / "state")


def modes(directory):
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in (directory, *directory.iterdir())}


# -- values ---------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded(store, tmp_path):
    assert store.load("leases-home") is None
    store.save("leases-home", OLD)
    store.save("leases-home", NEW)
    store.save("other", OLD)
    assert FileStore(tmp_path / "state").load("leases-home") == NEW
    store.forget("leases-home")
    store.forget("leases-home")
    assert store.load("leases-home") is None
    assert store.load("other") == OLD


def test_nobody_else_may_read_it_whatever_the_umask(store, tmp_path):
    before = os.umask(0)
    try:
        store.save("a", OLD)
    finally:
        os.umask(before)
    assert modes(tmp_path / "state") == {"state": 0o700, "a.json": 0o600}


class Crash(BaseException):
    """The process ends here: nothing after it happens, and nothing catches it."""


def crash(*arguments, **more):
    raise Crash


def full(*arguments, **more):
    raise OSError(errno.ENOSPC, "No space left on device")


POINTS = ["os.open", "os.fdopen", "os.fsync", "os.replace"]


@pytest.mark.parametrize("point", POINTS)
def test_after_a_crash_the_old_value_is_there(store, tmp_path, monkeypatch, point):
    store.save("a", OLD)
    with monkeypatch.context() as patch:
        patch.setattr(point, crash)
        patch.setattr("os.unlink", crash)  # nor does it clean up
        with pytest.raises(Crash):
            store.save("a", NEW)
    assert FileStore(tmp_path / "state").load("a") == OLD
    store.save("a", NEW)
    assert FileStore(tmp_path / "state").load("a") == NEW
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["a.json"], "what the crash left is gone"


def test_after_a_crash_behind_the_replacement_the_new_value_is_there(store, tmp_path, monkeypatch):
    store.save("a", OLD)
    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "_sync", crash)
        with pytest.raises(Crash):
            store.save("a", NEW)
    assert FileStore(tmp_path / "state").load("a") == NEW


@pytest.mark.parametrize("point", [*POINTS, "json.dumps"])
def test_what_fails_leaves_no_file_behind(store, tmp_path, monkeypatch, point):
    store.save("a", OLD)
    with monkeypatch.context() as patch:
        patch.setattr(point, full)
        with pytest.raises((Unavailable, OSError)) as caught:
            store.save("a", NEW)
    if point != "json.dumps":
        assert isinstance(caught.value, Unavailable)
        assert "No space left" in str(caught.value)
        assert str(tmp_path / "state") in caught.value.hint
    assert store.load("a") == OLD
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["a.json"]


def test_the_file_is_on_the_disk_before_it_replaces_the_old_one_and_then_the_directory(store, monkeypatch):
    happened = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(descriptor):
        happened.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        real["fsync"](descriptor)

    def replace(*arguments):
        happened.append("replace")
        real["replace"](*arguments)

    monkeypatch.setattr("os.fsync", fsync)
    monkeypatch.setattr("os.replace", replace)
    store.save("a", NEW)
    assert happened == ["file", "replace", "directory"]


WRITER = """
import sys
from pathlib import Path
from vpnpf.store import FileStore
store = FileStore(Path(sys.argv[1]))
for number in range(150):
    store.save("token", {"whose": sys.argv[2], "text": sys.argv[2] * (1 + number % 7) * 20_000})
"""


def test_two_processes_that_save_the_same_value_are_not_in_each_others_way(store, tmp_path):
    """As the runs of two profiles with one account do: neither fails, and nobody ever reads a half."""
    store.save("token", OLD)
    directory = tmp_path / "state"
    argv = [sys.executable, "-c", WRITER, str(directory)]
    writers = [subprocess.Popen([*argv, name], stderr=subprocess.PIPE, text=True) for name in "ab"]
    seen = 0
    while any(each.poll() is None for each in writers):
        value = store.load("token")
        assert value is not None, "half of a file was read, and put aside"
        seen += 1
    said = [each.communicate()[1] for each in writers]
    assert said == ["", ""]
    assert [each.returncode for each in writers] == [0, 0]
    assert seen > 0
    assert [path.name for path in directory.iterdir()] == ["token.json"]


def test_who_holds_up_another_process_for_ever_is_not_waited_for(store, tmp_path, monkeypatch):
    store.save("a", OLD)
    monkeypatch.setattr("vpnpf.whole_file.PATIENCE", 0.05)
    descriptor = os.open(tmp_path / "state", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(Unavailable, match="another process is writing there"):
            store.save("a", NEW)
    finally:
        os.close(descriptor)
    assert store.load("a") == OLD
    store.save("a", NEW)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"a": 1', b"\xff", b"[" * 100_000, b"9" * 5000])
def test_a_damaged_file_is_put_aside(store, tmp_path, content):
    store.save("a", OLD)
    (tmp_path / "state" / "a.json").write_bytes(content)
    assert store.load("a") is None
    assert (tmp_path / "state" / "a.damaged").read_bytes() == content
    assert store.load("a") is None
    store.save("a", NEW)
    assert store.load("a") == NEW


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.EACCES])
def test_a_file_that_cannot_be_read_at_the_moment_is_not_damaged(store, tmp_path, monkeypatch, number):
    store.save("a", OLD)

    def failing(path):
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_bytes", failing)
        assert store.load("a") is None
    assert store.load("a") == OLD
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["a.json"]


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a\0b", "x" * 65, "a b"])
def test_a_name_is_no_path(store, name):
    for call in (store.load, store.forget, lambda name: store.save(name, OLD)):
        with pytest.raises(ValueError, match="not a name"):
            call(name)


# -- directories ----------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_parents_that_are_made_on_the_way_are_private_too(tmp_path, umask):
    """Where the secrets come first, as with `vpnpf login`, the directory above has to be good for the rest."""
    state = tmp_path / "share" / "state"
    before = os.umask(umask)
    try:
        make_private(state / "secrets")
    finally:
        os.umask(before)
    assert make_private(state) == state
    assert modes(state) == {"state": 0o700, "secrets": 0o700}
    assert stat.S_IMODE((tmp_path / "share").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o722, 0o1777])
def test_a_directory_that_others_may_write_to_is_refused(tmp_path, mode):
    directory = tmp_path / "state"
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(Unavailable, match=f"{mode:04o}") as caught:
        FileStore(directory).save("a", OLD)
    assert "chmod 700" in caught.value.hint
    assert not list(directory.iterdir())


def test_one_that_others_may_look_into_will_do(tmp_path):
    (tmp_path / "state").mkdir(mode=0o755)
    FileStore(tmp_path / "state").save("a", OLD)


@pytest.mark.system  # only root can give directories away
def test_a_directory_of_somebody_else_is_refused(tmp_path):
    (tmp_path / "state").mkdir(mode=0o700)
    os.chown(tmp_path / "state", 12345, 12345)
    with pytest.raises(Unavailable, match="it belongs to the user 12345"):
        make_private(tmp_path / "state")


def test_what_is_no_directory_is_refused(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "link", "file/below"):
        with pytest.raises(Unavailable) as caught:
            make_private(tmp_path / name)
        assert caught.value.hint


def test_where_it_is(monkeypatch, tmp_path):
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert (state_directory(), runtime_directory()) == (Path("/var/lib/vpnpf"), Path("/run/vpnpf"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert (state_directory(), runtime_directory()) == (tmp_path / ".local/state/vpnpf", tmp_path / ".cache/vpnpf")
    monkeypatch.setenv("XDG_STATE_HOME", "/s")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    assert (state_directory(), runtime_directory()) == (Path("/s/vpnpf"), Path("/r/vpnpf"))
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/mine:/var/lib/other")
    assert state_directory() == Path("/var/lib/mine")


def test_a_user_without_a_home(monkeypatch):
    def homeless():
        raise RuntimeError

    for name in ("STATE_DIRECTORY", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(Unavailable) as caught:
        state_directory()
    assert "STATE_DIRECTORY" in caught.value.hint


# -- locks ----------------------------------------------------------------------------------------

HOLDER = """
import sys, time
from pathlib import Path
from vpnpf.store import InstanceLock
with InstanceLock(Path(sys.argv[1]), "profile-home", "runs the profile home"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its standard input ends."""
    argv = [sys.executable, "-c", HOLDER, str(tmp_path)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout.readline() == "held\n"
            yield child
        finally:
            child.kill()


def lock(directory):
    return InstanceLock(directory, "profile-home", "runs the profile home")


def test_one_holder_among_processes_until_it_ends(tmp_path, holder):
    with pytest.raises(Unavailable, match=rf"another vpnpf \(process {holder.pid}\) runs the profile home") as caught:
        lock(tmp_path).__enter__()
    assert f"kill {holder.pid}" in caught.value.hint
    with InstanceLock(tmp_path, "profile-away", "runs another"):
        pass
    holder.stdin.close()
    holder.wait(10)
    with lock(tmp_path):
        assert (tmp_path / "profile-home.lock").read_text() == f"{os.getpid()}\n"


def test_a_lock_of_a_process_that_was_killed_is_free(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    with lock(tmp_path), pytest.raises(Unavailable, match=f"process {os.getpid()}"):
        lock(tmp_path).__enter__()
    with lock(tmp_path):
        pass


def test_a_program_that_the_holder_started_does_not_keep_it(tmp_path):
    with lock(tmp_path):
        child = subprocess.Popen(["sleep", "60"], close_fds=False)
    try:
        with lock(tmp_path):
            pass
    finally:
        child.kill()
        child.wait()


def test_its_file_is_ours_and_stays(tmp_path):
    before = os.umask(0)
    try:
        with lock(tmp_path / "run"):
            assert modes(tmp_path / "run") == {"run": 0o700, "profile-home.lock": 0o600}
    finally:
        os.umask(before)
    assert (tmp_path / "run" / "profile-home.lock").exists()


def test_a_holder_that_has_not_written_its_number_yet(tmp_path):
    with lock(tmp_path):
        (tmp_path / "profile-home.lock").write_text("")
        with pytest.raises(Unavailable, match="just starting") as caught:
            lock(tmp_path).__enter__()
    assert "?" not in f"{caught.value} {caught.value.hint}"


def test_a_full_disk_does_not_break_the_lock(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("os.write", full)
        with lock(tmp_path), pytest.raises(Unavailable, match="another vpnpf"):
            lock(tmp_path).__enter__()


def test_a_file_that_cannot_be_opened_is_said(tmp_path):
    (tmp_path / "elsewhere").touch()
    (tmp_path / "profile-home.lock").symlink_to(tmp_path / "elsewhere")
    before = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(Unavailable, match=r"locking .*profile-home\.lock") as caught:
        lock(tmp_path).__enter__()
    assert caught.value.hint
    with lock(tmp_path / "a"):
        for _ in range(3):
            with pytest.raises(Unavailable):
                lock(tmp_path / "a").__enter__()
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_a_lock_has_a_name(tmp_path):
    with pytest.raises(ValueError, match="not a name"):
        InstanceLock(tmp_path, "../x", "")


def test_what_is_saved_is_json(store, tmp_path):
    store.save("a", OLD)
    assert json.loads((tmp_path / "state" / "a.json").read_text()) == OLD
