"""The difference between what should be and what was seen: asked for once, put off until its time, never forgotten."""

from __future__ import annotations

import pytest

from tests.unit.engine_world import MOVED, START, World
from vpnpf.core.planner import Planner
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckTunnel,
    PlanTunnel,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    Release,
    SetClient,
    StartTunnel,
)
from vpnpf.model import FailureKind, FirewallStage, ListenSettings


def plan(machine, now):
    planner = Planner(machine, now)
    return planner.plan(), planner.orders


def test_planning_twice_asks_for_nothing_twice():
    world = World().ready().wait(9.9)
    machine, orders = plan(world.machine, START + 15)
    assert {type(order.work) for order in orders} == {CheckTunnel, ReadFirewall, ReadSockets}
    again, more = plan(machine, START + 15)
    assert more == []
    assert again.jobs == machine.jobs


def test_each_order_has_a_generation_of_its_own():
    world = World().ready().wait(600)
    generations = [order.generation for order in world.orders]
    assert generations == sorted(set(generations))


def test_it_wakes_for_whatever_is_due_first():
    world = World().ready()
    world.wait(3)
    machine = world.machine
    dues = {
        "tunnel": machine.health_at + machine.timing.tunnel,
        "client": machine.forwards[0].settings_at + machine.timing.client,
        "sockets": machine.forwards[0].sockets_at + machine.timing.sockets,
        "renewal": machine.forwards[0].renew_at,
    }
    assert machine.wake_at <= min(dues.values())
    seen = []
    for name, due in sorted(dues.items(), key=lambda item: item[1]):
        world.until(lambda due=due: world.now >= due, 31)
        seen.append((name, world.now))
    assert [at for _, at in seen] == sorted(dues.values())


def test_when_it_was_late_everything_overdue_is_asked_for_at_once():
    world = World().ready()
    world.held = {Acquire, CheckTunnel, ReadClient, ReadFirewall, ReadSockets}
    world.now += 31
    world.tick()
    assert {type(order.work) for order in world.pending} == world.held


def test_a_failure_is_waited_for():
    world = World(held={StartTunnel}).begin()
    world.fail(StartTunnel, FailureKind.TRANSIENT, 20.0)
    world.held.clear()
    world.settle()
    assert world.machine.job("tunnel").not_before == START + 20
    assert world.until(lambda: len(world.ordered(StartTunnel)) == 2, 30) == 20


def test_another_rule_set_does_not_wait_for_the_failure_of_the_last():
    """Blocking must not be put off because opening a port failed."""
    world = World().ready()
    world.fail(ApplyFirewall, FailureKind.TRANSIENT, 300.0)
    world.wait(31)
    world.faults.clear()
    world.fail(CheckTunnel, FailureKind.LEASE_LOST)
    world.held = {PlanTunnel}
    world.wait(10)
    assert world.table.stage is FirewallStage.BLOCKED


def test_another_port_does_not_wait_for_a_client_that_refused_the_last():
    world = World()
    world.fail(SetClient, FailureKind.MISCONFIGURED)
    world.begin()
    world.faults.clear()
    world.port = 40001
    world.until(lambda: world.forward.lease.external_port == 40001, 31)
    assert world.settings["torrent"] == ListenSettings(40001, "vpf-home")


def test_a_tunnel_is_planned_only_when_its_next_start_is_due():
    world = World(plan=MOVED)
    world.fail(StartTunnel, FailureKind.TRANSIENT, 20.0)
    world.begin().wait(19)
    assert not world.ordered(PlanTunnel)
    world.wait(2)
    begun = world.names().index("PlanTunnel")
    assert world.names()[begun:] == ["PlanTunnel", "ApplyFirewall", "StartTunnel"]


@pytest.mark.parametrize("work", [ReadFirewall, ReadSockets, ReadClient, CheckTunnel])
def test_work_under_way_is_not_asked_for_again(work):
    world = World().ready()
    begun = len(world.ordered(work))
    world.held = {work}
    world.wait(200)
    assert len(world.ordered(work)) == begun + 1


def test_stopping_displaces_what_is_under_way_and_nothing_else_does():
    world = World().ready()
    world.held = {Acquire, Release}
    world.wait(31)
    renewal = next(order for order in world.pending if isinstance(order.work, Acquire))
    world.stop()
    assert renewal not in world.pending
    assert world.machine.job("lease:torrent").running == "Release"
