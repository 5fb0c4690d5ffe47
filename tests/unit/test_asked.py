"""What a profile that runs answers beside its life: plans, exposure, report."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest
from msgspec.structs import replace

from tests.io.control_world import Serving, ready_state
from tests.unit.test_cli import TUNNEL
from vpnpf import asked as module
from vpnpf.asked import Asked
from vpnpf.cli.report_words import told_of
from vpnpf.config import load
from vpnpf.control.asked import asked
from vpnpf.control.peers import Peer, Role
from vpnpf.core.policy_codec import digest, policy_json
from vpnpf.errors import PermissionDenied, Transient, Unavailable, UsageError
from vpnpf.exposing import looking
from vpnpf.hub import Hub
from vpnpf.interfaces import Outside
from vpnpf.io.clock import BootClock
from vpnpf.model import FirewallStage, Opening, Phase, PortPolicy, Protocol, Use
from vpnpf.policy_store import PolicyStore
from vpnpf.store import FileStore
from vpnpf.tunnels.names import mark_of, table_of

CONFIG = """
[profiles.home]
provider = "natpmp"
tunnel = { type = "wireguard", config = "home.conf" }
policy = { mode = "block-all" }
[profiles.home.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
username = "quentinq"
password = { file = "qb.password" }
"""
SECRET = "hunter-two"
SSH = Opening(22, 22, Protocol.TCP)


class Daemon:
    """What answers, with a state that is made up, on a socket of its own."""

    def __init__(self, directory, settings, config):
        self.settings, self.posted = settings, []
        self.clock = BootClock()
        self.policies = PolicyStore(FileStore(directory / "state"), "home", settings.spec.policy)
        self.policies.load(self.clock.now(), self.offset)
        self.outside = None
        hub = Hub()
        self.by = Asked(
            lambda: self.settings,
            config,
            hub,
            self.clock,
            lambda: self.policies,
            self.posted.append,
            told_of,
            lambda: self.outside,
        )
        self.serving = Serving(directory, asked(self.by))
        self.serving.seen.hub = self.serving.hub = hub
        self.publish(policy=settings.spec.policy)

    @property
    def offset(self):
        return self.clock.wall() - self.clock.now()

    def publish(self, **changes):
        self.state = replace(self.serving.hub.state or ready_state(), **changes)
        self.serving.hub.publish(self.state, ())

    async def ask(self, method, path, *arguments):
        return await self.serving.ask(method, path, *arguments)

    async def plan(self, **body):
        return await self.ask("post", "/v1/policy/plan", body)


@pytest.fixture
async def daemon(tmp_path):
    (tmp_path / "home.conf").write_text(TUNNEL)
    (tmp_path / "qb.password").write_text(f"{SECRET}\n")
    (tmp_path / "qb.password").chmod(0o600)
    config = tmp_path / "config.toml"
    config.write_text(CONFIG)
    made = Daemon(tmp_path, load(config).profile(None), config)
    async with made.serving:
        yield made


@pytest.fixture
def waiting():
    with socket.create_server(("0.0.0.0", 0)) as listening:
        yield listening.getsockname()[1]


# -- plans ----------------------------------------------------------------------------------------


async def test_a_plan_says_what_changes_and_what_that_exposes(daemon, waiting):
    said = await daemon.plan(set=["open-all"])
    assert said["changes"] == ["- mode block-all", "+ mode open-all"]
    assert "every port" in said["consequence"]
    assert said["ask"] is True
    assert said["findings"][0].keys() == {"severity", "title", "why", "advice"}
    assert said["policy"]["mode"] == "open-all"
    said = await daemon.plan(set=[f"{waiting}/tcp"])
    assert f"+ {waiting}/tcp" in said["changes"]
    assert [each["severity"] for each in said["findings"]] == ["note"]
    assert (said["ask"], said["before"]) == (False, digest(daemon.state.policy))
    assert daemon.posted == []


async def test_what_is_planned_can_be_put(daemon):
    said = await daemon.plan(set=["allow-list", "forwarded", "22/tcp from 203.0.113.0/24 # backup"])
    wanted = PortPolicy(openings=(Opening(22, 22, Protocol.TCP, ("203.0.113.0/24",), "", "backup"),))
    assert said["policy"] == policy_json(wanted, daemon.offset)


async def test_entries_are_opened_and_closed(daemon):
    daemon.publish(policy=PortPolicy(openings=(SSH,)))
    assert (await daemon.plan(open=["80/tcp"]))["changes"] == ["+ 80/tcp"]
    assert (await daemon.plan(close=["22/tcp"]))["changes"] == ["- 22/tcp"]
    assert (await daemon.plan(open=["22/tcp"])) | {"policy": 0, "before": 0} == {
        "policy": 0,
        "before": 0,
        "changes": [],
        "consequence": "",
        "findings": [],
        "ask": False,
    }
    said = await daemon.plan(reset=True)
    assert said["changes"][:2] == ["- mode allow-list", "+ mode block-all"]


async def test_what_was_closed_for_being_unused_is_opened_again_by_the_same(daemon):
    use = Use("22/tcp", 0.0, None, 9.0, reported=True, closed=True)
    daemon.publish(policy=PortPolicy(openings=(SSH,)), uses=(use,))
    assert (await daemon.plan(open=["22/tcp"]))["changes"] == ["+ 22/tcp again: it was closed because nobody used it"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "one change is planned at a time"),
        ({"set": ["open-all"], "reset": True}, "one change is planned at a time"),
        ({"set": []}, "no list of texts"),
        ({"set": "open-all"}, "no list of texts"),
        ({"open": [22]}, "no list of texts"),
        ({"reset": False}, "whether to reset"),
        ({"set": ["open-al"]}, 'there is no mode "open-al"'),
        ({"set": ["80-70/tcp"]}, "80-70"),
        ({"set": ["block-all", "22/tcp"]}, "entries mean nothing with block-all"),
        ({"set": ["22/tcp", "22/tcp from 203.0.113.1"]}, "22/tcp"),
        ({"open": ["22/tcp"]}, "the mode is block-all"),
        ({"close": ["22/tcp"]}, "not on the list"),
        ({"set": ["x" * 100_000]}, "xxx"),
    ],
)
async def test_a_plan_that_cannot_be_is_refused_with_a_hint(daemon, body, said):
    with pytest.raises(UsageError) as refused:
        await daemon.plan(**body)
    assert said in str(refused.value)
    assert refused.value.hint
    assert len(str(refused.value)) < 500


@pytest.mark.alone
async def test_the_loop_goes_on_while_thousands_are_planned(daemon):
    entries = [f"{port}/tcp from 203.0.{port % 250}.0/24" for port in range(10_000, 20_000)]
    longest, planning = 0.0, asyncio.create_task(daemon.by.plan({"set": entries}))
    while not planning.done():
        began = time.monotonic()
        await asyncio.sleep(0.001)
        longest = max(longest, time.monotonic() - began)
    said = planning.result()
    assert len(said["policy"]["openings"]) == 10_000
    assert said["changes"][-1] == "and 9003 more"
    assert longest < 0.5
    daemon.publish(policy=PortPolicy(openings=tuple(Opening(port, port, Protocol.TCP) for port in range(1, 10_001))))
    said = await daemon.by.plan({"close": [f"{port}/tcp" for port in range(1, 10_001)]})
    assert said["policy"]["openings"] == []


async def test_a_machine_that_cannot_be_looked_at_is_a_finding(daemon, monkeypatch):
    def unseen(*_arguments):
        raise Unavailable("looking", "no netlink", "allow it")

    monkeypatch.setattr(module, "look_here", unseen)
    said = await daemon.plan(set=["open-all"])
    assert said["ask"] is True
    assert said["findings"][-1] == {
        "severity": "warning",
        "title": "what listens behind the ports cannot be seen: looking: no netlink",
        "why": "nobody can say what strangers would reach",
        "advice": "allow it",
    }


# -- exposure -------------------------------------------------------------------------------------


async def test_exposure_is_what_the_command_prints(daemon, waiting):
    daemon.publish(policy=PortPolicy(openings=(Opening(waiting, waiting, Protocol.TCP),)))
    said = await daemon.ask("get", "/v1/exposure")
    assert said.keys() == {"profile", "mode", "open", "findings", "unseen_processes", "notes"}
    (opened,) = [each for each in said["open"] if each["first"] == waiting]
    assert [each["port"] for each in opened["listeners"]] == [waiting]
    (forward,) = [each for each in said["open"] if each["protocol"] == "tcp" and each["why"] == "forward torrent"]
    assert forward["first"] == daemon.state.forwards[0].listen_port


async def test_a_look_that_takes_for_ever_is_given_up(daemon, monkeypatch):
    async def for_ever(*_arguments):
        await asyncio.Event().wait()

    monkeypatch.setattr(looking, "_look", for_ever)
    monkeypatch.setattr(looking, "LONGEST", 0.05)
    with pytest.raises(Transient, match="not done within"):
        await daemon.ask("get", "/v1/exposure")


async def test_a_namespace_that_is_not_there_is_said(daemon):
    daemon.settings = replace(daemon.settings, tunnel=replace(daemon.settings.tunnel, namespace=True))
    daemon.publish(phase=Phase.STOPPED)
    with pytest.raises(Unavailable, match="is stopped"):
        await daemon.ask("get", "/v1/exposure")
    assert [each["severity"] for each in (await daemon.plan(set=["open-all"]))["findings"]][-1] == "warning"


# -- the report -----------------------------------------------------------------------------------


async def test_the_report_is_redacted_and_tells_a_configuration_that_broke_meanwhile(daemon, tmp_path):
    entry = replace(daemon.state.timeline[-1], cause=f"a {SECRET} for quentinq at 203.0.113.77")
    daemon.publish(timeline=(entry,))
    said = await daemon.ask("text", "/v1/report")
    for title in ("versions", "settings", "state", "timeline", "rules"):
        assert f"== {title}\n" in said
    assert "profile home: natpmp over wireguard" in said
    assert "READY" in said
    for secret in (SECRET, "quentinq", "203.0.113.77"):
        assert secret not in said
    assert "as it is now" not in said
    (tmp_path / "config.toml").write_text("[profiles")
    assert "the configuration as it is now:\n" in await daemon.ask("text", "/v1/report")


# -- who may, and by which way --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get", "/v1/exposure"),
        ("text", "/v1/report"),
        ("get", "/v1/logins"),
        ("post", "/v1/login"),
        ("post", "/v1/policy/plan"),
    ],
)
async def test_it_is_the_owners_alone(daemon, monkeypatch, method, path):
    monkeypatch.setattr("vpnpf.control.http.peer_of", lambda *_: Peer(12345, Role.WATCHER))
    with pytest.raises(PermissionDenied, match="may only watch"):
        await daemon.ask(method, path)


@pytest.mark.parametrize(
    ("stage", "mark", "elsewhere"),
    [
        (FirewallStage.CONNECTED, 0, False),
        (FirewallStage.BLOCKED, mark_of(table_of("home")), True),
        (FirewallStage.CONNECTING, mark_of(table_of("home")), True),
        (None, 0, True),
    ],
)
async def test_a_provider_is_asked_through_the_tunnel_or_beside_it(daemon, stage, mark, elsewhere):
    daemon.outside = Outside((0, 0), (), lambda: None)
    daemon.publish(firewall=stage)
    way = daemon.by._way(None)
    assert (way._mark, way._enter is not None) == (mark, elsewhere)
    # Stopped, we are out of the tunnel's namespace.
    daemon.publish(phase=Phase.STOPPED)
    way = daemon.by._way(None)
    assert (way._mark, way._enter) == (0, None)
    # Without one the lock may stand, for an engine that follows.
    daemon.outside = None
    assert daemon.by._way(None)._mark == (mark if stage is FirewallStage.BLOCKED else 0)
