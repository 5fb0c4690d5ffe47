"""The command line against a control socket: what it asks, what it prints, and with which status it ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading

import pytest
from msgspec.structs import replace

from tests.io.control_world import PROFILE, Serving, ready_state, until
from tests.unit.engine_world import START
from vpnpf.cli import status_reading
from vpnpf.cli.main import run_command_line
from vpnpf.control import dialing
from vpnpf.control.messages import NotNow
from vpnpf.control.peers import Role
from vpnpf.control.routes import Route
from vpnpf.control.waiting import until as waited
from vpnpf.errors import ConfigError, Mistake, PermissionDenied, Unavailable
from vpnpf.events import PhaseChanged
from vpnpf.hub import Moment
from vpnpf.model import Phase, Proof

READY = ready_state()
(FORWARD,) = READY.forwards


class Asked:
    """Routes that note what they were asked."""

    def __init__(self):
        self.bodies = []
        self.answers = {}
        self.raises = {}
        self.then = {}

    def routes(self):
        def route(path):
            async def answer(body, role):
                del role
                self.bodies.append((path, body))
                if path in self.raises:
                    raise self.raises[path]
                if path in self.then:
                    self.then[path]()
                return self.answers.get(path, {})

            return Route(Role.OWNER, answer)

        posts = ("/v1/renew", "/v1/new-port", "/v1/server", "/v1/start", "/v1/stop", "/v1/restart", "/v1/shutdown")
        return {**{("POST", path): route(path) for path in posts}, ("GET", "/v1/servers"): route("/v1/servers")}


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    for module in (status_reading, dialing):
        monkeypatch.setattr(module, "SYSTEM", tmp_path / "nowhere")
    return tmp_path


@pytest.fixture
def asked():
    return Asked()


@pytest.fixture
async def serving(directory, asked):
    async with Serving(directory, asked.routes()) as far:
        far.hub.publish(READY, ())
        yield far


@pytest.fixture
def cli(capsys):
    async def do(*arguments):
        code = await asyncio.to_thread(run_command_line, list(arguments))
        said = capsys.readouterr()
        return code, said.out, said.err

    return do


VERBS = (["port"], ["renew"], ["server"], ["server", "next"], ["watch"], ["down"], ["down", "--stay"], ["restart"])


@pytest.mark.parametrize("words", VERBS)
async def test_nobody_runs(directory, cli, words):
    code, out, err = await cli(*words)
    assert (code, out) == (69, "")
    assert "no profile is running" in err
    assert "vpnpf up" in err


@pytest.mark.parametrize("words", VERBS)
async def test_another_one_runs(serving, cli, words):
    code, out, err = await cli(words[0], "work", *words[1:])
    assert (code, out) == (69, "")
    assert "profile work is not running" in err
    assert "hint: start it with: vpnpf up work" in err


@pytest.mark.parametrize("words", VERBS)
async def test_several_run_and_none_is_named(serving, directory, cli, words):
    more = Serving(directory)
    more.server._name = "control-work.sock"
    task = asyncio.create_task(more.server.serve())
    try:
        await until((directory / "control-work.sock").exists)
        code, _, err = await cli(*words)
        assert code == 64
        assert "name one of: home, work" in err
    finally:
        more.hub.close()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("name", ["../x", "a/b", "", "x" * 3 + "\n"])
async def test_what_is_no_name_goes_nowhere(serving, cli, name):
    code, _, err = await cli("port", name)
    assert code == 64
    assert "no name of a profile" in err


@pytest.mark.parametrize("words", [["renew"], ["server", "next"], ["down"], ["port", "--new"]])
async def test_who_may_only_watch(serving, asked, cli, words):
    refused = PermissionDenied("asking vpnpf", "the user 5 may only watch", "do it as root")
    asked.raises = dict.fromkeys(("/v1/renew", "/v1/server", "/v1/shutdown", "/v1/new-port"), refused)
    code, out, err = await cli(*words)
    assert (code, out) == (77, "")
    assert "may only watch" in err


async def test_a_daemon_of_another_version(directory, cli):
    async with Serving(directory) as far:  # without the routes
        far.hub.publish(READY, ())
        code, _, err = await cli("renew")
        assert code == 64
        assert "restart it" in err


# port


async def test_the_number_and_nothing_else(serving, cli):
    assert await cli("port") == (0, "40000\n", "")
    assert await cli("port", PROFILE, "--forward", "torrent") == (0, "40000\n", "")


async def test_of_several_forwards_each_has_a_line(serving, cli):
    other = replace(FORWARD, spec=replace(FORWARD.spec, name="game"), lease=replace(FORWARD.lease, external_port=5))
    serving.hub.publish(replace(READY, forwards=(FORWARD, other)), ())
    assert await cli("port") == (0, "torrent 40000\ngame 5\n", "")
    assert await cli("port", "--forward", "game") == (0, "5\n", "")
    serving.hub.publish(replace(READY, forwards=(FORWARD, replace(other, lease=None))), ())
    code, out, err = await cli("port")
    assert (code, out) == (75, "torrent 40000\n")
    assert "no port now for game" in err


async def test_a_forward_that_is_not_there(serving, cli):
    code, out, err = await cli("port", "--forward", "game")
    assert (code, out) == (64, "")
    assert "it has: torrent" in err


LOST = replace(FORWARD, proofs=replace(FORWARD.proofs, lease=Proof(ok=False)))


@pytest.mark.parametrize(
    "state",
    [
        replace(READY, phase=Phase.BLOCKED),
        replace(READY, phase=Phase.STOPPED, tunnel=None),
        replace(READY, forwards=(replace(FORWARD, lease=None),)),
        replace(READY, forwards=(LOST,)),
    ],
)
async def test_there_is_no_port_now(serving, cli, state):
    serving.hub.publish(state, ())
    code, out, err = await cli("port")
    assert (code, out) == (75, "")
    assert f"there is no port now: home is {state.phase}" in err
    assert "hint: " in err
    code, out, _ = await cli("port", "--wait", "0.2")
    assert (code, out) == (75, "")


async def test_a_port_is_waited_for(serving, cli):
    serving.hub.publish(replace(READY, phase=Phase.BLOCKED), ())
    waiting = asyncio.create_task(cli("port", "--wait", "20"))
    await until(lambda: serving.hub._readers)
    serving.hub.publish(READY, ())
    assert await waiting == (0, "40000\n", "")


async def test_one_that_is_just_starting_is_waited_for_too(directory, cli):
    async with Serving(directory) as far:
        code, out, err = await cli("port")
        assert (code, out) == (75, "")
        assert "just starting" in err
        waiting = asyncio.create_task(cli("port", "--wait", "20"))
        await until(lambda: far.hub._readers)
        far.hub.publish(READY, ())
        assert await waiting == (0, "40000\n", "")


async def test_another_port(serving, asked, cli):
    asked.answers["/v1/new-port"] = {"forwards": [{"name": "torrent", "external_port": 41000}]}
    assert await cli("port", "--new") == (0, "41000\n", "")
    assert await cli("port", PROFILE, "--new", "--forward", "torrent") == (0, "41000\n", "")
    assert asked.bodies == [("/v1/new-port", {"forward": None}), ("/v1/new-port", {"forward": "torrent"})]
    asked.raises["/v1/new-port"] = NotNow("asking for the port", "there is no tunnel", "see `vpnpf status`")
    code, out, err = await cli("port", "--new")
    assert (code, out) == (75, "")
    assert "there is no tunnel" in err


async def test_an_answer_without_ports_is_no_answer(serving, asked, cli):
    asked.answers["/v1/new-port"] = {"forwards": [5]}
    code, out, err = await cli("port", "--new")
    assert (code, out) == (69, "")
    assert "another version" in err


async def test_renewing(serving, asked, cli):
    asked.answers["/v1/renew"] = {"forwards": [{"name": "torrent", "external_port": 40000}]}
    assert await cli("renew") == (0, "torrent: port 40000 renewed\n", "")
    assert asked.bodies == [("/v1/renew", {"forward": None})]


# server


async def test_the_servers_are_listed(serving, asked, cli):
    asked.answers["/v1/servers"] = {
        "servers": [
            {"number": 1, "place": "Oslo\x1b", "endpoint": "203.0.113.5:51820", "current": True},
            {"number": 12, "place": None, "endpoint": None, "current": False},
        ]
    }
    code, out, _ = await cli("server")
    assert code == 0
    assert out == "*  1  Oslo?  203.0.113.5:51820\n  12\n"
    code, out, _ = await cli("server", PROFILE, "--json")
    assert json.loads(out) == asked.answers["/v1/servers"]


@pytest.mark.parametrize(
    ("words", "number"), [(["2"], 2), (["next"], None), ([PROFILE, "3"], 3), ([PROFILE, "next"], None)]
)
async def test_another_server(serving, asked, cli, words, number):
    code, out, err = await cli("server", *words)
    assert (code, out) == (0, "")
    assert "home goes to" in err
    assert asked.bodies == [("/v1/server", {"number": number})]


@pytest.mark.parametrize("words", [["0"], [PROFILE, "far"], [PROFILE, "1", "2"], [PROFILE, "²"]])
async def test_what_is_no_server(serving, asked, cli, words):
    code, _, _ = await cli("server", *words)
    assert code == 64
    assert not asked.bodies


# down, restart


@pytest.fixture
def child():
    process = subprocess.Popen(["sleep", "60"])
    yield process
    process.kill()
    process.wait()


async def test_down_waits_for_the_process_to_end(serving, asked, cli, child, monkeypatch):
    monkeypatch.setattr("vpnpf.control.client.Connection.far_process", lambda _: child.pid)
    asked.then["/v1/shutdown"] = child.terminate
    code, out, err = await cli("down")
    assert (code, out) == (0, "")
    assert "home has ended" in err
    assert child.wait() == -signal.SIGTERM


async def test_down_says_what_does_not_end(serving, asked, cli, monkeypatch):
    monkeypatch.setattr("vpnpf.cli.life._STOPPED", 0.1)
    code, _, err = await cli("down")  # the far side is this process
    assert code == 75
    assert "still runs after 0.1 s" in err


async def test_who_listens_is_told_by_the_kernel(serving):
    assert await asyncio.to_thread(serving.connection.far_process) == os.getpid()


async def test_down_and_stay(serving, asked, cli):
    def stopped():
        notice = PhaseChanged(Phase.STOPPING, Phase.STOPPED, "")
        serving.hub.publish(replace(READY, phase=Phase.STOPPED, tunnel=None), (Moment(START, notice),))

    asked.then["/v1/stop"] = stopped
    code, out, _ = await cli("down", "--stay")
    assert (code, out) == (0, "")
    assert asked.bodies == [("/v1/stop", {})]


async def test_restart_waits_for_the_new_ready(serving, asked, cli):
    restarting = asyncio.create_task(cli("restart"))
    await until(lambda: asked.bodies and serving.hub._readers)
    assert not restarting.done()  # the READY from before does not count
    serving.hub.publish(replace(READY, phase_since=READY.phase_since + 5), ())
    code, _, err = await restarting
    assert code == 0
    assert "home is READY: torrent 40000" in err


async def test_restart_with_a_broken_configuration_says_each_mistake(serving, asked, cli, monkeypatch):
    asked.raises["/v1/restart"] = ConfigError((Mistake("config.toml: x", "it is wrong", "mend it"),))
    code, _, err = await cli("restart")
    assert code == 78
    assert "it is wrong" in err


async def test_restart_that_fails_says_why(serving, asked, cli):
    failed = replace(READY, phase=Phase.FAILED, phase_since=READY.phase_since + 5, phase_cause="a wrong key")
    asked.then["/v1/restart"] = lambda: serving.hub.publish(failed, ())
    code, _, err = await cli("restart")
    assert code == 75
    assert "home is failed" in err
    assert "a wrong key" in err


# waiting


async def test_waiting_ends_when_another_thread_has_enough(serving):
    enough = threading.Event()
    waiting = asyncio.create_task(
        asyncio.to_thread(waited, PROFILE, lambda seen: seen.phase == "blocked", 60.0, cancelled=enough)
    )
    await until(lambda: serving.hub._readers)
    enough.set()
    seen, reached = await asyncio.wait_for(waiting, 5)
    assert (seen.phase, reached) == ("ready", False)


async def test_waiting_for_one_that_ends_meanwhile(serving):
    waiting = asyncio.create_task(asyncio.to_thread(waited, PROFILE, lambda _: False, 60.0))
    await until(lambda: serving.hub._readers)
    serving.hub.close()
    with pytest.raises(Unavailable, match="it ended meanwhile"):
        await waiting
