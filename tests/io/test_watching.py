"""`vpnpf watch` and `vpnpf status` against a control socket: one that comes and goes, and one that says nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.io.control_world import PROFILE, Serving, ready_state, until
from tests.unit.engine_world import START
from vpnpf.cli import status_reading
from vpnpf.cli.main import run_command_line
from vpnpf.control import dialing
from vpnpf.events import PortGranted, ProblemNoticed, RemedyTaken
from vpnpf.hub import Moment
from vpnpf.model import FailureKind, Phase, Problem, Remedy

READY = ready_state()
(FORWARD,) = READY.forwards


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    for module in (status_reading, dialing):
        monkeypatch.setattr(module, "SYSTEM", tmp_path / "nowhere")
    return tmp_path


@pytest.fixture
async def serving(directory):
    async with Serving(directory) as far:
        far.hub.publish(READY, ())
        yield far


@pytest.fixture
def cli(capsys):
    async def do(*arguments):
        code = await asyncio.to_thread(run_command_line, list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return do


class Watch:
    """`vpnpf watch` as a process of its own, as Ctrl-C is for a process."""

    def __init__(self, directory, *arguments):
        env = {**os.environ, "RUNTIME_DIRECTORY": str(directory), "PYTHONUNBUFFERED": "1"}
        argv = [sys.executable, "-m", "vpnpf", "watch", *arguments]
        self.process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.out, self.err, self.threads = [], [], []
        for pipe, kept in ((self.process.stdout, self.out), (self.process.stderr, self.err)):
            self.threads.append(threading.Thread(target=self._read, args=(pipe, kept), daemon=True))
            self.threads[-1].start()

    @staticmethod
    def _read(pipe, kept):
        with pipe:
            kept.extend(line.rstrip("\n") for line in pipe)

    async def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        for thread in self.threads:
            await asyncio.to_thread(thread.join, 10)
        return await asyncio.to_thread(self.process.wait, 10)


PROBLEM = Problem("asking 10.2.0.1", FailureKind.TRANSIENT, "no\x1banswer", "look", START, 1, START + 5)


async def test_watch_says_what_run_says(serving, directory):
    watch = Watch(directory)
    await until(lambda: serving.hub._readers)
    moments = (
        Moment(START, PortGranted("torrent", FORWARD.lease, 39999)),
        Moment(START, ProblemNoticed(PROBLEM)),
        Moment(START, RemedyTaken(Remedy.RETRY, "asking 10.2.0.1: no\x1banswer", "torrent")),
    )
    serving.hub.publish(replace(READY, phase=Phase.LEASING), moments)
    await until(lambda: len(watch.out) >= 4)
    assert [line[9:] for line in watch.out] == [
        "torrent: the gateway changed the port from 39999 to 40000; opening the new one first",
        "problem: asking 10.2.0.1: no?answer",
        "  hint: look",
        "torrent: trying the same again",
    ]
    assert await watch.end() == 130
    assert len(watch.err) == 1
    assert watch.err[0].startswith("home is ")  # before anything happens: nobody is to think that it hangs


async def test_watch_goes_on_when_the_far_side_was_away(directory):
    async with Serving(directory) as far:
        far.hub.publish(READY, ())
        watch = Watch(directory, "home", "--json")
        await until(lambda: watch.out)
        assert json.loads(watch.out[0])["phase"] == "ready"
    await until(lambda: watch.err)
    assert "home went away" in watch.err[0]
    async with Serving(directory) as far:
        far.hub.publish(replace(READY, phase=Phase.STOPPED), ())
        await until(lambda: len(watch.out) > 1)
        assert json.loads(watch.out[-1])["phase"] == "stopped"
        await until(lambda: "home is back" in watch.err)
        far.hub.close()
        await until(lambda: len(watch.err) > 2)
        assert "was ended on purpose" in watch.err[2]
    assert await watch.end() == 130
    assert all(json.loads(line) for line in watch.out)


async def test_status_is_asked_of_the_profile_itself(serving, cli):
    code, out, err = await cli("status")
    assert (code, err) == (0, "")
    assert "READY: the port is open" in out
    code, out, _ = await cli("status", PROFILE, "--json")
    assert code == 0
    assert json.loads(out)["event"] == "state"


async def test_one_that_does_not_answer_is_shown_as_it_wrote(serving, directory, cli, monkeypatch):
    monkeypatch.setattr("vpnpf.cli.status_asking.PATIENCE", 0.2)
    serving.task.cancel()
    await asyncio.gather(serving.task, return_exceptions=True)
    raw = {
        "time": "2026-01-01T00:00:00.000Z",
        "pid": os.getpid(),
        "profile": PROFILE,
        "provider": "p",
        "phase": "ready",
    }
    (directory / "status-home.json").write_text(json.dumps(raw))
    code, out, _ = await cli("status")
    assert code == 69  # nobody listens, and it was written long ago
    assert "not running" in out
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(directory / "control-home.sock"))
        mute.listen(5)
        raw["time"] = datetime.now(UTC).isoformat()
        (directory / "status-home.json").write_text(json.dumps(raw))
        code, out, _ = await cli("status")
        assert code == 75
        assert out.startswith("home runs but does not answer (no answer within 0.2 s): this is what it wrote")
        code, out, err = await cli("status", "--json")
        assert (code, json.loads(out)["phase"]) == (75, "ready")
        assert "does not answer" in err
    (directory / "status-home.json").unlink()


async def test_the_shell_completes_what_runs(serving, directory):
    env = {
        **os.environ,
        "RUNTIME_DIRECTORY": str(directory),
        "_VPNPF_COMPLETE": "bash_complete",
        "COMP_WORDS": "vpnpf port ho",
        "COMP_CWORD": "2",
    }
    argv = (sys.executable, "-m", "vpnpf")
    done = await asyncio.to_thread(subprocess.run, argv, env=env, capture_output=True, text=True, check=True)
    assert done.stdout == "plain,home\n"


STATUS_AT_MOST = 6.0
"""Times the time of `python -c pass`, in the same run."""


@pytest.mark.alone
async def test_status_is_said_in_six_times_the_time_of_nothing(serving, directory):
    program = str(Path(sys.executable).with_name("vpnpf"))
    env = {**os.environ, "RUNTIME_DIRECTORY": str(directory)}

    def timed(*argv):
        began = time.perf_counter()
        done = subprocess.run(argv, capture_output=True, env=env, check=True)
        return time.perf_counter() - began, done.stdout

    ours, bare = [], []
    for _ in range(21):
        seconds, said = await asyncio.to_thread(timed, program, "status", PROFILE)
        assert b"READY" in said
        ours.append(seconds)
        bare.append((await asyncio.to_thread(timed, sys.executable, "-c", "pass"))[0])
    ratio = statistics.median(ours) / statistics.median(bare)
    assert ratio <= STATUS_AT_MOST, f"{ratio:.2f}"
