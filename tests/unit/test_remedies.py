"""The ladder, the epoch, several servers and the exit address: what is done about what goes on, and what is not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, World
from vpnpf.core.state import initial
from vpnpf.events import (
    Acquire,
    Announced,
    ApplyFirewall,
    CheckExit,
    ExitDiffers,
    GatewayReset,
    Listen,
    PhaseChanged,
    PlanTunnel,
    PortLost,
    Rekey,
    RemedyTaken,
    SaveLeases,
    StartTunnel,
)
from vpnpf.model import (
    EpochRule,
    FailureKind,
    FirewallStage,
    ForwardSpec,
    Phase,
    Remedy,
)

HERE, THERE = replace(PLAN, identity="here"), replace(PLAN, identity="there", server=1)


def remedies(world):
    return [each.remedy for each in world.heard(RemedyTaken)]


def two_servers(**fields):
    return World(initial(SPEC, HERE, START, servers=2), plans=(HERE, THERE), plan=HERE, **fields)


def two_forwards(**fields):
    second = ForwardSpec("second", slot=1)
    return World(initial(replace(SPEC, forwards=(FORWARD, second)), PLAN, START), lifetime=7200.0, **fields)


def refuse_only(world, name):
    """Let the provider have nothing for one forward."""
    success = world.success

    def picky(order):
        if isinstance(order.work, Acquire) and order.work.forward == name:
            return world.failure(order, FailureKind.TRANSIENT)
        return success(order)

    world.success = picky


# -- the rungs ----------------------------------------------------------------------------------


def test_a_passing_failure_climbs_no_rung():
    world = World()
    world.fail(Acquire)
    world.begin().wait(2.5)
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 10)
    assert remedies(world) == []


def test_while_the_lease_is_held_the_tunnel_is_never_taken_down():
    world = World(lifetime=7200.0).ready()
    world.fail(Acquire)
    world.wait(7000)
    assert remedies(world) == [Remedy.REKEY]
    assert len(world.ordered(StartTunnel)) == 1
    assert world.phase is Phase.READY


def test_a_working_forward_is_not_sacrificed_for_another():
    world = two_forwards()
    refuse_only(world, "second")
    world.begin().wait(3000)
    assert remedies(world) == [Remedy.REMAP, Remedy.REKEY, Remedy.TELL]
    assert len(world.ordered(StartTunnel)) == 1
    assert world.forward.announced is not None


def test_remapping_asks_for_the_port_and_forgets_the_token():
    world = World().ready()
    world.machine = replace(
        world.machine,
        forwards=tuple(replace(f, wish=replace(f.wish, token="old"), lease=None) for f in world.machine.forwards),
    )
    world.fail(Acquire)
    world.wait(12)
    assert Remedy.REMAP in remedies(world)
    wish = world.ordered(Acquire)[-1].work.request.previous
    assert (wish.external_port, wish.token) == (40000, "")


def test_a_token_that_brings_the_port_again_is_never_forgotten():
    world = World().ready()
    world.machine = replace(
        world.machine,
        remaps=False,
        forwards=tuple(replace(f, wish=replace(f.wish, token="old"), lease=None) for f in world.machine.forwards),
    )
    world.fail(Acquire)
    world.wait(3600)
    assert remedies(world) == [Remedy.REKEY, Remedy.RESTART, Remedy.TELL]
    wish = world.ordered(Acquire)[-1].work.request.previous
    assert (wish.external_port, wish.token) == (40000, "old")


def test_the_ladder_may_be_climbed_again_after_an_hour():
    world = World()
    world.fail(Acquire)
    world.begin().wait(2 * 3600)
    assert remedies(world).count(Remedy.RESTART) == 2
    assert remedies(world).count(Remedy.TELL) == 2


def test_each_rung_stands_in_the_timeline_with_its_cause():
    world = World()
    world.fail(Acquire)
    world.begin().wait(600)
    told = [entry for entry in world.machine.timeline if entry.kind == "remedy"]
    assert len(told) == 4
    assert all("doing Acquire" in entry.cause for entry in told)


@pytest.mark.parametrize("kind", [FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED])
def test_what_cannot_pass_by_itself_climbs_nowhere_with_one_server(kind):
    world = World()
    world.fail(Acquire, kind)
    world.begin().wait(3600)
    assert remedies(world) == [Remedy.TELL]
    assert len(world.ordered(Acquire)) == 1, "a refused login is not tried again"
    assert world.phase is Phase.FAILED


def test_who_asks_for_patience_again_gets_more_of_it():
    world = World()
    world.fail(Acquire, FailureKind.TRANSIENT, 60.0)
    world.begin().wait(3600)
    assert len(world.ordered(Acquire)) <= 8


# -- the tunnel in place ------------------------------------------------------------------------


def test_a_silent_server_is_rekeyed_in_place_and_nothing_else_happens():
    world = World(lifetime=7200.0).ready()
    world.silent_for = 20.0
    world.until(lambda: world.ordered(Rekey), 30)
    assert world.phase is Phase.READY
    assert len(world.ordered(StartTunnel)) == 1


def test_what_cannot_be_rekeyed_is_blocked_and_started_anew():
    world = World(lifetime=7200.0).ready()
    world.handshake_age = 200.0
    world.held = {StartTunnel}
    world.until(lambda: world.phase is Phase.BLOCKED, 30)
    assert world.ordered(ApplyFirewall)[-1].work.policy.stage is FirewallStage.BLOCKED
    assert remedies(world) == [Remedy.REKEY, Remedy.RESTART]


def test_a_kind_of_tunnel_that_never_can_is_left_alone_while_it_lives():
    world = World(lifetime=7200.0).ready()
    world.fail(Rekey, FailureKind.UNSUPPORTED)
    world.fail(Acquire)
    world.wait(7000)
    assert len(world.ordered(StartTunnel)) == 1
    assert world.phase is Phase.READY


# -- several servers ----------------------------------------------------------------------------


def test_a_server_that_does_not_come_up_makes_room_for_the_next():
    world = two_servers()
    world.fail(StartTunnel)
    world.begin().wait(10)
    assert Remedy.NEXT_SERVER in remedies(world)
    assert {order.work.server for order in world.ordered(PlanTunnel)} == {0, 1}
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 70)


def test_a_server_without_port_forwarding_makes_room_for_the_next_once():
    world = two_servers()
    world.fail(Acquire, FailureKind.MISCONFIGURED)
    world.begin().wait(600)
    assert remedies(world) == [Remedy.NEXT_SERVER, Remedy.TELL]
    assert world.machine.plan.server == 1


def test_another_server_is_asked_for_the_same_port_and_what_was_held_is_over():
    world = two_servers(lifetime=7200.0).ready()
    world.machine = replace(world.machine, server=1)
    world.handshake_age = 200.0
    world.until(lambda: world.ordered(StartTunnel)[-1].work.plan.server == 1, 60)
    assert world.heard(PortLost)[-1].cause == "it belongs to another server"
    request = [order.work.request for order in world.ordered(Acquire)][-1]
    assert not request.renewal
    assert request.previous.external_port == 40000
    assert world.ordered(SaveLeases)[-1].work.identity == "there"


# -- the epoch ----------------------------------------------------------------------------------


def test_a_gateway_that_lost_its_state_is_asked_for_everything_at_once():
    world = two_forwards(epoch=5000)
    world.begin()
    assert world.phase is Phase.READY
    before = len(world.ordered(Acquire))
    world.wait(100)
    world.take(announced(world, 3))
    world.settle()
    assert {order.work.forward for order in world.ordered(Acquire)[before:]} == {"torrent", "second"}
    assert len(world.heard(GatewayReset)) >= 1


def announced(world, epoch, rule=EpochRule.NATPMP):
    """An announcement, whether anybody listens or not."""
    order = world.waiting(Listen) if world.machine.announces else None
    if order is None:
        world.machine = replace(world.machine, announces=True)
        world.tick_held = world.held
        world.held = world.held | {Listen}
        world.tick()
        order = world.waiting(Listen)
    world.pending.remove(order)
    return Announced(order.generation, epoch, world.now, rule)


def test_an_announcement_without_a_loss_changes_nothing():
    world = two_forwards(epoch=5000)
    world.begin()
    before = len(world.ordered(Acquire))
    world.now += 100
    world.take(announced(world, 5100))
    world.settle()
    assert len(world.ordered(Acquire)) == before
    assert not world.heard(GatewayReset)


def test_a_flood_of_resets_is_answered_once_in_five_seconds():
    world = two_forwards(epoch=5000, held={Listen})
    world.begin()
    world.now += 100
    before = len(world.ordered(Acquire))
    for number in range(40):
        world.take(announced(world, 5000 if number % 2 else 3))
        world.settle()
        world.now += 0.25
        world.tick()
    asked = len(world.ordered(Acquire)) - before
    assert asked <= 2 * (40 * 0.25 / 5 + 1)
    assert asked >= 2


def test_nobody_who_cannot_be_heard_is_missed():
    world = World(initial(SPEC, PLAN, START, announces=True))
    world.fail(Listen)
    world.ready()
    assert not world.problems
    assert len(world.ordered(Listen)) == 1
    world.wait(130)
    assert len(world.ordered(Listen)) == 3


# -- the exit address ---------------------------------------------------------------------------


def checked(**fields):
    servers = len(fields.get("plans", (1,)))
    plan = fields.get("plan", PLAN)
    return World(initial(SPEC, plan, START, servers=servers, exit_check=True), lifetime=7200.0, **fields)


def test_the_same_address_is_no_news():
    world = checked().ready()
    assert world.ordered(CheckExit)
    assert not world.heard(ExitDiffers)


def test_another_address_is_said_once_and_shown_as_long_as_it_lasts():
    world = checked(exit_seen="198.51.100.99").ready().wait(4000)
    assert len(world.heard(ExitDiffers)) == 1
    assert world.machine.exit_differs == "198.51.100.7"
    assert remedies(world) == []
    assert world.phase is Phase.READY


def test_another_address_is_a_reason_to_move_on_once():
    world = checked(exit_seen="198.51.100.99", plans=(HERE, THERE), plan=HERE).ready().wait(3000)
    assert remedies(world) == [Remedy.NEXT_SERVER]
    assert Phase.BLOCKED in [notice.after for notice in world.heard(PhaseChanged)]


def test_somebody_who_came_in_is_a_better_proof():
    world = checked(plans=(HERE, THERE), plan=HERE).ready()
    world.packets["torrent"] = 3
    world.wait(30)
    assert world.forward.proofs.reachable.ok
    world.exit_seen = "198.51.100.99"
    world.wait(4000)
    assert world.heard(ExitDiffers)
    assert remedies(world) == []
