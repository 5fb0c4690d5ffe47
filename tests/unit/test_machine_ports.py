"""Keeping a port: renewed in time, changed without a gap, lost and had again, never kept past its end."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, World
from vpnpf.core.state import initial
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    LeaseRenewed,
    PortAnnounced,
    PortGranted,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    ReadFirewall,
    ReadSockets,
    RemedyTaken,
    SaveLeases,
    SetClient,
    StartTunnel,
    StopTunnel,
)
from vpnpf.model import FailureKind, ForwardSpec, Phase, Remedy

# -- renewals -----------------------------------------------------------------------------------


def test_it_is_renewed_at_half_of_its_time():
    world = World().ready().wait(29.9)
    assert len(world.ordered(Acquire)) == 1
    world.wait(0.2)
    renewal = world.ordered(Acquire)[1].work.request
    assert renewal.renewal
    assert renewal.previous.external_port == 40000
    assert world.forward.lease.granted_at == START + 30


def test_a_renewed_lease_is_prolonged_in_the_kernel_and_nothing_else_is_touched():
    world = World().ready()
    before = len(world.orders)
    world.wait(30.1)
    assert world.table.forwards[0].expires_at == START + 90
    assert not {"SetClient", "StartTunnel"} & set(world.names()[before:])
    assert len(world.heard(LeaseRenewed)) == 1
    assert world.phases[-1] is Phase.READY


def test_hours_of_renewals_lose_nothing_and_cost_little():
    world = World().ready().wait(3 * 3600)
    assert world.phases == [Phase.CONNECTING, Phase.LEASING, Phase.READY]
    assert len(world.heard(PortAnnounced)) == 1
    assert len(world.ordered(Acquire)) == pytest.approx(3 * 120, abs=5)
    assert world.steps < 3 * 2500


def test_a_lease_without_an_end_is_not_asked_for_again():
    world = World(lifetime=None).ready().wait(3600)
    assert len(world.ordered(Acquire)) == 1
    assert world.forward.renew_at is None
    assert world.table.forwards[0].expires_at is None


def test_a_failed_renewal_touches_nothing_else():
    world = World().ready()
    before = len(world.orders)
    world.fail(Acquire)
    world.wait(59)
    touched = set(world.names()[before:])
    # A handshake in place costs nothing, and may be what the way to the gateway lacks.
    assert touched == {"Acquire", "CheckTunnel", "ReadFirewall", "ReadClient", "ReadSockets", "Rekey"}
    assert world.phase is Phase.READY
    assert world.open_ports() == {40000}


def test_a_failed_renewal_is_tried_many_times_before_the_end():
    world = World().ready()
    world.fail(Acquire)
    world.wait(59.9)
    assert len(world.ordered(Acquire)) - 1 >= 6


def test_the_last_try_may_save_it():
    world = World().ready()
    world.fail(Acquire)
    world.wait(58)
    world.faults.clear()
    world.wait(1.9)
    assert world.forward.lease.expires_at > START + 100
    assert not world.heard(PortLost)
    assert [notice.problem.doing for notice in world.heard(ProblemOver)] == ["doing Acquire"]


def test_the_same_problem_is_told_once():
    world = World().ready()
    world.fail(Acquire)
    world.wait(59)
    assert world.machine.job("lease:torrent").problem.since == START + 30
    told = [notice.problem for notice in world.heard(ProblemNoticed)]
    assert [problem.failures for problem in told] == [1]
    assert world.machine.job("lease:torrent").problem.failures > 5


def test_a_renewal_that_does_not_come_back_is_not_asked_for_twice():
    world = World(held={Acquire})
    world.held.clear()
    world.ready()
    world.held = {Acquire}
    world.wait(59)
    assert len(world.ordered(Acquire)) == 2


def test_a_provider_that_gives_no_more_time_is_not_asked_in_a_loop():
    """The lease of such a provider has a fixed end; asking again gives the same lease."""
    world = World(lifetime=5000).ready().wait(2400)
    world.held = {Acquire}
    for _ in range(5):
        world.until(lambda: bool(world.pending), 1000)
        order = world.pending.pop()
        world.take(replace(world.success(order), lease=world.forward.lease))
        assert not world.pending
    assert world.now < START + 4999
    assert len(world.ordered(Acquire)) == 6


# -- the end of a lease -------------------------------------------------------------------------


def test_a_lease_that_ran_out_is_told_closed_and_asked_for_again():
    world = World().ready()
    world.fail(Acquire)
    world.wait(60)
    assert world.forward.lease is None
    assert [(each.external_port, each.cause) for each in world.heard(PortLost)] == [
        (40000, "the lease ran out before it could be renewed")
    ]
    assert world.phase is Phase.LEASING
    assert world.open_ports() == set()
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 70)
    assert [each.lease.external_port for each in world.heard(PortAnnounced)] == [40000, 40000]
    request = world.ordered(Acquire)[-1].work.request
    assert not request.renewal
    assert request.previous.external_port == 40000


def test_after_a_suspend_of_hours_a_dead_lease_is_not_taken_for_alive():
    world = World().ready()
    world.held = {Acquire, ApplyFirewall}
    world.sleep(3 * 3600)
    assert world.forward.lease is None
    assert world.phase is not Phase.READY
    world.held.clear()
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 60)
    assert len(world.heard(PortLost)) == 1


@pytest.mark.parametrize("held", [(), (StartTunnel,)])
def test_the_end_is_noticed_at_once_also_while_the_tunnel_is_down(held):
    world = World().ready()
    world.fail(Acquire)
    world.held = set(held)
    if held:
        world.handshake_age = None
    world.until(lambda: world.forward.lease is None, 61)
    assert world.now == START + 60


def test_a_lease_that_had_ended_before_it_came_is_no_lease():
    world = World(held={Acquire}).begin()
    order = world.pending[0]
    answer = world.success(order)
    world.pending.remove(order)
    world.now += 61
    world.take(answer)
    assert world.forward.lease is None
    assert "it had ended before it arrived" in world.problems[0]
    assert not world.heard(PortGranted)


def test_a_port_that_the_kernel_closed_by_itself_is_not_called_ready():
    """The lease was renewed, but the rules could not be: the old rule's end comes."""
    world = World().ready()
    world.fail(ApplyFirewall)
    world.wait(59.9)
    assert world.phase is Phase.READY
    world.until(lambda: world.phase is not Phase.READY, 1)
    assert world.now == START + 60
    assert world.forward.lease is not None
    assert world.forward.proofs.firewall.ok is False
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 70)
    assert len(world.heard(PortAnnounced)) == 1


def test_renewals_go_on_while_the_rules_cannot_be_changed():
    world = World().ready()
    world.fail(ApplyFirewall)
    world.wait(300)
    assert world.forward.lease.granted_at > START + 250


# -- lost by the gateway's word -----------------------------------------------------------------


def test_a_lease_that_the_gateway_forgot_is_had_again_at_once():
    world = World().ready()
    world.held = {Acquire}
    world.until(lambda: bool(world.pending), 31)
    renewal = world.pending[0]
    world.pending.remove(renewal)
    world.port = 40007
    world.take(world.failure(renewal, FailureKind.LEASE_LOST))
    again = world.ordered(Acquire)[-1]
    assert again in world.pending
    assert not again.work.request.renewal
    assert len(world.heard(PortLost)) == 1
    world.held.clear()
    world.settle()
    world.wait(1)
    assert world.phase is Phase.READY
    assert world.open_ports() == {40007}


def test_a_gateway_that_says_lost_each_time_is_not_asked_in_a_loop():
    world = World()
    world.fail(Acquire, FailureKind.LEASE_LOST)
    world.begin()
    assert len(world.ordered(Acquire)) == 2
    world.wait(600)
    assert len(world.ordered(Acquire)) < 25


# -- a changed port -----------------------------------------------------------------------------


def changing(held):
    """READY, and the gateway has just given another port; work of these kinds does not come back for now."""
    world = World(lifetime=120).ready().wait(59)
    world.port, world.lifetime = 40005, 60
    world.held = set(held)
    world.until(lambda: len(world.heard(PortGranted)) == 2, 2)
    return world


def test_a_changed_port_is_opened_beside_the_old_one():
    world = changing({SetClient})
    assert world.open_ports() == {40000, 40005}
    assert world.phase is Phase.LEASING
    assert world.heard(PortGranted)[1].before == 40000


@pytest.mark.parametrize("link", [SetClient, ReadSockets])
def test_the_old_port_stays_open_until_the_new_one_is_followed(link):
    world = changing({link}).wait(20)
    assert 40000 in world.open_ports()
    assert [each.lease.external_port for each in world.heard(PortAnnounced)] == [40000]
    world.held.clear()
    world.settle()
    world.wait(0.1)
    assert world.open_ports() == {40005}
    assert [(each.lease.external_port, each.before) for each in world.heard(PortAnnounced)[1:]] == [(40005, 40000)]
    assert world.phase is Phase.READY


def test_sockets_of_the_old_port_do_not_stand_for_the_new_one():
    """A look is under way when the port changes, and sees what the client has until then."""
    world = changing({ReadSockets, SetClient})
    look = next(order for order in world.pending if isinstance(order.work, ReadSockets))
    assert look.work.port == 40000
    world.answer(look)
    assert not world.forward.proofs.listening.ok
    world.answer(next(order for order in world.pending if isinstance(order.work, SetClient)))
    assert len(world.heard(PortAnnounced)) == 1


def test_the_client_is_told_only_once_the_new_port_is_open():
    world = changing({ApplyFirewall})
    assert len(world.ordered(SetClient)) == 1
    world.held.clear()
    world.settle()
    assert world.ordered(SetClient)[1].work.wanted.port == 40005


def test_what_was_proven_of_the_old_port_is_proven_anew():
    world = changing(())
    world.wait(0.1)
    assert world.phase is Phase.READY
    proofs = world.forward.proofs
    changed = world.forward.leased_at
    assert changed == START + 60
    assert proofs.tunnel.since == START
    assert all(proof.since >= changed for proof in (proofs.lease, proofs.firewall, proofs.client, proofs.listening))


def test_a_port_without_a_client_is_announced_only_once_it_is_open():
    game = ForwardSpec("game")
    world = World(initial(replace(SPEC, forwards=(game,)), PLAN, START), held={Acquire}).begin()
    world.held = {ApplyFirewall}
    world.settle()
    assert world.forward.lease is not None
    assert not world.heard(PortAnnounced)
    world.held.clear()
    world.settle()
    assert len(world.heard(PortAnnounced)) == 1


def test_a_changed_port_is_saved():
    world = changing(())
    assert [dict(order.work.leases)["torrent"].external_port for order in world.ordered(SaveLeases)] == [40000, 40005]


def test_the_old_port_is_closed_when_its_lease_ends_even_if_the_new_one_is_not_followed():
    world = changing({SetClient}).wait(59)
    assert 40000 in world.open_ports()
    world.wait(2)
    assert world.open_ports() == {40005}
    assert world.forward.replaced is None


def test_after_two_changes_in_a_row_the_port_that_the_client_has_stays_open():
    world = changing({SetClient})
    assert world.forward.replaced.external_port == 40000
    world.port = 40006
    world.until(lambda: len(world.heard(PortGranted)) == 3, 31)
    assert world.forward.replaced.external_port == 40000
    world.held.clear()
    world.settle()
    world.wait(1)
    assert world.open_ports() == {40006}


def test_a_port_that_changes_back_is_simply_ready_again():
    world = changing({SetClient})
    world.port = 40000
    world.held.clear()
    world.until(lambda: len(world.heard(PortGranted)) == 3, 31)
    world.until(lambda: world.phase is Phase.READY, 10)
    assert world.open_ports() == {40000}


def test_a_fixed_local_port_stays_while_the_outer_one_changes():
    fixed = replace(FORWARD, internal_port=6881)
    world = World(initial(replace(SPEC, forwards=(fixed,)), PLAN, START)).ready()
    world.port = 40005
    world.until(lambda: len(world.heard(PortAnnounced)) == 2, 31)
    assert {order.work.wanted.port for order in world.ordered(SetClient)} == {6881}
    assert [(rule.arrives, rule.listen) for rule in world.table.forwards] == [(40005, 6881)]


def test_one_forward_changes_and_the_other_stays_as_it_is():
    second = ForwardSpec("second", slot=1, client="qbittorrent")
    world = World(initial(replace(SPEC, forwards=(FORWARD, second)), PLAN, START)).ready()
    world.held = {Acquire}
    world.until(lambda: len(world.pending) == 2, 31)
    world.port = 41000
    world.answer(next(order for order in world.pending if order.work.key == "lease:torrent"))
    world.port = 40000
    world.held.clear()
    world.settle()
    world.wait(2)
    assert world.open_ports() == {41000, 40001}
    assert [each.forward for each in world.heard(PortAnnounced)] == ["torrent", "second", "torrent"]


# -- reachable ----------------------------------------------------------------------------------


def reachable(world):
    return world.forward.proofs.reachable.ok


def test_nobody_has_come_is_open_not_false():
    world = World().ready().wait(60)
    assert reachable(world) is None


def test_a_visitor_is_counted():
    world = World().ready()
    world.packets["torrent"] = 2
    world.wait(15)
    assert reachable(world)
    assert "2 tcp" in world.forward.proofs.reachable.evidence


def test_a_visitor_is_seen_soon_after_the_port_was_opened():
    world = World().ready()
    world.packets["torrent"] = 1
    world.wait(1.1)
    assert reachable(world)


def test_what_was_counted_before_this_run_proves_nothing():
    world = World(packets={"torrent": 7}).ready().wait(30)
    assert reachable(world) is None
    world.packets["torrent"] = 8
    world.wait(15)
    assert "1 tcp" in world.forward.proofs.reachable.evidence


def test_visitors_of_the_old_port_prove_nothing_of_the_new():
    world = World().ready()
    world.packets["torrent"] = 3
    world.wait(15)
    assert reachable(world)
    world.port = 40005
    world.until(lambda: len(world.heard(PortAnnounced)) == 2, 31)
    world.wait(30)
    assert reachable(world) is None


def test_a_renewed_port_stays_proven():
    world = World().ready()
    world.packets["torrent"] = 3
    world.wait(300)
    assert reachable(world)


def test_counters_that_somebody_emptied_take_nothing_back():
    world = World().ready()
    world.packets["torrent"] = 3
    world.wait(15)
    world.packets["torrent"] = 0
    world.wait(60)
    assert reachable(world)


def test_visitors_of_a_lost_tunnel_prove_nothing_of_the_next():
    world = World().ready()
    world.packets["torrent"] = 3
    world.wait(15)
    world.handshake_age = 400.0
    world.until(lambda: Phase.BLOCKED in world.phases, 20)
    world.until(lambda: world.phase is Phase.READY, 20)
    world.wait(30)
    assert reachable(world) is None


def test_a_reading_that_comes_after_the_tunnel_was_lost_counts_for_nothing():
    world = World().ready().wait(31)
    world.held = {ReadFirewall, ApplyFirewall}
    world.handshake_age = 400.0
    world.until(lambda: world.machine.tunnel is None, 30)
    reading = next(order for order in world.pending if isinstance(order.work, ReadFirewall))
    world.answer(reading)
    assert world.forward.hits_before is None
    world.packets["torrent"] = 1
    world.held.clear()
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 30)
    world.wait(30)
    assert reachable(world) is None


# -- refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED])
def test_what_only_the_person_can_mend_is_failed_and_asked_again_slowly(kind):
    world = World()
    world.fail(Acquire, kind, 300.0)
    world.begin()
    assert world.phase is Phase.FAILED
    world.wait(1000)
    assert len(world.ordered(Acquire)) == 4
    assert not world.ordered(StopTunnel)
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 301)


def test_refused_for_good_it_is_not_asked_again_and_says_so():
    world = World()
    world.fail(Acquire, FailureKind.MISCONFIGURED)
    world.begin().wait(3600)
    assert len(world.ordered(Acquire)) == 1
    assert world.phase is Phase.FAILED
    assert world.machine.job("lease:torrent").problem.retry_at is None


def test_refused_for_good_another_tunnel_is_another_chance():
    world = World()
    world.fail(Acquire, FailureKind.MISCONFIGURED)
    world.begin()
    world.faults.clear()
    world.handshake_age = 500.0
    world.until(lambda: world.phase is Phase.READY, 60)


def test_one_refused_forward_does_not_fail_the_others():
    second = ForwardSpec("second", slot=1)
    world = World(initial(replace(SPEC, forwards=(FORWARD, second)), PLAN, START))
    fresh = world.outcome

    def refusing(order):
        if order.work.key == "lease:torrent":
            return world.failure(order, FailureKind.MISCONFIGURED)
        return fresh(order)

    world.outcome = refusing
    world.begin().wait(5)
    assert world.phase is Phase.LEASING
    assert [each.forward for each in world.heard(PortAnnounced)] == ["second"]


def test_a_refused_renewal_keeps_the_port_to_its_end():
    world = World().ready()
    world.fail(Acquire, FailureKind.MISCONFIGURED)
    world.wait(59)
    assert world.phase is Phase.READY
    world.wait(1)
    assert world.phase is Phase.FAILED
    assert len(world.heard(PortLost)) == 1


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.CRASHED])
def test_no_answer_at_all_is_tried_for_ever(kind):
    world = World()
    world.fail(Acquire, kind)
    world.begin().wait(3600)
    assert world.phase is Phase.LEASING
    tries = [order.generation for order in world.ordered(Acquire)]
    assert 80 < len(tries) < 115
    assert [each.remedy for each in world.heard(RemedyTaken)] == [
        Remedy.REMAP,
        Remedy.REKEY,
        Remedy.RESTART,
        Remedy.TELL,
    ]
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 45)


def test_a_provider_that_wants_to_be_asked_again_at_once_is_given_half_a_second():
    world = World()
    world.fail(Acquire, FailureKind.TRANSIENT, 0.0)
    world.begin().wait(10)
    assert 15 <= len(world.ordered(Acquire)) <= 25
