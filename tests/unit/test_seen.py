"""The typed view of the API's JSON: it has all that a state says, and bears what other versions say."""

from __future__ import annotations

import json
import typing

import msgspec
import pytest
from msgspec import Struct
from msgspec.structs import replace

from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.control.seen import PROOFS, Seen, read
from vpnpf.core.serialise import state_event, state_json
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.errors import Unavailable
from vpnpf.model import (
    PROOF_NAMES,
    Entry,
    FailureKind,
    PolicyMode,
    Problem,
    ProviderPolicy,
    Use,
)

OFFSET = 1_800_000_000.0


def full():
    """A state in which nothing is missing."""
    world = World(initial(SPEC, replace(PLAN, place="Oslo"), START, servers=2)).ready()
    return replace(
        view(world.machine),
        problems=(Problem("asking", FailureKind.TRANSIENT, "no answer", "look", START, 3, START + 5),),
        provider_policy=ProviderPolicy(PolicyMode.BLOCK_ALL),
        provider_policy_at=START,
        disagree="blocks all ports",
        uses=(Use("22/tcp", 0.0, START, 5.0, reported=True, closed=True),),
        exit_seen="198.51.100.7",
        timeline=(Entry(START, "phase", "ready", "a cause", "torrent"),),
    )


def strings(value):
    return json.loads(json.dumps(value))


def differences(value, kind, path=""):
    """Keys of the JSON that the view does not have."""
    kind = unwrapped(kind)
    if isinstance(value, dict):
        if not (isinstance(kind, type) and issubclass(kind, Struct)):
            kinds = typing.get_args(kind)
            return [each for key, inner in value.items() for each in differences(inner, kinds[-1], f"{path}.{key}")]
        hints = typing.get_type_hints(kind)
        found = [f"{path}.{key}" for key in value if key not in hints]
        for key, inner in value.items():
            if key in hints:
                found += differences(inner, hints[key], f"{path}.{key}")
        return found
    if isinstance(value, list) and value:
        return differences(value[0], typing.get_args(kind)[0], f"{path}[]")
    return []


def unwrapped(kind):
    """Without the None."""
    inner = [each for each in typing.get_args(kind) if each is not type(None)]
    return inner[0] if type(None) in typing.get_args(kind) else kind


def test_all_that_a_state_says_can_be_seen():
    assert differences(strings(state_json(full(), OFFSET)), Seen) == []
    more = {**strings(state_json(full(), OFFSET)), "new": 1}
    assert differences(more, Seen) == [".new"]


def test_what_is_seen_is_what_was_said():
    seen = read(strings(state_event(full(), START, OFFSET)))
    assert (seen.profile, seen.phase, seen.pid, seen.exit_seen) == ("home", "ready", 0, "198.51.100.7")
    assert (seen.server.number, seen.server.of, len(seen.servers)) == (1, 2, 2)
    assert (seen.policy.mode, seen.policy.stage, seen.lock) == ("allow-list", "connected", "on")
    assert seen.tunnel.addresses == PLAN.addresses
    assert seen.problems[0].kind == "transient"
    (forward,) = seen.forwards
    assert (forward.internal_port, forward.announced, forward.peers) == (40000, True, ())
    assert forward.proofs["lease"].since.timestamp() - OFFSET == START


def test_the_chain_is_the_engines():
    assert PROOFS == PROOF_NAMES


def test_who_came_in():
    event = strings(state_event(full(), START, OFFSET))
    event["forwards"][0]["peers"] = [{"address": "203.0.113.9", "port": 5, "protocol": "tcp", "since": None, "more": 1}]
    (peer,) = read(event).forwards[0].peers
    assert (peer.address, peer.port, peer.protocol) == ("203.0.113.9", 5, "tcp")


def test_an_older_version_says_less_and_a_later_one_more():
    least = {"time": "2026-01-01T00:00:00.000Z", "profile": "home", "provider": "mock", "phase": "dancing", "new": {}}
    seen = read(least)
    assert (seen.phase, seen.tunnel, seen.forwards, seen.policy.mode, seen.server.number) == (
        "dancing",
        None,
        (),
        "",
        None,
    )


@pytest.mark.parametrize(
    "raw", [{}, {"time": 5}, {"time": "2026-01-01T00:00:00Z", "profile": [], "provider": "", "phase": ""}]
)
def test_what_is_no_state_is_said_to_be_of_another_version(raw):
    with pytest.raises(Unavailable, match="its state cannot be read") as caught:
        read(raw)
    assert "another version" in caught.value.hint
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(raw, Seen)
