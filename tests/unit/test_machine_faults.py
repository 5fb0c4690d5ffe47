"""What goes wrong around the engine, and that it comes back by itself: tunnel, rules, client, and work that crashes."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import MOVED, PLAN, SPEC, START, World
from vpnpf.core.state import initial, without
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckTunnel,
    PhaseChanged,
    PlanTunnel,
    PortAnnounced,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    RemedyTaken,
    SetClient,
    StartTunnel,
    WorkFailed,
)
from vpnpf.model import FailureKind, FirewallStage, ForwardSpec, ListenSettings, Phase, ProfileSpec, Remedy

# -- a lost tunnel ------------------------------------------------------------------------------


def lost(held=(), **world):
    """READY for a while, then the tunnel is found dead; work of these kinds does not come back for now."""
    made = World(**world).ready().wait(12)
    made.handshake_age = 181.0
    made.held = set(held)
    made.until(lambda: made.machine.tunnel_number > 1 or made.machine.tunnel is None, 20)
    return made


def test_a_lost_tunnel_is_blocked_before_anything_else():
    world = lost({ApplyFirewall})
    assert world.phase is Phase.BLOCKED
    begun = world.names().index("PlanTunnel")
    assert world.names()[begun - 1] == "ApplyFirewall"
    assert world.ordered(ApplyFirewall)[-1].work.policy.stage is FirewallStage.BLOCKED
    world.wait(300)
    assert len(world.ordered(StartTunnel)) == 1


def test_it_comes_back_by_itself_with_the_same_port():
    world = lost()
    world.until(lambda: world.phase is Phase.READY, 10)
    assert world.phases[-3:] == [Phase.BLOCKED, Phase.LEASING, Phase.READY]
    after = world.names()[world.names().index("PlanTunnel") :]
    assert after[:4] == ["PlanTunnel", "StartTunnel", "ApplyFirewall", "Acquire"]
    assert len(world.heard(PortAnnounced)) == 1
    assert not world.heard(PortLost)


def test_the_lease_is_kept_in_mind_and_renewed_through_the_new_tunnel():
    world = lost({StartTunnel})
    lease = world.forward.lease
    assert lease is not None
    world.held.clear()
    world.settle()
    request = world.ordered(Acquire)[-1].work.request
    assert request.renewal
    assert request.previous == lease


def test_a_lease_is_not_proven_by_another_tunnel_than_its_own():
    world = lost({Acquire}).wait(5)
    assert world.machine.tunnel_number == 2
    assert world.forward.proofs.client.ok
    assert world.forward.proofs.lease.ok is None
    assert world.phase is Phase.LEASING
    world.held.clear()
    world.settle()
    assert world.phase is Phase.READY


def test_the_client_binds_anew_after_a_lost_tunnel():
    """It keeps the sockets of the device that is gone, although its settings are right."""
    world = lost()
    assert len(world.ordered(SetClient)) == 2


def test_the_server_is_looked_up_anew_and_the_rules_follow_before_the_start():
    world = lost({ApplyFirewall}, plan=MOVED)
    world.held = {StartTunnel}
    world.settle()
    assert world.table.stage is FirewallStage.BLOCKED
    assert world.table.plan == MOVED
    assert world.ordered(StartTunnel)[-1].work.plan == MOVED


def test_a_start_that_fails_is_planned_anew_for_the_next_address():
    world = World(plan=MOVED)
    world.fail(StartTunnel)
    world.begin()
    assert world.ordered(StartTunnel)[0].work.plan == PLAN
    world.until(lambda: len(world.ordered(StartTunnel)) == 2, 2)
    assert world.ordered(StartTunnel)[1].work.plan == MOVED
    assert world.table.plan == MOVED


@pytest.mark.parametrize("moving", [False, True])
def test_a_tunnel_that_does_not_start_is_tried_ever_more_slowly(moving):
    world = World()
    world.fail(StartTunnel)
    world.begin()
    for _ in range(600):
        if moving:
            world.plan = MOVED if world.plan == PLAN else PLAN
        world.wait(1)
    assert 10 <= len(world.ordered(StartTunnel)) <= 25
    assert len(world.ordered(PlanTunnel)) <= 25
    assert world.machine.job("tunnel").problem.failures == len(world.ordered(StartTunnel))
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 67)


def test_a_tunnel_that_comes_up_and_dies_is_not_restarted_in_a_loop():
    world = World()
    fresh = world.outcome

    def dying(order):
        if isinstance(order.work, CheckTunnel):
            return world.failure(order, FailureKind.LEASE_LOST)
        return fresh(order)

    world.outcome = dying
    world.begin().wait(600)
    assert len(world.ordered(StartTunnel)) <= 61


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.CRASHED, FailureKind.UNSUPPORTED])
def test_one_look_that_fails_does_not_end_a_tunnel(kind):
    world = World().ready()
    world.fail(CheckTunnel, kind, 60.0)
    world.until(lambda: bool(world.problems), 11)
    world.faults.clear()
    world.wait(5)
    assert world.phases[-1] is Phase.READY
    assert world.problems == []
    assert len(world.ordered(StartTunnel)) == 1


def test_three_looks_that_fail_end_it_soon():
    world = World().ready()
    world.fail(CheckTunnel)
    took = world.until(lambda: Phase.BLOCKED in world.phases, 30)
    assert took < 18
    assert world.heard(PhaseChanged)[3].cause == "doing CheckTunnel: it was transient"


def test_a_device_that_is_gone_ends_it_at_once():
    world = World().ready()
    world.fail(CheckTunnel, FailureKind.LEASE_LOST)
    assert world.until(lambda: Phase.BLOCKED in world.phases, 30) == pytest.approx(10)


def test_blocked_says_that_the_handshake_is_dead():
    world = lost({StartTunnel})
    remedies = world.heard(RemedyTaken)[-2:]
    assert [each.remedy for each in remedies] == [Remedy.REKEY, Remedy.RESTART]
    assert remedies[0].cause.startswith("the tunnel's handshake is too old")
    assert world.heard(PhaseChanged)[-1].cause == "doing Rekey: it was transient"


@pytest.mark.parametrize("work", [StartTunnel, PlanTunnel])
def test_what_only_the_person_can_mend_at_the_tunnel_is_failed_and_tried_slowly(work):
    world = lost({StartTunnel}) if work is StartTunnel else lost({PlanTunnel})
    world.fail(work, FailureKind.MISCONFIGURED, 30.0)
    world.held.clear()
    world.settle()
    assert world.phase is Phase.FAILED
    world.wait(200)
    assert world.phases.count(Phase.FAILED) == 1
    assert world.table.stage is FirewallStage.BLOCKED
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 31)


def test_what_was_not_mended_is_not_over_when_it_is_stopped():
    world = lost({StartTunnel})
    world.fail(StartTunnel, FailureKind.MISCONFIGURED, 30.0)
    world.held.clear()
    world.settle()
    world.stop()
    world.wait(5)
    assert world.phase is Phase.STOPPED
    assert not [notice for notice in world.heard(ProblemOver) if "StartTunnel" in notice.problem.doing]


def test_lost_again_while_it_was_being_opened_it_is_closed_before_the_next_start():
    """The rules of a standing tunnel come into force although that is lost by then: nothing is started under them."""
    world = lost({StartTunnel})
    world.held = {ApplyFirewall}
    world.answer(world.waiting(StartTunnel))
    opening = world.waiting(ApplyFirewall)
    assert opening.work.policy.stage is FirewallStage.CONNECTED
    world.handshake_age = None
    world.wait(30)
    assert world.machine.tunnel is None
    started = len(world.ordered(StartTunnel))
    world.answer(opening)
    assert world.table.stage is FirewallStage.CONNECTED
    assert len(world.ordered(StartTunnel)) == started
    world.held.clear()
    world.settle()
    assert len(world.ordered(StartTunnel)) == started + 1


def test_failed_for_good_the_rules_are_still_watched():
    world = World()
    world.fail(StartTunnel, FailureKind.MISCONFIGURED)
    world.begin().wait(60)
    assert world.phase is Phase.FAILED
    assert len(world.ordered(StartTunnel)) == 1
    world.flushed = True
    world.wait(11)
    assert not world.flushed


# -- the rules ----------------------------------------------------------------------------------


def test_a_flushed_table_heals_and_is_told():
    world = World().ready()
    world.flushed = True
    world.held = {ApplyFirewall}
    world.until(lambda: world.phase is not Phase.READY, 11)
    assert world.heard(PhaseChanged)[-1].cause == "firewall: the table is gone"
    assert world.forward.proofs.firewall.ok is False
    world.held.clear()
    world.settle()
    assert not world.flushed
    assert world.phase is Phase.READY
    assert len(world.heard(PortAnnounced)) == 1
    assert len(world.ordered(StartTunnel)) == 1


def test_rules_that_cannot_be_put_back_are_tried_again_and_it_is_not_ready():
    world = World().ready()
    world.fail(ApplyFirewall)
    world.flushed = True
    world.wait(120)
    assert world.phase is Phase.LEASING
    assert "firewall: transient it was transient" in world.problems
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 67)


def test_nothing_is_announced_while_the_rules_are_gone():
    world = World(held={ReadSockets}).begin()
    world.fail(ApplyFirewall)
    world.flushed = True
    world.wait(11)
    world.held.clear()
    world.settle()
    assert world.forward.proofs.listening.ok
    assert not world.heard(PortAnnounced)


def test_a_tunnel_is_not_started_under_rules_that_were_tampered_with():
    world = World(held={StartTunnel}).begin()
    world.take(world.failure(world.pending[0], FailureKind.TRANSIENT))
    world.pending.clear()
    world.flushed = True
    world.held = {ApplyFirewall}
    world.machine = replace(world.machine, reading=replace(world.machine.reading, intact=False))
    world.wait(300)
    assert len(world.ordered(StartTunnel)) == 1
    world.held.clear()
    world.settle()
    assert world.phase is Phase.READY


def test_rules_that_may_have_changed_behind_a_deadline_are_applied_again():
    """The change to "connected" was cut off and went through; the tunnel is lost before it is tried again."""
    world = lost({ApplyFirewall, StartTunnel})
    world.held = {StartTunnel}
    world.settle()
    world.held = {ApplyFirewall, CheckTunnel}
    world.settle()
    assert world.machine.applied.stage is FirewallStage.BLOCKED
    for _ in range(3):
        world.cut_off(next(order for order in world.pending if isinstance(order.work, ApplyFirewall)))
        assert world.table.stage is FirewallStage.CONNECTED
        world.until(lambda: any(isinstance(order.work, ApplyFirewall) for order in world.pending), 10)
    world.cut_off(next(order for order in world.pending if isinstance(order.work, ApplyFirewall)))
    world.until(lambda: any(isinstance(order.work, CheckTunnel) for order in world.pending), 10)
    check = next(order for order in world.pending if isinstance(order.work, CheckTunnel))
    world.pending.remove(check)
    world.take(world.failure(check, FailureKind.LEASE_LOST))
    world.held = {StartTunnel}
    world.settle()
    assert world.table.stage is FirewallStage.BLOCKED
    assert isinstance(world.pending[0].work, StartTunnel)


@pytest.mark.parametrize("kind", [FailureKind.UNSUPPORTED, FailureKind.MISCONFIGURED])
def test_a_kernel_that_cannot_block_is_failed(kind):
    world = World()
    world.fail(ApplyFirewall, kind)
    world.begin().wait(600)
    assert world.phase is Phase.FAILED
    assert world.names() == ["ApplyFirewall"]


def test_a_kernel_that_cannot_open_the_port_is_failed_not_for_ever_leasing():
    world = World(held={StartTunnel}).begin()
    world.fail(ApplyFirewall, FailureKind.UNSUPPORTED)
    world.held.clear()
    world.settle()
    assert world.machine.tunnel is not None
    assert world.phase is Phase.FAILED
    assert world.heard(PhaseChanged)[-1].cause == "doing ApplyFirewall: it was unsupported"


@pytest.mark.parametrize("work", [ReadFirewall, ReadClient, ReadSockets, CheckTunnel])
@pytest.mark.parametrize("kind", list(FailureKind))
def test_a_look_that_fails_is_never_given_up(work, kind):
    world = World().ready()
    world.fail(work, kind)
    world.wait(200)
    seen = len(world.ordered(work))
    world.wait(70)
    assert len(world.ordered(work)) > seen
    if work in {ReadClient, ReadSockets}:
        assert world.phase is Phase.LEASING
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 70)
    assert world.problems == []


def test_counters_are_read_without_needless_waking():
    world = World(initial(replace(SPEC, forwards=(ForwardSpec("game"),)), PLAN, START), lifetime=None).ready()
    world.steps, begun = 0, len(world.orders)
    world.wait(40)
    useful = len(world.orders) - begun
    assert world.steps <= 2 * useful + 5


# -- the torrent client -------------------------------------------------------------------------


def test_a_client_that_was_started_anew_with_another_port_is_put_right():
    world = World().ready()
    world.settings["torrent"] = ListenSettings(6881, "")
    world.wait(31)
    assert world.settings["torrent"] == ListenSettings(40000, "vpf-home")
    assert world.phase is Phase.READY
    assert len(world.heard(PortAnnounced)) == 1


def test_the_sockets_are_looked_for_as_soon_as_the_client_was_set():
    world = World().ready()
    world.settings["torrent"] = ListenSettings(6881, "")
    world.held = {SetClient}
    world.until(lambda: world.forward.proofs.client.ok is False and world.forward.proofs.listening.ok is False, 31)
    looks = len(world.ordered(ReadSockets))
    world.wait(3)
    world.held = {ReadSockets}
    world.settle()
    assert isinstance(world.pending[-1].work, ReadSockets)
    assert len(world.ordered(ReadSockets)) > looks


def test_a_client_that_is_gone_for_a_while_is_set_again():
    world = World().ready()
    world.listening = False
    world.fail(ReadClient)
    world.fail(SetClient)
    world.wait(120)
    assert world.phase is Phase.LEASING
    world.faults.clear()
    world.listening = True
    world.settings["torrent"] = ListenSettings(6881, "")
    world.until(lambda: world.phase is Phase.READY, 67)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ListenSettings(6881, "vpf-home"), "port 6881 instead of 40000"),
        (ListenSettings(40000, ""), "interface any instead of vpf-home"),
        (ListenSettings(40000, "vpf-home", random_port=True), "a random port at each start"),
        (ListenSettings(40000, "vpf-home", port_mapping=True), "its own UPnP/NAT-PMP is on"),
    ],
)
def test_what_differs_at_the_client_is_said_and_put_right(settings, said):
    world = World().ready()
    world.settings["torrent"] = settings
    world.held = {SetClient}
    world.until(lambda: world.forward.proofs.client.ok is False, 31)
    assert said in world.forward.proofs.client.evidence
    assert world.phase is Phase.LEASING
    assert world.heard(PhaseChanged)[-1].cause.startswith("torrent: ")
    world.held.clear()
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 1)


def test_right_settings_without_a_socket_make_it_bind_anew():
    world = World().ready()
    world.listening = False
    world.until(lambda: len(world.ordered(SetClient)) == 2, 40)
    assert "nothing listens on 40000/tcp" in world.forward.proofs.listening.evidence
    assert world.phase is Phase.LEASING
    world.wait(300)
    assert len(world.ordered(SetClient)) <= 13


def test_a_client_that_refuses_is_asked_once_a_minute():
    world = World()
    world.fail(SetClient, FailureKind.MISCONFIGURED)
    world.begin().wait(601)
    assert len(world.ordered(SetClient)) == 11
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 61)


def test_somebody_who_sets_the_client_back_each_time_does_not_make_us_race():
    world = World().ready()
    fresh = world.outcome

    def fighting(order):
        answer = fresh(order)
        if isinstance(order.work, SetClient):
            world.settings["torrent"] = ListenSettings(6881, "")
        return answer

    world.outcome = fighting
    world.settings["torrent"] = ListenSettings(6881, "")
    world.wait(600)
    assert 10 <= len(world.ordered(SetClient)) <= 60


# -- work that crashes or is never heard of ---------------------------------------------------------


@pytest.mark.parametrize("work", [ApplyFirewall, StartTunnel, Acquire, SetClient, ReadSockets])
def test_crashed_work_is_told_and_tried_again(work):
    world = World()
    world.fail(work, FailureKind.CRASHED)
    world.begin()
    assert [notice.problem.kind for notice in world.heard(ProblemNoticed)] == [FailureKind.CRASHED]
    world.wait(5)
    assert len(world.ordered(work)) >= 2
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 20)
    assert world.problems == []


def test_what_is_forgotten_of_a_key_is_done_again():
    """What the supervisor does when an answer can never be learnt."""
    world = World(held={Acquire}).begin()
    late = world.pending.pop()
    world.machine = without(world.machine, "lease:torrent")
    world.tick()
    again = world.pending[-1]
    assert again.generation > late.generation
    world.take(world.success(late))
    assert world.forward.lease is None
    world.held.clear()
    world.settle()
    assert world.phase is Phase.READY


def test_the_worst_problem_is_not_hidden_by_another():
    world = World().ready()
    world.fail(Acquire)
    world.fail(ReadClient)
    world.wait(60)
    assert sorted(problem.partition(":")[0] for problem in world.problems) == ["client", "lease"]


def test_failures_of_two_forwards_do_not_come_in_step():
    forwards = tuple(ForwardSpec(f"f{slot}", slot=slot) for slot in range(4))
    world = World(initial(ProfileSpec("home", "mock", forwards), PLAN, START))
    world.fail(Acquire)
    world.begin().wait(100)
    due = {world.machine.job(f"lease:f{slot}").not_before for slot in range(4)}
    assert len(due) == 4


def test_a_suspend_does_not_end_a_tunnel_that_shakes_hands_anew():
    world = World(lifetime=None).ready()
    world.handshake_age = 3 * 3600.0
    world.sleep(3 * 3600)
    assert world.forward.proofs.tunnel.ok is False
    assert world.phase is Phase.LEASING
    world.handshake_age = 2.0
    world.until(lambda: world.phase is Phase.READY, 11)
    assert len(world.ordered(StartTunnel)) == 1


def test_a_tunnel_that_stays_dead_after_a_suspend_is_made_anew():
    world = World(lifetime=None).ready()
    world.handshake_age = 3 * 3600.0
    world.sleep(3 * 3600)
    world.until(lambda: Phase.BLOCKED in world.phases, 11)
    assert len(world.ordered(StartTunnel)) == 2


def test_a_suspend_of_hours_ends_in_ready():
    world = World().ready()
    world.handshake_age = 3 * 3600.0
    world.sleep(3 * 3600)
    world.until(lambda: world.phase is Phase.READY, 30)
    assert world.forward.lease.expires_at > world.now


def test_a_failure_of_work_that_is_no_longer_under_way_changes_nothing():
    world = World().ready()
    before = world.machine
    assert world.take(WorkFailed(before.generation, "tunnel", FailureKind.LEASE_LOST, "x", "y")) == ()
    assert world.machine == before


def test_rules_that_cannot_be_read_prove_nothing():
    world = World().ready()
    world.fail(ReadFirewall)
    world.wait(25)
    assert world.forward.proofs.firewall.ok is None
    assert "doing ReadFirewall" in world.forward.proofs.firewall.evidence


def test_a_client_that_is_seen_to_be_set_right_has_no_problem_of_an_earlier_try():
    """It was to bind anew and could not be told, and meanwhile its sockets came by themselves."""
    world = World(lifetime=60.0).ready()
    world.listening = False
    world.held.add(SetClient)
    world.until(lambda: any(isinstance(order.work, SetClient) for order in world.pending), 60)
    order = world.waiting(SetClient)
    world.sleep(3600)
    world.pending.remove(order)
    world.take(world.failure(order, FailureKind.TRANSIENT))
    world.listening = True
    world.until(lambda: world.phase is Phase.READY, 60)
    assert not world.problems


def test_a_client_that_is_seen_to_be_set_otherwise_keeps_the_problem_of_the_try():
    """The control."""
    world = World().ready()
    world.fail(SetClient)
    world.settings["torrent"] = ListenSettings(6881, "")
    world.wait(120)
    assert world.phase is Phase.LEASING
    assert world.problems
