"""Openings that nobody uses: when they are reported, when closed, and what must never make one look unused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, START, World
from vpnpf.core.state import initial
from vpnpf.core.switch import normal
from vpnpf.core.unused import EVERY, Watch, blind, closable, in_words, known, looked, of_forward, reopened
from vpnpf.core.view import view
from vpnpf.events import ApplyFirewall, OpeningUnused, PolicyWanted, ReadFirewall, SaveUses, StartTunnel
from vpnpf.model import (
    FailureKind,
    ForwardSpec,
    Opening,
    Phase,
    PolicyMode,
    PortPolicy,
    ProfileSpec,
    Protocol,
    Use,
)
from vpnpf.uses import from_store, to_store

WEEK = 2 * 3600.0
"""Of the engine's tests: what the policy bears. Its parts are as long beside it as those of a real one."""
DAY = WEEK / 7
HOUR = WEEK / 100
SSH = Opening(22, 22, Protocol.TCP)
WEB = Opening(443, 443, Protocol.TCP, sources=("203.0.113.0/24",))
GAME = ForwardSpec("game", slot=1, internal_port=25565)
FAR = ForwardSpec("far", slot=1, internal_port=80, target="192.168.77.5")
POLICY = PortPolicy(openings=(SSH, WEB), report_unused=WEEK, close_unused=True)
OFFSET = 1_700_000_000.0


def world_of(policy=POLICY, forwards=(FORWARD,), uses=(), now=START):
    machine = initial(ProfileSpec("home", "mock", forwards, policy), PLAN, now, uses=uses)
    return World(machine, now=now, lifetime=None)


def use(world, what):
    return world.machine.watch.uses[what]


def unused(world):
    return [notice.what for notice in world.heard(OpeningUnused)]


def openings(world):
    return [opening.key for opening in world.table.inbound.openings]


def restarted(world, policy=None, away=60.0, booted=False):
    """As after the next start; a reboot sets CLOCK_BOOTTIME to nearly nothing."""
    kept = json.loads(json.dumps(to_store(world.kept, OFFSET)))
    now = 30.0 if booted else world.now + away
    offset = OFFSET + world.now + away - now
    spec = world.machine.spec
    again = world_of(policy or spec.policy, spec.forwards, from_store(kept, offset), now)
    again.packets = {} if booted else dict(world.packets)
    return again


# -- in the engine ------------------------------------------------------------------------------


def test_an_opening_without_a_visitor_is_reported_once_and_closed():
    world = world_of().ready()
    world.wait(WEEK - HOUR)
    assert unused(world) == []
    assert openings(world) == ["22/tcp", "443/tcp from 203.0.113.0/24"]
    world.packets["22/tcp"] = 1
    world.wait(2 * HOUR)
    assert unused(world) == ["443/tcp from 203.0.113.0/24"]
    assert openings(world) == ["22/tcp"]
    assert world.phase is Phase.READY
    assert view(world.machine).policy == POLICY, "what the person asked for stays"
    world.wait(WEEK - 3 * HOUR)
    assert unused(world) == ["443/tcp from 203.0.113.0/24"]
    world.wait(3 * HOUR)
    assert unused(world) == ["443/tcp from 203.0.113.0/24", "22/tcp"]
    assert openings(world) == []
    told = world.heard(OpeningUnused)[1]
    assert told.closed
    assert abs(told.since - (START + WEEK - HOUR)) < 2 * EVERY
    assert [entry.text for entry in world.machine.timeline if entry.kind == "unused"][1].startswith(
        "22/tcp: nobody came in for 2 hours; closed"
    )


def test_the_provider_is_told_to_close_it_too():
    world = world_of(forwards=(FORWARD, GAME))
    world.machine = replace(world.machine, switchable=True)
    world.ready()
    world.packets = {"torrent": 0, "game": 0}
    assert {str(each) for each in normal(world.switch.ports)} == {
        "22/tcp",
        "443/tcp",
        "40000-40001/tcp",
        "40000-40001/udp",
    }
    world.wait(WEEK + 4 * HOUR)
    assert {str(each) for each in world.switch.ports} == {"40000/tcp", "40000/udp"}


def test_without_close_unused_it_is_only_said():
    world = world_of(replace(POLICY, close_unused=False)).ready()
    world.wait(2 * WEEK)
    assert sorted(unused(world)) == ["22/tcp", "443/tcp from 203.0.113.0/24"]
    assert not any(notice.closed for notice in world.heard(OpeningUnused))
    assert len(openings(world)) == 2


def test_a_visitor_ends_it_and_the_next_pause_is_reported_again():
    world = world_of(replace(POLICY, close_unused=False)).ready()
    world.wait(WEEK + HOUR)
    world.packets["22/tcp"] = 1
    world.wait(HOUR)
    assert not use(world, "22/tcp").reported
    assert use(world, "22/tcp").last is not None
    world.wait(WEEK)
    assert unused(world).count("22/tcp") == 2


def test_nothing_is_reported_unless_it_is_asked_for():
    world = world_of(replace(POLICY, report_unused=None)).ready()
    world.wait(2 * WEEK)
    assert unused(world) == []
    assert len(openings(world)) == 2


@pytest.mark.parametrize("mode", [PolicyMode.OPEN_ALL, PolicyMode.BLOCK_ALL])
def test_only_the_allow_list_has_openings(mode):
    world = world_of(replace(POLICY, mode=mode), (FORWARD, GAME)).ready()
    world.packets = {"torrent": 0, "game": 0}
    world.wait(2 * WEEK)
    assert unused(world) == []


def test_what_cannot_be_counted_is_neither_reported_nor_closed():
    world = world_of().ready()
    world.uncounted = True
    world.wait(2 * WEEK)
    world.uncounted = False
    world.wait(HOUR)
    assert unused(world) == []
    assert len(openings(world)) == 2


def test_readings_that_fail_are_no_idle_time():
    world = world_of().ready()
    world.fail(ReadFirewall, FailureKind.TRANSIENT)
    world.wait(2 * WEEK)
    world.faults.clear()
    world.wait(HOUR)
    assert unused(world) == []


def test_a_suspend_is_no_idle_time():
    world = world_of().ready()
    world.sleep(10 * WEEK)
    world.wait(HOUR)
    assert unused(world) == []
    assert len(openings(world)) == 2


def test_a_lost_tunnel_is_no_idle_time():
    world = world_of().ready()
    world.wait(HOUR)
    world.fail(StartTunnel)
    world.handshake_age = None
    world.until(lambda: world.phase is Phase.BLOCKED, 600)
    idle = use(world, "22/tcp").idle
    world.wait(WEEK)
    assert use(world, "22/tcp").idle - idle <= 2 * EVERY


def test_an_opening_added_starts_its_own_clock():
    world = world_of().ready()
    world.wait(WEEK - HOUR)
    smb = Opening(445, 445, Protocol.TCP)
    world.take(PolicyWanted(replace(POLICY, openings=(SSH, WEB, smb))))
    world.settle()
    world.wait(2 * HOUR)
    assert openings(world) == ["445/tcp"]
    assert "445/tcp" not in unused(world)
    world.wait(WEEK)
    assert "445/tcp" in unused(world)


def test_a_timed_opening_is_left_to_its_end():
    timed = replace(SSH, ends_at=START + DAY)
    world = world_of(replace(POLICY, openings=(timed,))).ready()
    world.wait(2 * WEEK)
    assert unused(world) == []


def test_the_port_of_a_torrent_client_is_reported_and_never_closed():
    world = world_of(forwards=(FORWARD, replace(GAME, internal_port=None))).ready()
    world.packets = {"torrent": 3, "game": 0}
    world.wait(2 * WEEK)
    assert {"forward torrent", "forward game"} <= set(unused(world))
    assert not any(rule.shut for rule in world.table.forwards)


@pytest.mark.parametrize("spec", [GAME, FAR])
def test_a_forward_that_is_redirected_is_closed_and_opened_again(spec):
    world = world_of(forwards=(FORWARD, spec)).ready()
    world.packets = {"torrent": 0, spec.name: 0}

    def busy(seconds):
        for _ in range(int(seconds / DAY)):
            world.packets["torrent"] += 1
            world.wait(DAY)

    busy(WEEK + DAY)
    assert f"forward {spec.name}" in unused(world)
    assert [(rule.name, rule.shut) for rule in world.table.forwards] == [("torrent", False), (spec.name, True)]
    assert world.machine.forwards[1].lease is not None
    assert world.machine.forwards[1].proofs.firewall.ok is False
    assert "nobody used it" in world.machine.forwards[1].proofs.firewall.evidence
    assert world.phase is Phase.READY
    world.take(PolicyWanted(POLICY, reopen=(f"forward {spec.name}",)))
    world.settle()
    assert not any(rule.shut for rule in world.table.forwards)
    busy(WEEK - DAY)
    assert not any(rule.shut for rule in world.table.forwards)
    busy(2 * DAY)
    assert [rule.shut for rule in world.table.forwards] == [False, True]


def test_what_was_closed_opens_again_when_it_is_asked_for_and_only_then():
    world = world_of().ready()
    world.wait(WEEK + HOUR)
    assert openings(world) == []
    more = replace(POLICY, openings=(SSH, WEB, Opening(80, 80, Protocol.TCP)))
    world.take(PolicyWanted(more))
    world.settle()
    assert openings(world) == ["80/tcp"]
    world.take(PolicyWanted(more, reopen=("22/tcp",)))
    world.settle()
    assert openings(world) == ["22/tcp", "80/tcp"]
    world.take(PolicyWanted(more))
    world.settle()
    assert len(openings(world)) == 3
    world.wait(WEEK + HOUR)
    assert openings(world) == []
    world.take(PolicyWanted(replace(more, close_unused=False)))
    world.settle()
    assert len(openings(world)) == 3


# -- over restarts ------------------------------------------------------------------------------


@pytest.mark.parametrize("booted", [False, True])
def test_a_restart_does_not_reset_the_clock(booted):
    world = world_of().ready()
    for _ in range(6):
        world.wait(DAY)
        world.stop()
        assert world.kept
        world = restarted(world, booted=booted).ready()
    assert unused(world) == []
    world.wait(DAY + HOUR)
    assert sorted(unused(world)) == ["22/tcp", "443/tcp from 203.0.113.0/24"]


def test_a_run_that_is_killed_loses_little():
    world = world_of().ready()
    world.wait(WEEK - HOUR)
    world = restarted(world).ready()
    world.wait(HOUR + WEEK / 100 + 3 * EVERY)
    assert len(unused(world)) == 2


def test_the_time_away_is_no_idle_time():
    world = world_of().ready()
    world.wait(DAY)
    world.stop()
    world = restarted(world, away=10 * WEEK).ready()
    world.wait(HOUR)
    assert unused(world) == []


def test_what_was_closed_stays_closed_and_is_not_reported_again():
    world = world_of().ready()
    world.wait(WEEK + HOUR)
    world.stop()
    world = restarted(world).ready()
    applied = [order.work.policy for order in world.ordered(ApplyFirewall)]
    assert all(not policy.inbound.openings for policy in applied), "it was open for a moment"
    world.wait(DAY)
    assert unused(world) == []
    other = restarted(world, replace(POLICY, close_unused=False)) if world.kept else None
    world = world_of(replace(POLICY, close_unused=False), uses=tuple(world.machine.watch.uses.values())).ready()
    assert other is None or other.machine.inbound is None
    assert len(openings(world)) == 2


def test_what_the_profile_no_longer_has_is_forgotten():
    uses = (Use("22/tcp", 0.0, idle=WEEK, reported=True, closed=True), Use("forward gone", 0.0))
    world = world_of(replace(POLICY, openings=(WEB,)), uses=uses).ready()
    world.wait(DAY)
    assert {each.what for each in world.kept} == {"443/tcp from 203.0.113.0/24"}


def test_little_is_written():
    world = world_of().ready()
    for _ in range(48):
        world.packets["22/tcp"] = world.packets.get("22/tcp", 0) + 1
        world.wait(HOUR / 4)
    assert 5 <= len(world.ordered(SaveUses)) <= 16


def test_a_store_that_fails_stops_nothing():
    world = world_of()
    world.fail(SaveUses)
    world.ready()
    world.wait(HOUR)
    assert world.phase is Phase.READY
    world.stop()
    assert world.phase is Phase.STOPPED


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        _json := lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["uses", "22/tcp", "since", "last", "idle", "closed", "reported"]), inner, max_size=4
            )
        ),
    )
)
def test_whatever_the_file_says_is_read_or_left_out(value):
    for found in (value, {"uses": value}, {"uses": {"22/tcp": value}}):
        uses = from_store(found if isinstance(found, dict) else None, OFFSET)
        assert from_store(to_store(uses, OFFSET), OFFSET) == uses or uses


# -- pure ---------------------------------------------------------------------------------------


def test_the_pure_words():
    assert [in_words(seconds) for seconds in (604800, 86400, 36 * 3600, 90 * 60, 61, 1, 0.2)] == [
        "7 days", "1 day", "36 hours", "90 minutes", "61 seconds", "1 second", "1 second",
    ]  # fmt: skip
    assert not closable(of_forward("gone"), ())


KEYS = tuple(opening.key for opening in POLICY.openings)


def happenings():
    pauses = st.floats(1.0, 20.0) | st.floats(60.0, 7200.0) | st.floats(86400.0, 8 * 86400.0)
    what = st.sampled_from(["look", "look", "look", "look", "blind", "restart", "boot", "again"])
    return st.lists(st.tuples(pauses, st.sets(st.sampled_from(KEYS)), what), min_size=1, max_size=60)


@settings(max_examples=300, deadline=None)
@given(happenings())
def test_months_of_anything(happened):
    """Against a model that sees every packet: whoever came in within the time is never said not to have."""
    gap, bears, now, watch = 3600.0, 7 * 86400.0, START, Watch()
    policy = replace(POLICY, report_unused=bears)
    counts = dict.fromkeys(KEYS, 0)
    visited = dict.fromkeys(KEYS, now)
    counted = dict(visited)
    """As `visited`, without what no reading had counted before vpnpf ended."""

    def look():
        nonlocal watch, counted
        watch, found = looked(watch, counts, policy, (), now, gap)
        counted = dict(visited)
        for use in found:
            assert now - visited[use.what] >= bears - 1e-3
            assert use.closed
        for use in watch.uses.values():
            assert use.idle <= now - visited[use.what] + 1e-3

    look()
    for pause, visits, what in happened:
        for key in visits:
            counts[key] += 1
            visited[key] = now
        until = now + pause
        while now < until:
            now = min(until, now + gap)
            if what == "blind":
                watch = blind(watch)
            else:
                look()
        if what in {"restart", "boot"}:
            watch = known(from_store(to_store(tuple(watch.uses.values()), OFFSET), OFFSET), policy, ())
            visited = dict(counted)
            counts = dict.fromkeys(KEYS, 0) if what == "boot" else counts
            look()
        elif what == "again":
            watch = reopened(watch, policy, policy, ())
            assert not any(use.closed for use in watch.uses.values())
            visited |= {key: now for key in KEYS if key not in watch.uses}
            counted = dict(visited)
