"""The provider's own switch: read, set where it differs, looked at until it says so; it never costs anything else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import convert
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, TUNNEL, World
from vpnpf.cli.status_reading import Status
from vpnpf.cli.status_words import _switch, words
from vpnpf.control.seen import Seen, SeenSwitch
from vpnpf.core.policy import policy_for
from vpnpf.core.serialise import notice_json, state_json
from vpnpf.core.state import initial
from vpnpf.core.switch import as_said, difference, lets_in, normal, switch_for
from vpnpf.core.talk import talk
from vpnpf.core.view import view
from vpnpf.events import (
    Disagrees,
    PolicyWanted,
    ProblemNoticed,
    ReadSwitch,
    SetSwitch,
    StartTunnel,
    SwitchRead,
    SwitchSeen,
)
from vpnpf.model import (
    FailureKind,
    ForwardSpec,
    Lease,
    Opening,
    Phase,
    PolicyMode,
    PortPolicy,
    Protocol,
    ProviderPolicy,
)
from vpnpf.observers.status_file import document

OPEN, BLOCK = ProviderPolicy(PolicyMode.OPEN_ALL), ProviderPolicy(PolicyMode.BLOCK_ALL)
TCP, UDP = Protocol.TCP, Protocol.UDP


def only(*ports):
    """Both protocols of these ports."""
    return ProviderPolicy(PolicyMode.ALLOW_LIST, normal(Opening(port, port, p) for port in ports for p in Protocol))


def profile(policy=None, *forwards, **more):
    spec = replace(SPEC, policy=policy or PortPolicy(), forwards=forwards or SPEC.forwards)
    return World(initial(spec, PLAN, START, switchable=True, **more))


def settled(world):
    """READY, and both layers agree."""
    world.ready()
    world.until(lambda: world.said() == switch_for(world.machine, world.now) and not disagreement(world), 900)
    return world


def disagreement(world):
    return view(world.machine).disagree


# -- the way to agreement ---------------------------------------------------------------------------


def test_a_provider_without_a_switch_is_never_asked():
    world = World().ready().wait(3600)
    assert not world.ordered(ReadSwitch, SetSwitch)
    state = view(world.machine)
    assert (state.provider_policy, state.provider_policy_at, state.disagree) == (None, None, "")


def test_it_is_read_first_and_set_to_the_ports_of_the_lease():
    world = settled(profile())
    first, second = world.ordered(ReadSwitch, SetSwitch)[:2]
    assert isinstance(first.work, ReadSwitch)
    assert second.work == SetSwitch(TUNNEL, only(40000))
    assert world.switch == only(40000)


def test_a_switch_that_says_it_already_is_not_set():
    world = profile()
    world.switch = only(40000)
    settled(world).wait(3600)
    assert not world.ordered(SetSwitch)
    assert not world.heard(Disagrees)


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [
        (PortPolicy(PolicyMode.OPEN_ALL), OPEN),
        (PortPolicy(PolicyMode.BLOCK_ALL), BLOCK),
        (PortPolicy(forwarded=False), BLOCK),
        (PortPolicy(forwarded=False, openings=(Opening(40000, 40000, TCP),)), ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(40000, 40000, TCP),))),
        (
            PortPolicy(openings=(Opening(22, 22, TCP, ("203.0.113.0/24",), "ssh", "mine"),)),
            ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(22, 22, TCP), *only(40000).ports)),
        ),
    ],
)  # fmt: skip
def test_what_each_policy_means_for_the_provider(policy, wanted):
    world = profile(policy)
    world.switch = OPEN if wanted != OPEN else BLOCK
    settled(world)
    assert world.switch == wanted


def test_a_redirected_port_is_named_as_the_internet_sees_it():
    policy = PortPolicy(forwarded=False, openings=(Opening(25565, 25565, TCP),))
    world = settled(profile(policy, ForwardSpec("game", protocols=(TCP,), internal_port=25565)))
    assert lets_in(world.switch, 40000, TCP)


def test_a_forward_that_is_shut_is_not_opened_at_the_provider():
    world = settled(profile(None, replace(FORWARD, shut=True)))
    assert world.switch == BLOCK


def test_a_timed_opening_is_taken_back_when_it_ends():
    policy = PortPolicy(openings=(Opening(22, 22, TCP, ends_at=START + 100),))
    world = settled(profile(policy))
    assert lets_in(world.switch, 22, TCP)
    world.until(lambda: world.now >= START + 100, 200)
    world.wait(1)
    assert world.switch == only(40000)


def test_a_changed_port_is_let_in_beside_the_old_one():
    world = settled(profile())
    world.port, world.listening = 40007, False
    world.until(lambda: world.switch == only(40000, 40007), 60)
    world.listening = True
    world.until(lambda: world.switch == only(40007), 60)


def test_nobody_is_shut_out_while_the_port_is_not_known_yet():
    held = Lease(40000, 40000, tuple(Protocol), 0.0, 0.0)
    for known in (None, {PLAN.identity: {"torrent": held}}):
        world = profile(held=known)
        world.switch = only(40000)
        settled(world).wait(60)
        assert not world.ordered(SetSwitch)


# -- a provider that takes its time -----------------------------------------------------------------


def test_local_open_all_and_a_provider_that_blocks_disagree_until_it_follows():
    world = profile(PortPolicy(PolicyMode.OPEN_ALL))
    world.switch_delay = 12.0
    world.ready()
    assert world.phase is Phase.READY, "the switch is not what a port waits for"
    assert disagreement(world) == "the provider still blocks all ports"
    assert "the provider says that it blocks 40000/tcp, 40000/udp" in world.forward.proofs.reachable.evidence
    assert world.forward.proofs.reachable.ok is None
    begun = world.now
    took = world.until(lambda: not disagreement(world), 60)
    assert 11 <= took <= 12 * 1.25 + 1, "it is looked at again after a quarter of the time it took so far"
    assert len(world.ordered(SetSwitch)) == 1
    assert len(world.ordered(ReadSwitch)) < 25
    assert world.heard(Disagrees) == [Disagrees("blocks all ports"), Disagrees("")]
    assert world.heard(SwitchSeen) == [SwitchSeen(None, BLOCK), SwitchSeen(BLOCK, OPEN)]
    assert [entry.kind for entry in world.machine.timeline if entry.at > begun] == ["switch", "agrees"]
    assert "provider" not in world.forward.proofs.reachable.evidence


def test_one_that_never_follows_is_set_again_after_ten_minutes_and_looked_at_ever_less():
    world = profile(PortPolicy(PolicyMode.OPEN_ALL))
    world.switch_delay = 1e9
    world.ready().wait(3600)
    assert len(world.ordered(SetSwitch)) in {6, 7}
    assert len(world.ordered(ReadSwitch)) < 400
    assert disagreement(world) == "the provider still blocks all ports"


def test_a_changed_policy_is_passed_on_at_once_and_only_the_last_one_counts():
    world = settled(profile(PortPolicy(PolicyMode.BLOCK_ALL)))
    world.switch_delay = 30.0
    for mode in (PolicyMode.OPEN_ALL, PolicyMode.BLOCK_ALL):
        world.take(PolicyWanted(PortPolicy(mode)))
        world.settle()
    assert [order.work.wanted for order in world.ordered(SetSwitch)] == [OPEN]
    world.wait(1)
    assert [order.work.wanted for order in world.ordered(SetSwitch)] == [OPEN, BLOCK]
    world.wait(600)
    assert (world.switch, disagreement(world)) == (BLOCK, "")


def test_a_thousand_changes_in_a_row_are_a_few_for_the_provider():
    world = settled(profile(PortPolicy(PolicyMode.BLOCK_ALL)))
    for number in range(1000):
        mode = (PolicyMode.OPEN_ALL, PolicyMode.BLOCK_ALL)[number % 2]
        world.take(PolicyWanted(PortPolicy(mode)))
        world.settle()
        world.wait(0.01)
    world.wait(2)
    assert len(world.ordered(SetSwitch)) <= 12
    assert (world.switch, disagreement(world)) == (BLOCK, "")


def test_a_look_that_is_under_way_does_not_hold_up_a_change():
    world = settled(profile(PortPolicy(PolicyMode.BLOCK_ALL)))
    world.held = {ReadSwitch}
    world.wait(301)
    stale = world.waiting(ReadSwitch)
    world.take(PolicyWanted(PortPolicy(PolicyMode.OPEN_ALL)))
    world.settle()
    assert world.switch == OPEN
    world.take(SwitchRead(stale.generation, BLOCK))
    assert disagreement(world) == ""


def test_what_somebody_sets_on_the_providers_site_is_noticed_and_put_right():
    world = settled(profile())
    world.switch = BLOCK
    world.until(lambda: bool(world.heard(Disagrees)) and world.switch == only(40000), 301)
    world.wait(1)
    assert disagreement(world) == ""


def test_another_tunnel_may_lead_to_another_switch():
    world = settled(profile())
    world.switch, world.handshake_age = BLOCK, 181.0
    before = len(world.ordered(StartTunnel))
    world.until(lambda: len(world.ordered(StartTunnel)) > before, 600)
    world.handshake_age = 5.0
    world.until(lambda: world.switch == only(40000) and world.phase is Phase.READY, 120)


def test_what_a_lost_tunnel_was_told_of_is_not_shown_of_the_next():
    world = profile(PortPolicy(PolicyMode.OPEN_ALL))
    world.switch_delay = 1e9
    world.ready()
    world.held, world.handshake_age = {StartTunnel}, 181.0
    world.until(lambda: world.phase is Phase.BLOCKED, 600)
    state = view(world.machine)
    assert (state.provider_policy, state.disagree) == (None, "")
    world.held, world.handshake_age, world.switch = {ReadSwitch}, 5.0, OPEN
    world.until(lambda: world.phase is Phase.READY, 60)
    state = view(world.machine)
    assert (state.provider_policy, state.disagree) == (None, "")
    assert "blocks" not in world.forward.proofs.reachable.evidence
    world.held = set()
    world.wait(1)
    assert view(world.machine).provider_policy == OPEN
    assert world.heard(Disagrees) == [Disagrees("blocks all ports"), Disagrees("")]


def test_stopping_leaves_the_switch_as_it_is():
    world = settled(profile())
    asked = len(world.ordered(ReadSwitch, SetSwitch))
    world.stop()
    assert world.phase is Phase.STOPPED
    assert len(world.ordered(ReadSwitch, SetSwitch)) == asked
    assert world.switch == only(40000)


# -- failures ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FailureKind)
@pytest.mark.parametrize("work", [ReadSwitch, SetSwitch])
def test_a_failing_switch_costs_neither_tunnel_nor_lease_nor_rules(work, kind):
    world = profile()
    world.fail(work, kind)
    world.ready().wait(2 * 3600)
    assert world.phases == [Phase.CONNECTING, Phase.LEASING, Phase.READY]
    assert len(world.ordered(StartTunnel)) == 1
    assert world.table == policy_for(world.machine)
    assert world.forward.lease.external_port == 40000
    assert any("switch" in problem for problem in world.problems)
    assert len(world.heard(ProblemNoticed)) == 1
    tries = len(world.ordered(work))
    assert tries <= (3 if kind in {FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED} else 150)
    world.faults.clear()
    world.until(lambda: world.switch == only(40000) and not world.problems, 3700)


def test_a_failing_switch_is_never_the_cause_of_a_phase():
    world = profile()
    world.fail(ReadSwitch, FailureKind.MISCONFIGURED)
    world.ready()
    world.listening = False
    world.until(lambda: world.phase is Phase.LEASING, 60)
    assert "switch" not in world.machine.timeline[-1].cause


def test_whoever_asks_for_patience_gets_it():
    world = profile()
    world.fail(SetSwitch, retry_after=120.0)
    world.ready().wait(119)
    assert len(world.ordered(SetSwitch)) == 1
    world.faults.clear()
    world.wait(5)
    assert world.switch == only(40000)


@pytest.mark.parametrize("failing", [ReadSwitch, SetSwitch])
def test_a_changed_mind_is_no_reason_to_ask_before_the_time_that_was_said(failing):
    world = settled(profile(PortPolicy(PolicyMode.BLOCK_ALL)))
    world.fail(failing, retry_after=600.0)
    if failing is SetSwitch:
        world.take(PolicyWanted(PortPolicy(PolicyMode.OPEN_ALL)))
        world.settle()
    world.until(lambda: bool(world.problems), 400)
    world.faults.clear()
    asked = len(world.ordered(ReadSwitch, SetSwitch))
    world.wait(10)
    world.take(PolicyWanted(PortPolicy()))
    world.wait(580)
    assert len(world.ordered(ReadSwitch, SetSwitch)) == asked
    world.wait(15)
    assert world.switch == only(40000)


def test_what_a_provider_cannot_do_is_no_reason_not_to_try_something_else():
    world = profile()
    world.fail(SetSwitch, FailureKind.UNSUPPORTED)
    world.ready().wait(10)
    world.faults.clear()
    world.take(PolicyWanted(PortPolicy(PolicyMode.OPEN_ALL)))
    world.settle()
    assert world.switch == OPEN
    world.wait(5)
    assert not world.problems


def test_a_change_that_was_cut_off_is_found_out():
    world = profile()
    world.held = {SetSwitch}
    world.ready()
    world.cut_off(world.waiting(SetSwitch))
    world.held = set()
    world.wait(5)
    assert world.switch == only(40000)
    assert not world.problems


def test_a_port_that_was_reached_and_is_blocked_now_says_both():
    world = settled(profile())
    world.packets = {"torrent": 3}
    world.wait(30)
    world.held, world.switch = {SetSwitch}, BLOCK
    world.wait(301)
    reachable = world.forward.proofs.reachable
    assert reachable.ok
    assert reachable.evidence.startswith("inbound packets counted")
    assert reachable.evidence.endswith("the provider says that it blocks 40000/tcp, 40000/udp now")


# -- what is said -----------------------------------------------------------------------------------

MANY = ProviderPolicy(PolicyMode.ALLOW_LIST, tuple(Opening(p, p, TCP) for p in range(100, 120, 2)))
RANGE = ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(100, 200, TCP),))
HOLES = ProviderPolicy(PolicyMode.ALLOW_LIST, (Opening(90, 99, TCP), Opening(150, 160, TCP), Opening(170, 250, TCP)))


@pytest.mark.parametrize(
    ("seen", "wanted", "said"),
    [
        (OPEN, OPEN, ""),
        (BLOCK, OPEN, "blocks all ports"),
        (BLOCK, only(1), "blocks all ports"),
        (OPEN, BLOCK, "lets in all ports"),
        (OPEN, only(1), "lets in all ports"),
        (only(1), OPEN, "blocks all ports but 1/tcp, 1/udp"),
        (only(1), BLOCK, "lets in 1/tcp, 1/udp alone"),
        (only(1), only(2), "blocks 2/tcp, 2/udp and lets in 1/tcp, 1/udp"),
        (only(1), only(1, 2), "blocks 2/tcp, 2/udp"),
        (RANGE, HOLES, "blocks 90-99/tcp, 201-250/tcp and lets in 100-149/tcp, 161-169/tcp"),
        (MANY, BLOCK, "lets in 100/tcp, 102/tcp, 104/tcp, 106/tcp, 108/tcp and 5 more alone"),
    ],
)
def test_the_difference_in_words(seen, wanted, said):
    assert difference(seen, wanted) == said


ranges = st.tuples(st.integers(1, 40), st.integers(0, 5), st.sampled_from(Protocol)).map(
    lambda each: Opening(each[0], each[0] + each[1], each[2])
)
policies = st.builds(ProviderPolicy, st.sampled_from(PolicyMode), st.lists(ranges, max_size=8).map(tuple)).map(as_said)


@given(policies, policies)
def test_there_is_a_difference_exactly_where_some_port_is_treated_otherwise(one, other):
    differs = any(lets_in(one, port, p) != lets_in(other, port, p) for port in range(1, 60) for p in Protocol)
    assert bool(difference(one, other)) == differs
    assert as_said(one) == one


def test_a_long_list_is_compared_in_milliseconds():
    odd = ProviderPolicy(PolicyMode.ALLOW_LIST, tuple(Opening(port, port, TCP) for port in range(1, 40001, 4)))
    even = ProviderPolicy(PolicyMode.ALLOW_LIST, tuple(Opening(port, port, TCP) for port in range(3, 40001, 4)))
    begun = time.perf_counter()
    assert difference(odd, even).endswith("and 9995 more")
    assert time.perf_counter() - begun < 1.0


def test_status_and_json_show_both_layers():
    world = profile(PortPolicy(PolicyMode.OPEN_ALL))
    world.switch_delay = 1e9
    world.ready().wait(3)
    said = state_json(view(world.machine), 0.0)
    assert said["provider_policy"]["mode"] == "block-all"
    assert said["provider_policy"]["ports"] == []
    assert str(said["provider_policy"]["seen"]).startswith("1970-01-01T00:")
    assert said["disagree"] == "the provider still blocks all ports"
    assert said["policy"]["mode"] == "open-all"
    assert notice_json(SwitchSeen(None, only(1)), 0.0) == {
        "event": "switch", "before": None, "mode": "allow-list", "ports": ["1/tcp", "1/udp"]
    }  # fmt: skip
    assert notice_json(Disagrees("blocks all ports"), 0.0) == {"event": "disagrees", "how": "blocks all ports"}
    assert notice_json(Disagrees(""), 0.0) == {"event": "agrees", "how": ""}
    assert talk(Disagrees("blocks all ports")) == ["the provider blocks all ports: that is not what is wanted here"]


def test_status_in_words():
    world = profile(PortPolicy(PolicyMode.OPEN_ALL))
    world.switch_delay = 1e9
    world.ready().wait(3)
    now = world.machine.switch.seen_at + 12
    seen = convert(document(view(world.machine), now, 0.0), Seen)
    lines = words(Status(seen, {}, 0.0, alive=True), now)
    assert lines[2] == "  DISAGREE: the provider still blocks all ports: it said so 12 s ago"
    world.switch = OPEN
    world.until(lambda: not disagreement(world), 60)
    seen = convert(document(view(world.machine), world.now, 0.0), Seen)
    assert (
        words(Status(seen, {}, 0.0, alive=True), world.now)[2]
        == "  provider's own switch: open-all (it said so 0 s ago)"
    )


def test_a_switch_in_words():
    seen = SeenSwitch("allow-list", ("1/tcp",))
    assert _switch(seen, "", 0.0) == "provider's own switch: allow-list, 1/tcp (it said so)"
    assert (
        _switch(seen, "the provider still blocks 2/tcp", 0.0) == "DISAGREE: the provider still blocks 2/tcp: it said so"
    )
