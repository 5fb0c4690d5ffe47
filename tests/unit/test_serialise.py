"""What scripts are written against: the keys, their types, and times as RFC 3339 in UTC."""

from __future__ import annotations

import json
import re
import typing
from datetime import datetime

import msgspec
import pytest
from msgspec.structs import replace

from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.control.seen import Seen
from vpnpf.core.serialise import notice_json, state_json, time_of
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.events import (
    Acquire,
    Disagrees,
    ExitDiffers,
    GatewayReset,
    LeaseRenewed,
    MtuLowered,
    Notice,
    OpeningUnused,
    PhaseChanged,
    PolicyChanged,
    PortAnnounced,
    PortGranted,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    RemedyTaken,
    SwitchSeen,
    WishTaken,
)
from vpnpf.model import (
    BOTH,
    PROOF_NAMES,
    FailureKind,
    Lease,
    Opening,
    Phase,
    PolicyMode,
    PortPolicy,
    Problem,
    Protocol,
    ProviderPolicy,
    Remedy,
    Wish,
)

OFFSET = 1_800_000_000.0
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LEASE = Lease(40000, 40001, BOTH, START, 60.0, exit_address="198.51.100.7", token="secret")
PROBLEM = Problem("asking 10.2.0.1", FailureKind.TRANSIENT, "no answer", "look", START, 3, START + 5)


def shown(world):
    """A state as a script gets it."""
    return json.loads(json.dumps(state_json(view(world.machine), OFFSET)))


def seconds(text):
    return datetime.fromisoformat(text).timestamp() - OFFSET


def test_the_keys_of_a_state():
    state = shown(World().ready())
    assert state.keys() == {
        "profile",
        "provider",
        "phase",
        "phase_since",
        "phase_text",
        "phase_cause",
        "phase_hint",
        "tunnel",
        "policy",
        "forwards",
        "problems",
        "lock",
        "namespace",
        "unused",
        "server",
        "servers",
        "exit_seen",
        "provider_policy",
        "disagree",
        "timeline",
    }
    assert state["tunnel"].keys() == {
        "interface",
        "backend",
        "endpoint",
        "place",
        "addresses",
        "gateway",
        "dns",
        "mtu",
        "received",
        "sent",
        "handshake",
    }
    policy = {"mode": "allow-list", "allow": ["forwarded"], "entries": [], "stage": "connected"}
    assert state["policy"] == policy
    (forward,) = state["forwards"]
    assert forward.keys() == {
        "name",
        "client",
        "protocols",
        "external_port",
        "internal_port",
        "listen_port",
        "target",
        "exit_address",
        "granted_at",
        "lifetime",
        "expires_at",
        "renew_at",
        "announced",
        "client_settings",
        "packets",
        "packets_at",
        "peers",
        "proofs",
    }
    assert list(forward["proofs"]) == list(PROOF_NAMES)
    assert all(proof.keys() == {"ok", "since", "checked", "evidence"} for proof in forward["proofs"].values())


def test_a_ready_forward():
    forward = shown(World().ready())["forwards"][0]
    assert forward["name"] == "torrent"
    assert forward["protocols"] == ["tcp", "udp"]
    assert (forward["external_port"], forward["internal_port"], forward["listen_port"]) == (40000, 40000, 40000)
    assert forward["exit_address"] == "198.51.100.7"
    assert seconds(forward["expires_at"]) == START + 60
    assert seconds(forward["renew_at"]) == START + 30
    assert forward["announced"] is True
    assert forward["proofs"]["lease"]["ok"] is True
    assert seconds(forward["proofs"]["lease"]["since"]) == START
    assert forward["proofs"]["reachable"]["ok"] is None
    assert forward["proofs"]["reachable"]["since"] is None


def test_before_anything_is_there_the_keys_are_the_same():
    early = shown(World())
    ready = shown(World().ready())
    assert early.keys() == ready.keys()
    assert early["forwards"][0].keys() == ready["forwards"][0].keys()
    assert early["tunnel"] is None
    assert early["policy"]["stage"] is None
    assert early["forwards"][0]["external_port"] is None
    assert early["forwards"][0]["listen_port"] is None
    assert early["forwards"][0]["expires_at"] is None


def test_what_a_face_draws():
    world = World(initial(SPEC, replace(PLAN, place="Oslo"), START, servers=2)).ready()
    world.packets["torrent"] = 3
    world.handshake_age = 20.0
    world.wait(25)
    state = shown(world)
    (forward,) = state["forwards"]
    read_at = forward["client_settings"].pop("read_at")
    assert seconds(read_at) == world.forward.settings_at
    settings = {"port": 40000, "interface": "vpf-home", "random_port": False, "port_mapping": False}
    assert forward["client_settings"] == settings
    assert forward["packets"] == 3
    assert START < seconds(forward["packets_at"]) <= world.now
    assert (seconds(forward["granted_at"]), forward["lifetime"]) == (START, 60.0)
    assert seconds(state["tunnel"]["handshake"]) == world.machine.health_at - 20
    assert state["servers"] == [
        {"number": 1, "place": "Oslo", "endpoint": "203.0.113.5:51820", "current": True},
        {"number": 2, "place": None, "endpoint": None, "current": False},
    ]
    assert (state["phase_text"], state["phase_hint"]) == ("ready: the port is open, and kept", "")


def test_a_phase_that_needs_a_person_has_its_hint():
    world = World()
    world.held.add(Acquire)
    world.begin()
    order = world.waiting(Acquire)
    world.pending.remove(order)
    world.take(replace(world.failure(order, FailureKind.MISCONFIGURED), hint="switch it on at the provider"))
    state = shown(world)
    assert (state["phase"], state["phase_text"]) == ("failed", "failed: this needs a person")
    assert state["phase_cause"] == "doing Acquire: it was misconfigured"
    assert state["phase_hint"] == "switch it on at the provider"


def test_the_reader_of_the_status_file_takes_all_of_it():
    world = World().ready()
    head = {"time": time_of(START, OFFSET), "pid": 1, "version": "1"}
    seen = msgspec.convert({**head, **shown(world)}, Seen)
    (forward,) = seen.forwards
    assert forward.client_settings.port == 40000
    assert (forward.lifetime, forward.packets, forward.packets_at) == (60.0, 0, None)
    assert forward.granted_at.timestamp() - OFFSET == START
    assert seen.tunnel.handshake.timestamp() - OFFSET == START
    assert [server.current for server in seen.servers] == [True]
    assert seen.phase_text == "ready: the port is open, and kept"


def test_a_lease_without_an_end_has_no_times():
    forward = shown(World(lifetime=None).ready())["forwards"][0]
    assert (forward["expires_at"], forward["renew_at"]) == (None, None)


def test_a_policy_lists_what_it_allows():
    policy = PortPolicy(openings=(Opening(22, 22, Protocol.TCP), Opening(6000, 6009, Protocol.UDP)))
    spec = type(SPEC)("home", "mock", (), policy)
    assert shown(World(initial(spec, PLAN, START)))["policy"]["allow"] == ["forwarded", "22/tcp", "6000-6009/udp"]


def test_problems_say_all_that_is_known():
    world = World()
    world.fail(Acquire, FailureKind.MISCONFIGURED, 300.0)
    world.begin()
    (problem,) = shown(world)["problems"]
    assert problem.pop("since")
    assert seconds(problem.pop("retry_at")) == START + 300
    assert problem == {
        "doing": "doing Acquire",
        "kind": "misconfigured",
        "message": "it was misconfigured",
        "hint": "",
        "failures": 1,
    }


def test_times_are_rfc_3339_in_utc():
    assert time_of(0.0, 1_777_863_721.25) == "2026-05-04T03:02:01.250Z"
    assert time_of(None, OFFSET) is None


def test_every_time_of_a_state_is_rfc_3339():
    def times(value, key=""):
        if isinstance(value, dict):
            for name, each in value.items():
                yield from times(each, name)
        elif isinstance(value, list):
            for each in value:
                yield from times(each)
        elif key in {"since", "checked", "phase_since"} or key.endswith("_at"):
            yield value

    world = World().ready()
    world.fail(Acquire)
    world.wait(40)
    found = list(times(shown(world)))
    assert len(found) >= 15
    assert all(each is None or RFC_3339.fullmatch(each) for each in found)


@pytest.mark.parametrize("at", [1e18, -1e18, float("inf")])
def test_a_time_that_no_date_can_say_is_none(at):
    assert time_of(at, OFFSET) is None


def test_tokens_are_not_shown():
    assert "secret" not in json.dumps(notice_json(PortGranted("torrent", LEASE, None), OFFSET))
    world = World(initial(SPEC, PLAN, START, {PLAN.identity: {"torrent": LEASE}})).ready()
    assert "secret" not in json.dumps(shown(world))


NOTICES = [
    (
        PhaseChanged(Phase.READY, Phase.BLOCKED, "why"),
        {"event": "phase", "before": "ready", "phase": "blocked", "cause": "why"},
    ),
    (PortGranted("torrent", LEASE, None), {"event": "granted", "forward": "torrent", "before": None}),
    (PortGranted("torrent", LEASE, 39999), {"event": "granted", "forward": "torrent", "before": 39999}),
    (LeaseRenewed("torrent", LEASE), {"event": "renewed", "forward": "torrent"}),
    (
        PortAnnounced("torrent", LEASE, 6881, 39999),
        {"event": "port", "forward": "torrent", "before": 39999, "listen_port": 6881},
    ),
    (
        PortLost("torrent", 40000, "it ran out"),
        {"event": "port-lost", "forward": "torrent", "external_port": 40000, "cause": "it ran out"},
    ),
    (
        RemedyTaken(Remedy.REKEY, "why", "torrent"),
        {"event": "remedy", "remedy": "re-key", "forward": "torrent", "cause": "why"},
    ),
    (RemedyTaken(Remedy.RESTART, "why"), {"event": "remedy", "remedy": "restart", "forward": None}),
    (
        WishTaken(Wish.NEW_PORT, "torrent"),
        {"event": "wish", "wish": "new-port", "forward": "torrent", "server": None},
    ),
    (WishTaken(Wish.RENEW), {"event": "wish", "wish": "renew", "forward": None, "server": None}),
    (WishTaken(Wish.SERVER, server=2), {"event": "wish", "wish": "server", "forward": None, "server": 2}),
    (
        PolicyChanged(PortPolicy(), PortPolicy(PolicyMode.OPEN_ALL)),
        {"event": "policy", "before": "allow-list", "mode": "open-all"},
    ),
    (
        SwitchSeen(None, ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(1, 2, Protocol.TCP),))),
        {"event": "switch", "before": None, "mode": "allow-list", "ports": ["1-2/tcp"]},
    ),
    (Disagrees("blocks all ports"), {"event": "disagrees", "how": "blocks all ports"}),
    (Disagrees(""), {"event": "agrees", "how": ""}),
    (
        OpeningUnused("22/tcp", 0.0, 604800.0, closed=True),
        {"event": "unused", "what": "22/tcp", "since": "2027-01-15T08:00:00.000Z", "after": 604800.0, "closed": True},
    ),
    (MtuLowered(1420, 1280), {"event": "mtu", "before": 1420, "mtu": 1280}),
    (GatewayReset("why"), {"event": "gateway-reset", "cause": "why"}),
    (ExitDiffers("1.2.3.4", "1.2.3.5"), {"event": "exit-differs", "gateway": "1.2.3.4", "seen": "1.2.3.5"}),
    (ProblemNoticed(PROBLEM), {"event": "problem", "doing": "asking 10.2.0.1", "kind": "transient", "failures": 3}),
    (ProblemOver(PROBLEM), {"event": "problem-over", "message": "no answer", "hint": "look"}),
]


@pytest.mark.parametrize(("notice", "expected"), NOTICES)
def test_each_notice_has_its_keys(notice, expected):
    said = json.loads(json.dumps(notice_json(notice, OFFSET)))
    assert expected.items() <= said.items()
    if isinstance(notice, PortGranted | LeaseRenewed | PortAnnounced):
        assert (said["external_port"], said["internal_port"], said["lifetime"]) == (40000, 40001, 60.0)
        assert seconds(said["expires_at"]) == START + 60


def test_every_notice_is_in_this_table():
    assert {type(notice) for notice, _ in NOTICES} == set(typing.get_args(Notice))


def test_an_entry_that_has_ended_is_not_said_to_be_open():
    machine = World().ready().machine
    timed = Opening(6000, 6000, Protocol.TCP, ends_at=START + 120)
    state = replace(view(machine), policy=replace(view(machine).policy, openings=(timed,)))
    assert "6000/tcp" in state_json(state, 0.0, START + 119)["policy"]["allow"]
    assert "6000/tcp" not in state_json(state, 0.0, START + 120)["policy"]["allow"]
