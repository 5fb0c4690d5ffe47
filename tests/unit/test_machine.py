"""The course of a profile, from the first step to the last: what comes after what, and what is never skipped."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, World
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckTunnel,
    FirewallApplied,
    PhaseChanged,
    PortAnnounced,
    PortGranted,
    PortLost,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    Release,
    RemoveFirewall,
    SaveLeases,
    SetClient,
    StartTunnel,
    StopRequested,
    StopTunnel,
    TunnelCameUp,
)
from vpnpf.model import (
    FailureKind,
    FirewallStage,
    ForwardSpec,
    Lease,
    LockMode,
    Phase,
    PolicyMode,
    PortPolicy,
    Protocol,
)

# -- the way to READY ---------------------------------------------------------------------------


def test_the_rules_come_before_everything_else():
    world = World(held={ApplyFirewall})
    world.begin()
    world.wait(60)
    assert world.names() == ["ApplyFirewall"]
    assert world.orders[0].work.policy.stage is FirewallStage.CONNECTING
    assert world.phase is Phase.STARTING


def test_the_tunnel_is_started_once_the_rules_stand():
    world = World(held={StartTunnel}).begin()
    assert world.names() == ["ApplyFirewall", "StartTunnel"]
    assert world.phase is Phase.CONNECTING


def test_without_rules_there_is_no_tunnel():
    world = World()
    world.fail(ApplyFirewall)
    world.begin().wait(600)
    assert set(world.names()) == {"ApplyFirewall"}


def test_each_link_waits_for_the_one_before():
    world = World().begin()
    assert world.phase is Phase.READY
    assert world.names() == [
        "ApplyFirewall",
        "StartTunnel",
        "ApplyFirewall",
        "ReadClient",
        "Acquire",
        "ApplyFirewall",
        "SaveLeases",
        "SetClient",
        "ReadSockets",
    ]
    stages = [order.work.policy.stage for order in world.ordered(ApplyFirewall)]
    assert stages == [FirewallStage.CONNECTING, FirewallStage.CONNECTED, FirewallStage.CONNECTED]
    assert world.open_ports() == {40000}


def test_the_phases_are_told_in_their_order():
    world = World().ready()
    assert [notice.after for notice in world.heard(PhaseChanged)] == [Phase.CONNECTING, Phase.LEASING, Phase.READY]


@pytest.mark.parametrize("link", [Acquire, SetClient, ReadSockets])
def test_it_is_not_ready_while_a_link_is_missing(link):
    world = World(held={link}).begin().wait(20)
    assert world.phase is Phase.LEASING
    assert not world.heard(PortAnnounced)
    world.held.clear()
    world.settle()
    assert world.phase is Phase.READY


def test_it_is_not_ready_before_the_kernel_has_the_port():
    world = World(held={Acquire}).begin()
    world.held = {ApplyFirewall}
    world.settle()
    assert world.forward.lease is not None
    assert world.phase is Phase.LEASING
    assert not world.ordered(SetClient)


def test_it_is_announced_once_and_only_when_all_follows():
    world = World(listening=False).begin().wait(4)
    assert world.forward.lease is not None
    assert not world.heard(PortAnnounced)
    world.listening = True
    world.wait(10)
    assert [(each.forward, each.lease.external_port, each.listen_port) for each in world.heard(PortAnnounced)] == [
        ("torrent", 40000, 40000)
    ]
    world.wait(600)
    assert len(world.heard(PortAnnounced)) == 1


def test_new_sockets_are_looked_for_soon_and_then_ever_later():
    world = World(listening=False).begin()
    world.wait(1)
    first = len(world.ordered(ReadSockets))
    world.wait(3)
    assert first > 5
    assert len(world.ordered(ReadSockets)) - first < first


def test_the_port_held_last_is_asked_for_again():
    wish = Lease(41234, 41234, tuple(Protocol), 0.0, 0.0, token="t")
    world = World(initial(SPEC, PLAN, START, {PLAN.identity: {"torrent": wish}})).begin()
    request = world.ordered(Acquire)[0].work.request
    assert request.previous == wish
    assert not request.renewal


def test_what_is_held_is_saved_once():
    world = World().ready().wait(3600)
    assert len(world.ordered(SaveLeases)) == 1
    assert [(name, lease.external_port) for name, lease in world.machine.saved] == [("torrent", 40000)]


def test_a_disk_that_says_no_does_not_keep_it_from_ready():
    world = World()
    world.fail(SaveLeases)
    world.ready()
    assert world.problems == ["store: transient it was transient"]


def test_a_profile_without_forwards_is_ready_with_its_tunnel():
    world = World(initial(replace(SPEC, forwards=()), PLAN, START)).begin()
    assert world.phase is Phase.READY
    world.wait(60)
    assert {type(order.work) for order in world.orders} == {ApplyFirewall, StartTunnel, CheckTunnel, ReadFirewall}


def test_a_forward_without_a_client_is_announced_once_its_port_is_open():
    game = ForwardSpec("game", protocols=(Protocol.TCP,), internal_port=25565)
    world = World(initial(replace(SPEC, forwards=(game,)), PLAN, START)).ready()
    assert not world.ordered(SetClient, ReadClient)
    rule = world.table.forwards[0]
    assert (rule.arrives, rule.listen) == (40000, 25565)
    assert world.ordered(ReadSockets)[0].work.port == 25565
    assert world.heard(PortAnnounced)[0].listen_port == 25565


def test_a_client_on_another_machine_needs_no_sockets_here():
    world = World(initial(replace(SPEC, forwards=(replace(FORWARD, client_local=False),)), PLAN, START)).ready()
    assert not world.ordered(ReadSockets)
    assert world.forward.proofs.listening.ok is None


def test_every_forward_has_to_follow():
    second = ForwardSpec("second", slot=1, client="qbittorrent")
    world = World(initial(replace(SPEC, forwards=(FORWARD, second)), PLAN, START), held={SetClient}).begin()
    first = next(order for order in world.pending if order.work.key == "client:torrent")
    world.answer(first)
    world.wait(5)
    assert world.phase is Phase.LEASING
    assert [each.forward for each in world.heard(PortAnnounced)] == ["torrent"]
    world.held.clear()
    world.settle()
    assert world.phase is Phase.READY
    assert world.open_ports() == {40000, 40001}


def test_block_all_is_ready_and_says_that_the_port_is_shut():
    world = World(initial(replace(SPEC, policy=PortPolicy(PolicyMode.BLOCK_ALL)), PLAN, START)).ready()
    proof = world.forward.proofs.firewall
    assert proof.ok is False
    assert "block-all" in proof.evidence
    world.wait(600)
    assert world.phase is Phase.READY


def test_people_see_what_the_engine_holds():
    world = World().ready()
    state = view(world.machine)
    assert (state.phase, state.firewall, state.problems) == (Phase.READY, FirewallStage.CONNECTED, ())
    forward = state.forwards[0]
    assert forward.announced
    assert forward.listen_port == forward.lease.external_port == 40000
    assert forward.renew_at == world.now + 30


# -- stopping -----------------------------------------------------------------------------------


def test_stopping_gives_back_takes_down_and_lets_go_in_this_order():
    world = World().ready()
    begun = len(world.orders)
    world.stop()
    assert world.names()[begun:] == ["Release", "StopTunnel", "RemoveFirewall"]
    assert world.phase is Phase.STOPPED
    assert world.phases[-2:] == [Phase.STOPPING, Phase.STOPPED]


def test_once_stopped_nothing_is_shown_as_held():
    world = World().ready()
    world.stop()
    state = view(world.machine)
    forward = state.forwards[0]
    assert (state.tunnel, state.health, state.firewall) == (None, None, None)
    assert (forward.lease, forward.listen_port, forward.announced) == (None, None, False)
    assert not any((forward.proofs.tunnel.ok, forward.proofs.lease.ok, forward.proofs.listening.ok))
    assert not world.heard(PortLost)


def test_a_tunnel_that_could_not_be_taken_down_is_still_shown():
    world = World().ready()
    world.fail(StopTunnel)
    world.stop()
    world.until(lambda: world.phase is Phase.STOPPED, 30)
    assert view(world.machine).tunnel is not None


def test_the_rules_stand_until_the_tunnel_is_down():
    world = World().ready()
    world.held = {StopTunnel}
    world.stop()
    world.wait(30)
    assert not world.ordered(RemoveFirewall)
    assert world.table.stage is FirewallStage.CONNECTED


def test_the_tunnel_stands_until_every_lease_is_given_back():
    second = ForwardSpec("second", slot=1)
    world = World(initial(replace(SPEC, forwards=(FORWARD, second)), PLAN, START)).ready()
    world.held = {Release}
    world.stop()
    assert len(world.pending) == 2
    world.answer(world.pending[0])
    assert not world.ordered(StopTunnel)
    world.answer(world.pending[0])
    assert len(world.ordered(StopTunnel)) == 1


def test_a_lease_that_cannot_be_given_back_is_let_go():
    world = World().ready()
    world.fail(Release, FailureKind.CRASHED)
    world.stop()
    assert world.phase is Phase.STOPPED
    assert len(world.ordered(Release)) == 1


def test_forced_it_gives_nothing_back():
    world = World().ready()
    world.stop(force=True)
    assert world.phase is Phase.STOPPED
    assert not world.ordered(Release)


def test_a_second_signal_does_not_wait_for_the_provider():
    world = World().ready()
    world.held = {Release}
    world.stop()
    assert not world.ordered(StopTunnel)
    world.stop(force=True)
    assert world.phase is Phase.STOPPED


def test_stopping_ends_what_is_under_way():
    world = World(held={StartTunnel}).begin()
    late = world.pending[0]
    world.stop()
    assert world.phase is Phase.STOPPED
    world.take(world.success(late))
    assert world.machine.tunnel is None
    assert world.phase is Phase.STOPPED


def test_stopping_before_anything_happened_still_cleans_up():
    world = World(held={ApplyFirewall}).begin()
    world.stop()
    assert world.names() == ["ApplyFirewall", "StopTunnel", "RemoveFirewall"]
    assert world.phase is Phase.STOPPED


@pytest.mark.parametrize("work", [StopTunnel, RemoveFirewall])
def test_what_cannot_be_undone_is_tried_three_times_and_said(work):
    world = World().ready()
    world.fail(work, FailureKind.UNSUPPORTED, 60.0)
    world.stop()
    took = world.until(lambda: world.phase is Phase.STOPPED, 30)
    assert len(world.ordered(work)) == 3
    assert took < 5
    assert world.problems
    assert "it was unsupported" in world.heard(PhaseChanged)[-1].cause


def test_forced_it_tries_only_once():
    world = World().ready()
    world.fail(StopTunnel)
    world.stop(force=True)
    assert world.phase is Phase.STOPPED
    assert len(world.ordered(StopTunnel)) == 1


def test_nothing_is_announced_while_stopping():
    world = World(held={ReadSockets}).begin()
    seen = world.success(world.pending[0])
    world.held.add(Release)
    world.stop()
    world.take(seen)
    assert not world.heard(PortAnnounced)


def test_stopped_is_the_end():
    world = World().ready()
    world.stop()
    count = len(world.orders)
    world.take(StopRequested())
    world.wait(600)
    assert len(world.orders) == count
    assert world.machine.wake_at is None


# -- stale answers ------------------------------------------------------------------------------


def test_an_answer_of_an_older_generation_changes_nothing():
    world = World().ready()
    stale = FirewallApplied(1, replace(world.table, stage=FirewallStage.BLOCKED), world.machine.reading)
    before = world.machine
    assert world.take(stale) == ()
    assert world.machine == before


def test_an_answer_is_taken_once():
    world = World(held={StartTunnel}).begin()
    order = world.pending[0]
    answer = world.success(order)
    assert isinstance(answer, TunnelCameUp)
    world.take(answer)
    world.take(answer)
    assert world.machine.tunnel_number == 1


def test_a_lease_granted_through_a_tunnel_that_is_lost_is_not_taken():
    world = World().ready()
    world.held = {Acquire}
    world.until(lambda: bool(world.pending), 60)
    late = world.success(world.pending[0])
    world.handshake_age = 500.0
    world.held.add(StartTunnel)
    world.until(lambda: world.machine.tunnel is None, 60)
    world.take(late)
    assert len(world.heard(PortGranted)) == 1
    assert world.forward.lease.granted_at == START


# -- a plan that is complete only when the tunnel is up ---------------------------------------------


class Giving(World):
    """A server that gives the addresses."""

    given = ("10.2.0.2/32",)

    def success(self, order):
        answer = super().success(order)
        if isinstance(answer, TunnelCameUp):
            plan = replace(answer.tunnel.plan, addresses=self.given)
            return replace(answer, tunnel=replace(answer.tunnel, plan=plan))
        return answer


def test_the_rule_set_of_a_tunnel_that_is_up_has_the_addresses_that_the_server_gave():
    bare = replace(PLAN, addresses=())
    world = Giving(initial(SPEC, bare, START), plan=bare).begin()
    applied = [order.work.policy for order in world.ordered(ApplyFirewall)]
    assert (applied[0].stage, applied[0].plan.addresses) == (FirewallStage.CONNECTING, ())
    world.ready()
    assert (world.table.stage, world.table.plan.addresses) == (FirewallStage.CONNECTED, Giving.given)
    # It is lost and comes back with another.
    world.given = (*Giving.given, "fd00::7/128")
    world.handshake_age = 500.0
    world.until(lambda: world.machine.tunnel_number == 2, 300)
    world.handshake_age = 5.0
    world.until(lambda: world.phase is Phase.READY, 60)
    assert (world.table.stage, world.table.plan.addresses) == (FirewallStage.CONNECTED, world.given)


# -- what stays closed after it -----------------------------------------------------------------


@pytest.mark.parametrize("tunnel", ["goes", "hangs"])
@pytest.mark.parametrize(
    ("lock", "closed", "stage"),
    [
        (LockMode.ON, True, FirewallStage.BLOCKED),
        (LockMode.LOCKDOWN, True, FirewallStage.LOCKED),
        (LockMode.LOCKDOWN, False, FirewallStage.LOCKED),
        (LockMode.ON, False, None),
        (LockMode.OFF, True, None),
    ],
)
def test_the_lock_outlives_a_stop_for_an_engine_that_follows(lock, closed, stage, tunnel):
    world = World(initial(replace(SPEC, lock=lock), PLAN, START)).ready()
    if tunnel == "hangs":
        world.fail(StopTunnel)
    world.take(StopRequested(closed=closed))
    world.settle()
    world.wait(60)
    assert world.phase is Phase.STOPPED
    assert view(world.machine).firewall is stage
    removed = [order for order in world.orders if isinstance(order.work, RemoveFirewall)]
    assert bool(removed) is (stage is None)


def test_a_stop_that_nothing_follows_opens_what_one_before_would_have_left():
    world = World(held={StopTunnel}).ready()
    world.take(StopRequested(closed=True))
    world.settle()
    world.take(StopRequested())
    world.held.clear()
    world.settle()
    assert (world.phase, view(world.machine).firewall) == (Phase.STOPPED, None)
