"""A run ends, whatever does not let itself be ended in it."""

from __future__ import annotations

import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from vpnpf.cli.run import _status

RUN = """
import asyncio, contextlib, os, signal, sys, threading, time
from types import SimpleNamespace
from vpnpf.cli import ending, run
from vpnpf.cli.main import run_command_line
from vpnpf.io.clock import BootClock

ending.PATIENCE = 0.5
what, crash = sys.argv[1:3]

async def stubborn():
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

class Supervisor:
    left_behind = ()
    machine = SimpleNamespace(closed=False)

    def post(self, event):
        pass

    async def run(self):
        if what == "task":
            self.held = asyncio.create_task(stubborn(), name="stubborn")
        elif what == "thread":
            self.held = asyncio.get_running_loop().run_in_executor(None, time.sleep, 600)
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.1)
        if crash == "yes":
            raise RuntimeError("a mistake")

class Run(SimpleNamespace):
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

async def build(settings, hub, timeline=()):
    policies = SimpleNamespace(trouble="", by_hand=None)
    return Run(supervisor=Supervisor(), hub=hub, clock=BootClock(), relays=(), leave=str, profile="home",
        policies=policies, locks=contextlib.ExitStack())

home = SimpleNamespace(spec=SimpleNamespace(name="home"))
run.read = lambda profile, config: SimpleNamespace(profile=lambda name: home, group="")
run.build = build
sys.exit(run_command_line(["run"]))
"""


def ended(tmp_path, what, *, crash):
    """Status and standard error of such a run."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", RUN, what, "yes" if crash else "no"],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env={"RUNTIME_DIRECTORY": str(tmp_path), "STATE_DIRECTORY": str(tmp_path)},
    )
    assert time.monotonic() - began < 10
    return done.returncode, done.stderr


@pytest.mark.parametrize("crash", [True, False])
def test_a_task_that_does_not_end_is_named_and_left(tmp_path, crash):
    status, said = ended(tmp_path, "task", crash=crash)
    assert status == (70 if crash else 0)
    assert "held up by stubborn; ended all the same" in said
    assert ("vpnpf made a mistake: RuntimeError: a mistake" in said) == crash


@pytest.mark.parametrize("crash", [True, False])
def test_nor_is_a_thread_waited_for(tmp_path, crash):
    status, said = ended(tmp_path, "thread", crash=crash)
    assert status == (70 if crash else 0)
    assert "ended all the same" in said


@pytest.mark.parametrize("crash", [True, False])
def test_a_run_in_which_all_ends_says_nothing_of_it(tmp_path, crash):
    status, said = ended(tmp_path, "nothing", crash=crash)
    assert status == (70 if crash else 0)
    assert "ended all the same" not in said
    assert ("vpnpf made a mistake: RuntimeError: a mistake" in said) == crash


@pytest.mark.parametrize(
    ("left", "asked", "systemd", "status"),
    [
        (False, True, True, 0),
        (True, True, True, 0),
        (True, True, False, 70),
        (True, False, True, 70),
    ],
)
def test_systemd_does_not_start_again_what_was_asked_to_end(left, asked, systemd, status):
    daemon = SimpleNamespace(left_behind=(object(),) if left else (), asked_to_end=asked)
    assert _status(daemon, {"NOTIFY_SOCKET": "/run/systemd/notify"} if systemd else {}) == status
