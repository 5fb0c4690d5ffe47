"""The engine with a tunnel whose configuration the provider makes: new addresses in place, a key that was forgotten, a login
that is refused."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import PLAN, SPEC, START, TUNNEL, World
from tests.unit.test_remedies import remedies, two_servers
from vpnpf.core.machine import step
from vpnpf.core.state import initial
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckTunnel,
    FitMtu,
    Listen,
    MtuFitted,
    PlanTunnel,
    PortLost,
    Rekey,
    SetClient,
    StartTunnel,
    StopTunnel,
    TunnelSeen,
    TunnelStirred,
    WatchFirewall,
    WatchTunnel,
)
from vpnpf.model import FailureKind, FirewallStage, Phase, Remedy, Stirring

OTHER = replace(PLAN, addresses=("10.2.0.77/32",), dns=("10.2.0.1",))
MOVED = replace(TUNNEL, plan=OTHER)


class Forgetful(World):
    """It can be rekeyed however old the handshake is."""

    def success(self, order):
        if isinstance(order.work, Rekey):
            self.handshake_age = 0.0
        return super().success(order)


def forgetful(tunnel):
    """The server has forgotten the key; `tunnel` is what it is when it was told anew, None: it had not."""
    made = Forgetful(initial(SPEC, PLAN, START, watched=True, announces=True), lifetime=7200.0, told_anew=tunnel)
    made.held = {WatchTunnel, WatchFirewall, Listen, FitMtu}
    return made.ready()


def forgotten(world):
    """It is noticed, and the tunnel is told anew; returns the orders from then on."""
    before = len(world.orders)
    order = world.waiting(WatchTunnel)
    world.pending.remove(order)
    world.take(TunnelStirred(order.generation, Stirring("the server has not answered for 3 s", 3.0)))
    return before


def test_with_other_addresses_the_rules_come_first_and_all_that_is_held_is_asked_for():
    world = forgetful(MOVED)
    before = forgotten(world)
    world.settle()
    work = [order.work for order in world.orders[before:]]
    assert isinstance(work[0], Rekey)
    names = [type(each).__name__ for each in work]
    rules = names.index("ApplyFirewall")
    assert work[rules].policy.stage is FirewallStage.CONNECTED
    assert work[rules].policy.plan == OTHER
    for kind in (Acquire, SetClient):
        assert names.index(kind.__name__) > rules
    (asked,) = (each for each in work if isinstance(each, Acquire))
    assert asked.tunnel == MOVED
    assert asked.request.renewal
    assert asked.request.previous.external_port == 40000
    assert world.machine.tunnel == MOVED
    assert world.machine.plan == OTHER
    assert world.machine.silent_since is None
    world.until(lambda: world.phase is Phase.READY, 5)
    assert not world.heard(PortLost), "the port is the same"
    assert len(world.ordered(StartTunnel)) == 1
    assert not world.ordered(StopTunnel)


def test_what_goes_on_through_the_old_addresses_is_begun_anew():
    world = forgetful(MOVED)
    listening = world.waiting(Listen)
    world.held.add(Acquire)
    forgotten(world)
    world.settle()
    assert world.waiting(Listen) is not listening
    assert world.waiting(Listen).work.tunnel == MOVED
    assert world.waiting(WatchTunnel).work.tunnel == MOVED
    # An answer that was on its way through the old ones is nobody's any more.
    machine, _, _ = step(world.machine, world.failure(listening, FailureKind.TRANSIENT), world.now)
    assert machine.job("announcements").running == "Listen"


def test_the_device_keeps_the_mtu_that_was_found():
    world = forgetful(MOVED)
    order = world.waiting(FitMtu)
    world.pending.remove(order)
    world.take(MtuFitted(order.generation, 1380))
    fitted = len(world.ordered(FitMtu))
    forgotten(world)
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 5)
    assert len(world.ordered(FitMtu)) == fitted


def test_with_the_same_addresses_only_what_is_held_is_asked_for():
    world = forgetful(TUNNEL)
    before = forgotten(world)
    world.settle()
    names = {type(order.work).__name__ for order in world.orders[before:]}
    assert {"Rekey", "Acquire"} <= names
    assert not names & {"SetClient", "StartTunnel"}
    assert world.phase is Phase.READY


def test_a_key_that_was_forgotten_while_nothing_was_sent_is_noticed_by_the_handshake():
    world = forgetful(TUNNEL)
    acquired = len(world.ordered(Acquire))
    world.handshake_age = 181.0
    took = world.until(lambda: bool(world.ordered(Rekey)), 60)
    assert took <= world.machine.timing.tunnel, "at the next look"
    assert len(world.ordered(Acquire)) == acquired + 1, "the server lost the port with the key"
    assert world.phase is Phase.READY


def test_the_control_a_handshake_anew_with_a_key_that_is_known_asks_for_nothing():
    world = forgetful(None)
    acquired = len(world.ordered(Acquire))
    world.handshake_age = 181.0
    world.until(lambda: bool(world.ordered(Rekey)), 60)
    assert len(world.ordered(Acquire)) == acquired


# -- a login that is refused ---------------------------------------------------------------------


class Refused(World):
    """Every start fails with what the account says."""

    anywhere = True

    def failure(self, order, kind, retry_after=None):
        return replace(super().failure(order, kind, retry_after), anywhere=self.anywhere)


def refused(work, kind=FailureKind.MISCONFIGURED, *, anywhere=True):
    world = two_servers()
    made = Refused(world.machine, plans=world.plans, plan=world.plan)
    made.anywhere = anywhere
    made.fail(work, kind, 60.0 if anywhere else None)
    made.begin()
    return made


@pytest.mark.parametrize("work", [StartTunnel, PlanTunnel])
def test_what_the_account_refuses_is_tried_at_no_other_server(work):
    world = refused(StartTunnel)
    if work is PlanTunnel:
        world.fail(PlanTunnel, FailureKind.MISCONFIGURED, 60.0)
    world.wait(3600)
    assert world.phase is Phase.FAILED
    assert remedies(world) == [Remedy.TELL]
    assert {order.work.plan.server for order in world.ordered(StartTunnel)} == {0}
    assert 50 <= len(world.ordered(work)) <= 62, "it is looked at again each minute"
    assert world.table.stage is FirewallStage.CONNECTING


def test_once_the_account_lets_in_it_goes_on_by_itself():
    world = refused(StartTunnel)
    world.wait(600)
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 61)
    assert world.machine.server == 0


def test_a_port_that_the_account_refuses_costs_no_tunnel_and_comes_by_itself():
    world = two_servers()
    made = Refused(world.machine, plans=world.plans, plan=world.plan)
    made.fail(Acquire, FailureKind.MISCONFIGURED, 60.0)
    made.begin().wait(1800)
    assert remedies(made) == [Remedy.TELL]
    assert len(made.ordered(StartTunnel)) == 1
    assert 25 <= len(made.ordered(Acquire)) <= 32
    made.faults.clear()
    made.until(lambda: made.phase is Phase.READY, 61)


@pytest.mark.parametrize("work", [StartTunnel, Acquire])
def test_a_locked_account_is_looked_at_as_often_as_it_says(work):
    """It keeps itself how long it is locked, and a look sends nothing: somebody may have logged in."""
    world = two_servers()
    made = Refused(world.machine, plans=world.plans, plan=world.plan)
    made.fail(work, FailureKind.TRANSIENT, 300.0)
    made.begin().wait(3 * 3600)
    assert 34 <= len(made.ordered(work)) <= 37
    assert Remedy.NEXT_SERVER not in remedies(made)
    assert len(made.ordered(StartTunnel)) == (1 if work is Acquire else len(made.ordered(work)))
    made.faults.clear()
    made.until(lambda: made.phase is Phase.READY, 301)


def test_what_one_server_refuses_is_tried_once_at_each_other():
    world = refused(StartTunnel, anywhere=False)
    world.wait(3600)
    assert [order.work.plan.server for order in world.ordered(StartTunnel)] == [0, 1]
    assert remedies(world) == [Remedy.NEXT_SERVER, Remedy.TELL]
    assert world.phase is Phase.FAILED


def test_a_look_and_a_stir_see_the_tunnel_as_it_is_now():
    world = forgetful(MOVED)
    forgotten(world)
    world.settle()
    world.until(lambda: world.phase is Phase.READY, 5)
    world.wait(20)
    assert world.ordered(CheckTunnel)[-1].work.tunnel == MOVED
    assert isinstance(world.success(world.ordered(CheckTunnel)[-1]), TunnelSeen)
    assert world.ordered(ApplyFirewall)[-1].work.policy.plan == OTHER
