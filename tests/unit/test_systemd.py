"""What systemd is told: once, in one line, and a sign of life only from an engine that turns."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import World
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.view import view
from vpnpf.hub import Hub
from vpnpf.model import FailureKind, Phase, Problem
from vpnpf.observers import systemd as module
from vpnpf.observers.systemd import Notifier, status_line, tell_systemd, watchdog, words

READY = view(World().ready().machine)
STARTING = replace(READY, phase=Phase.STARTING, firewall=None)


class Listener:
    """systemd's end of the socket."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self.socket.setblocking(False)
        self.environment = {"NOTIFY_SOCKET": address}

    async def next(self):
        async with asyncio.timeout(5):
            data = await asyncio.get_running_loop().sock_recv(self.socket, 4096)
        return dict(line.split("=", 1) for line in data.decode().split("\n"))

    def nothing(self):
        with pytest.raises(BlockingIOError):
            self.socket.recv(4096)


@pytest.fixture(params=["path", "abstract"])
def listener(request, tmp_path):
    made = Listener(str(tmp_path / "notify") if request.param == "path" else f"@vpnpf-test-{os.getpid()}")
    yield made
    made.socket.close()


def test_ready_when_the_rules_stand_and_not_before():
    assert "READY" not in words(STARTING)
    for phase in (Phase.CONNECTING, Phase.LEASING, Phase.READY, Phase.BLOCKED):
        assert words(replace(READY, phase=phase))["READY"] == "1"
    assert "READY" not in words(replace(STARTING, phase=Phase.FAILED))


def test_stopping_is_told_when_the_process_ends_and_not_when_the_profile_rests():
    assert "STOPPING" not in words(READY, ending=True)
    for phase in (Phase.STOPPING, Phase.STOPPED):
        assert words(replace(READY, phase=phase), ending=True)["STOPPING"] == "1"
        assert "STOPPING" not in words(replace(READY, phase=phase))
    # One that is told to rest before its rules stood has started all the same.
    assert words(replace(STARTING, phase=Phase.STOPPED))["READY"] == "1"
    assert "READY" not in words(replace(STARTING, phase=Phase.STOPPED), ending=True)


def test_the_line_says_phase_and_port_and_no_address():
    lease = READY.forwards[0].lease
    assert status_line(READY) == f"ready: torrent {lease.external_port}"
    assert str(lease.exit_address) not in status_line(READY)
    without = replace(READY, forwards=(replace(READY.forwards[0], lease=None),))
    assert status_line(without) == "ready: torrent without a port"


def test_a_problem_is_told_of_and_not_told():
    problem = Problem("asking 10.2.0.1\nREADY=1", FailureKind.TRANSIENT, "no answer")
    line = status_line(replace(READY, problems=(problem,)))
    assert "vpnpf status" in line
    assert "10.2.0.1" not in line


def test_a_name_cannot_add_a_line_of_its_own():
    forward = READY.forwards[0]
    odd = replace(forward, spec=replace(forward.spec, name="x\nREADY=1"))
    assert "\n" not in status_line(replace(READY, forwards=(odd,) * 99))
    assert len(status_line(replace(READY, forwards=(odd,) * 99))) <= 200


@pytest.mark.parametrize("address", ["", "/", "@", "vsock:2:1234", "relative/path"])
def test_an_address_that_is_none_is_passed_over(address):
    assert Notifier.of({"NOTIFY_SOCKET": address}) is None
    assert Notifier.of({}) is None


async def test_what_was_told_is_not_told_again(listener):
    notifier = Notifier.of(listener.environment)
    notifier.tell({"READY": "1", "STATUS": "a"})
    assert await listener.next() == {"READY": "1", "STATUS": "a"}
    notifier.tell({"READY": "1", "STATUS": "b"})
    assert await listener.next() == {"STATUS": "b"}
    notifier.tell({"READY": "1", "STATUS": "b"})
    listener.nothing()


async def test_what_found_no_room_is_told_later(listener):
    notifier = Notifier.of(listener.environment)
    count = 0
    while notifier.turned():
        count += 1
    notifier.tell({"READY": "1"})
    for _ in range(count):
        assert await listener.next() == {"WATCHDOG": "1"}
    listener.nothing()
    notifier.tell({"READY": "1"})
    assert await listener.next() == {"READY": "1"}


def test_nobody_there_is_no_error(tmp_path):
    notifier = Notifier(str(tmp_path / "none"))
    notifier.tell({"READY": "1"})
    assert not notifier.turned()


@pytest.mark.parametrize(
    ("environment", "seconds"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "7"}, 60.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "8"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "x"}, None),
    ],
)
def test_the_watchdog_is_for_the_process_that_is_named(environment, seconds):
    assert watchdog(environment, 7) == seconds


async def test_without_systemd_it_ends_at_once():
    async with asyncio.timeout(5):
        await tell_systemd(Hub(), {})


async def test_a_run_is_told_from_start_to_stop(listener):
    hub, ending = Hub(), []
    task = asyncio.create_task(tell_systemd(hub, listener.environment, lambda: bool(ending)))
    hub.publish(STARTING, ())
    assert await listener.next() == {"STATUS": status_line(STARTING)}
    hub.publish(READY, ())
    assert await listener.next() == {"READY": "1", "STATUS": status_line(READY)}
    hub.publish(replace(READY, phase=Phase.STOPPED), ())
    assert await listener.next() == {"STATUS": status_line(replace(READY, phase=Phase.STOPPED))}
    hub.publish(READY, ())
    assert await listener.next() == {"STATUS": status_line(READY)}
    ending.append(True)
    hub.publish(replace(READY, phase=Phase.STOPPING), ())
    assert (await listener.next())["STOPPING"] == "1"
    hub.close()
    async with asyncio.timeout(5):
        await task


async def test_a_sign_of_life_comes_only_from_an_engine_that_turns(listener, monkeypatch):
    looks, go = 0, asyncio.Event()
    sleep = asyncio.sleep

    async def counted(seconds):
        nonlocal looks
        assert seconds == 15.0  # a fourth of the watchdog's time
        looks += 1
        await sleep(0)
        if looks % 5 == 0:
            await go.wait()
            go.clear()

    monkeypatch.setattr("vpnpf.observers.beat.asyncio.sleep", counted)
    hub = Hub()
    hub.publish(READY, ())
    environment = {**listener.environment, "WATCHDOG_USEC": "60000000"}
    task = asyncio.create_task(tell_systemd(hub, environment))
    assert (await listener.next())["READY"] == "1"
    while looks < 5:
        await sleep(0)
    listener.nothing()  # five looks, and nobody turned
    hub.publish(READY, ())  # a step that changed nothing
    go.set()
    while looks < 10:
        await sleep(0)
    assert await listener.next() == {"WATCHDOG": "1"}
    listener.nothing()
    hub.close()
    async with asyncio.timeout(5):
        await task


def test_a_quiet_engine_is_quicker_than_the_watchdog_of_the_unit():
    text = (Path(__file__).parents[2] / "deploy/systemd/vpnpf@.service").read_text()
    seconds = float(text.partition("WatchdogSec=")[2].partition("\n")[0])
    assert 2 * (LONGEST_SLEEP + seconds / module.SHARE) <= seconds
