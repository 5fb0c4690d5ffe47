"""The status file: always the last state, never in anybody's way."""

from __future__ import annotations

import asyncio
import json
import os
import stat
import threading
import time

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import World
from vpnpf import __version__
from vpnpf.core.serialise import state_json
from vpnpf.core.view import view
from vpnpf.errors import Unavailable
from vpnpf.hub import Hub
from vpnpf.model import FailureKind, Phase, Problem
from vpnpf.observers import status_file as module
from vpnpf.observers.status_file import StatusWriter, keep_status

WALL = 1_800_000_000.0
READY = view(World().ready().machine)
STOPPED = replace(READY, phase=Phase.STOPPED)
PROBLEM = Problem("putting the routes back", FailureKind.TRANSIENT, "busy")


class Clock:
    """Seconds of its own."""

    def __init__(self):
        self.time = 1000.0

    def now(self):
        return self.time

    def wall(self):
        return self.time + WALL


def until(condition, patience=5.0):
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


async def soon(condition):
    await asyncio.to_thread(until, condition)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "status-home.json"


@pytest.fixture
def saves(monkeypatch):
    """What is saved, and when; `error` makes it fail."""

    class Saves(list):
        error = None
        tries = 0

    made, real = Saves(), module.FileStore.save

    def save(store, name, value):
        made.tries += 1
        if made.error:
            raise made.error
        real(store, name, value)
        made.append((time.monotonic(), value["phase"]))

    monkeypatch.setattr(module.FileStore, "save", save)
    return made


async def test_it_holds_the_state_as_events_say_it_and_who_wrote_it(tmp_path, path):
    hub = Hub()
    keeping = asyncio.create_task(keep_status(hub, Clock(), tmp_path, pytest.fail))
    hub.publish(READY, ())
    await soon(path.exists)
    written = json.loads(path.read_text())
    assert written.pop("time") == "2027-01-15T08:16:40.000Z"
    assert (written.pop("pid"), written.pop("version")) == (os.getpid(), __version__)
    assert written == json.loads(json.dumps(state_json(READY, WALL)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    hub.publish(STOPPED, ())
    hub.close()
    await keeping
    assert not path.exists()


@pytest.mark.parametrize("last", [READY, replace(STOPPED, problems=(PROBLEM,))])
async def test_after_another_end_the_last_state_stays(tmp_path, path, last):
    hub = Hub()
    keeping = asyncio.create_task(keep_status(hub, Clock(), tmp_path, pytest.fail))
    hub.publish(replace(READY, phase=Phase.LEASING), ())
    await soon(path.exists)
    hub.publish(last, ())
    hub.close()
    await keeping
    assert json.loads(path.read_text())["phase"] == str(last.phase)


async def test_a_clean_end_removes_what_an_earlier_run_left(tmp_path, path):
    path.write_text("{}")
    hub = Hub()
    hub.publish(STOPPED, ())
    hub.close()
    await keep_status(hub, Clock(), tmp_path, pytest.fail)
    assert not path.exists()


async def test_an_unchanged_state_shows_that_we_live(tmp_path, saves):
    hub = Hub()
    hub.publish(READY, ())
    keeping = asyncio.create_task(keep_status(hub, Clock(), tmp_path, pytest.fail, beat=0.05))
    await soon(lambda: len(saves) >= 2)
    hub.close()
    await keeping


async def test_a_cancelled_observer_leaves_the_file(tmp_path, path):
    hub = Hub()
    hub.publish(READY, ())
    keeping = asyncio.create_task(keep_status(hub, Clock(), tmp_path, pytest.fail))
    await soon(path.exists)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert path.exists()


def test_a_burst_is_two_writes_and_the_last_one_counts(tmp_path, path, saves):
    writer = StatusWriter(tmp_path, pytest.fail, apart=0.2)
    writer.put(replace(READY, phase=Phase.CONNECTING), 0.0, WALL)
    until(lambda: saves)
    for _ in range(1000):
        writer.put(replace(READY, phase=Phase.LEASING), 0.0, WALL)
    writer.put(READY, 0.0, WALL)
    until(lambda: len(saves) == 2)
    writer.close(remove=False)
    writer.join()
    assert [phase for _, phase in saves] == ["connecting", "ready"]
    assert saves[1][0] - saves[0][0] >= 0.19
    assert json.loads(path.read_text())["phase"] == "ready"


def test_what_is_left_at_the_end_is_written_at_once(tmp_path, saves):
    writer = StatusWriter(tmp_path, pytest.fail, apart=60.0)
    writer.put(READY, 0.0, WALL)
    until(lambda: saves)
    writer.put(STOPPED, 0.0, WALL)
    writer.close(remove=False)
    writer.join()
    assert [phase for _, phase in saves] == ["ready", "stopped"]


def test_a_failure_is_said_once_and_tried_again(tmp_path, path, saves):
    said = []
    saves.error = Unavailable("saving it", "No space left on device")
    writer = StatusWriter(tmp_path, said.append, apart=0.01)
    writer.put(READY, 0.0, WALL)
    until(lambda: saves.tries >= 5)
    assert said == ["problem: saving it: No space left on device; `vpnpf status` knows nothing new until that works"]
    saves.error = None
    until(path.exists)
    writer.close(remove=True)
    writer.join()
    assert not path.exists()


def test_a_failure_does_not_hold_up_the_end(tmp_path, saves):
    saves.error = Unavailable("saving it", "Read-only file system")
    writer = StatusWriter(tmp_path, lambda _: None, apart=60.0)
    writer.put(READY, 0.0, WALL)
    until(lambda: saves.tries)
    writer.close(remove=False)
    writer.join()
    assert not writer._thread.is_alive()


def test_a_stuck_disk_holds_up_nobody(tmp_path, monkeypatch):
    stuck = threading.Event()
    monkeypatch.setattr(module.FileStore, "save", lambda *_: stuck.wait())
    writer = StatusWriter(tmp_path, pytest.fail)
    begun = time.monotonic()
    for _ in range(100):
        writer.put(READY, 0.0, WALL)
    writer.close(remove=False)
    writer.join(0.05)
    assert time.monotonic() - begun < 1.0
    stuck.set()
    writer.join()
