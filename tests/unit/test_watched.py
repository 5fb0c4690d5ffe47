"""A watched engine: told when the tunnel or the rule set wants to be looked at before its time; and the lock's modes."""

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import MOVED, PLAN, SPEC, START, World
from vpnpf.core.failing import LEAVE, STAY
from vpnpf.core.state import initial
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckTunnel,
    FirewallStirred,
    FitMtu,
    MtuFitted,
    MtuLowered,
    PolicyChanged,
    PolicyWanted,
    ReadFirewall,
    Rekey,
    RemedyTaken,
    RemoveFirewall,
    StartTunnel,
    TunnelRekeyed,
    TunnelStirred,
    WatchFirewall,
    WatchTunnel,
    WorkFailed,
)
from vpnpf.model import (
    FailureKind,
    FirewallStage,
    LockMode,
    Phase,
    PolicyMode,
    PortPolicy,
    Remedy,
    Stirring,
    TunnelHealth,
)

WAITS = {WatchTunnel, WatchFirewall, FitMtu}


def world(**settings):
    spec = replace(SPEC, lock=settings.pop("lock", LockMode.ON))
    made = World(initial(spec, PLAN, START, watched=True, **settings))
    made.held |= WAITS
    return made


def tell(world, answer, kind):
    """Let the watch that waits say something."""
    order = world.waiting(kind)
    world.pending.remove(order)
    orders = world.take(answer(order.generation))
    return [type(each.work) for each in orders]


def silence(world, seconds=4.0):
    stirring = Stirring(f"the server has not answered for {seconds:.0f} s", seconds)
    return tell(world, lambda number: TunnelStirred(number, stirring), WatchTunnel)


def no_answer(world, *, offline=False):
    order = world.waiting(Rekey)
    world.pending.remove(order)
    kind = FailureKind.TRANSIENT
    world.take(WorkFailed(order.generation, "tunnel", kind, "shaking hands", "why", silent=True, offline=offline))


# -- the rule set -----------------------------------------------------------------------------------


def test_a_change_by_somebody_else_is_read_at_once_and_put_right():
    made = world().ready()
    made.flushed = True
    assert tell(made, FirewallStirred, WatchFirewall)[0] is ReadFirewall or WatchFirewall
    made.settle()
    assert not made.flushed
    assert made.phase is Phase.READY
    assert made.now < START + 5


def test_a_change_while_it_is_being_read_is_read_again():
    made = world().ready()
    made.held.add(ReadFirewall)
    made.wait(11)
    reading = made.waiting(ReadFirewall)
    tell(made, FirewallStirred, WatchFirewall)
    made.pending.remove(reading)
    before = len(made.ordered(ReadFirewall))
    made.take(made.success(reading))
    assert len(made.ordered(ReadFirewall)) == before + 1


def test_what_is_told_all_the_time_makes_no_busy_loop():
    made = world().ready()
    for _ in range(20):
        if any(isinstance(order.work, WatchTunnel) for order in made.pending):
            tell(made, lambda number: TunnelStirred(number, Stirring("its device changed")), WatchTunnel)
            made.settle()
        made.wait(0.1)
    assert len(made.ordered(WatchTunnel)) <= 4


# -- the tunnel -------------------------------------------------------------------------------------


def test_a_device_that_goes_is_looked_at_at_once():
    made = world().ready()
    orders = tell(made, lambda number: TunnelStirred(number, Stirring("its device is gone")), WatchTunnel)
    assert CheckTunnel in orders


def test_a_server_without_answers_is_asked_for_a_handshake_in_place():
    made = world().ready()
    assert Rekey in silence(made)
    assert made.heard(RemedyTaken)[-1].remedy is Remedy.REKEY
    made.settle()
    assert made.phase is Phase.READY
    assert made.machine.silent_since is None


def test_after_a_silence_everything_that_is_held_is_asked_for_again():
    made = world().ready()
    due = made.forward.renew_at
    silence(made)
    order = made.waiting(Rekey)
    made.pending.remove(order)
    made.take(TunnelRekeyed(order.generation, TunnelHealth(0.0)))
    assert made.forward.renew_at == made.now < due


def test_the_only_server_is_asked_in_place_for_a_long_time_and_that_is_seen():
    made = world().ready()
    made.held.add(Rekey)
    silence(made)
    no_answer(made)
    assert made.phase is Phase.LEASING
    assert made.forward.proofs.tunnel.ok is False
    assert "no answer" in made.forward.proofs.tunnel.evidence
    ups = len(made.ordered(StartTunnel))
    while made.now < START + STAY - 20:
        made.wait(6)
        no_answer(made)
    assert len(made.ordered(StartTunnel)) == ups
    made.wait(1)
    made.held.discard(Rekey)
    made.settle()
    made.wait(2)
    assert made.phase is Phase.READY


def test_with_another_server_it_is_left_soon():
    made = world(servers=2)
    made.plans = (PLAN, replace(MOVED, server=1, identity="other"))
    made.ready()
    made.held.add(Rekey)
    silence(made, 4.0)
    begun = made.now
    while not any(taken.remedy is Remedy.NEXT_SERVER for taken in made.machine.taken):
        no_answer(made)
        made.wait(3)
        assert made.now - begun < 2 * LEAVE
    made.until(lambda: made.phase is Phase.READY, 5)
    assert made.machine.server == 1


def test_without_a_way_out_no_server_is_blamed():
    made = world(servers=2)
    made.plans = (PLAN, replace(MOVED, server=1, identity="other"))
    made.ready()
    made.held.add(Rekey)
    silence(made)
    for _ in range(20):
        no_answer(made, offline=True)
        made.wait(6)
    assert made.machine.server == 0
    assert len(made.ordered(StartTunnel)) == 1
    made.held.discard(Rekey)
    made.settle()
    made.wait(2)
    assert made.phase is Phase.READY


def test_a_tunnel_that_does_not_start_offline_is_tried_soon_again_with_the_same_server():
    made = world(servers=2)
    made.plans = (PLAN, replace(MOVED, server=1, identity="other"))
    made.held.add(StartTunnel)
    made.begin()
    for _ in range(10):
        order = made.waiting(StartTunnel)
        made.pending.remove(order)
        made.take(replace(made.failure(order, FailureKind.TRANSIENT), silent=True, offline=True))
        made.wait(3)
    assert made.machine.server == 0
    made.held.discard(StartTunnel)
    made.settle()
    made.until(lambda: made.phase is Phase.READY, 5)


def test_a_time_without_a_way_out_is_not_held_against_a_server_once_there_is_one():
    made = world(servers=2)
    made.plans = (PLAN, replace(MOVED, server=1, identity="other"))
    made.ready()
    made.held.add(Rekey)
    silence(made)
    for _ in range(20):
        no_answer(made, offline=True)
        made.wait(6)
    no_answer(made)  # the cable came back too late for this one
    assert made.machine.server == 0
    assert len(made.ordered(StartTunnel)) == 1


def test_a_lease_that_ends_without_a_way_out_costs_neither_server_nor_tunnel():
    made = world(servers=2)
    made.plans = (PLAN, replace(MOVED, server=1, identity="other"))
    made.ready()
    made.held.add(Rekey)
    made.fail(Acquire)
    silence(made)
    for _ in range(60):
        no_answer(made, offline=True)
        made.wait(6)
    assert made.forward.lease is None, "the control"
    assert len(made.ordered(Acquire)) > 6
    assert {remedy.remedy for remedy in made.heard(RemedyTaken)} == {Remedy.REKEY}
    assert made.machine.server == 0
    assert len(made.ordered(StartTunnel)) == 1
    assert made.forward.proofs.tunnel.evidence.endswith("for 364 s")
    made.faults.clear()
    made.held.discard(Rekey)
    made.settle()
    made.until(lambda: made.phase is Phase.READY, 2)


def test_a_start_that_fails_after_a_time_without_a_way_out_is_the_first_that_failed():
    """The control: without a way out, a failure does not count either."""
    made = world(servers=2)
    made.plans = (PLAN, replace(MOVED, server=1, identity="other"))
    made.held.add(StartTunnel)
    made.begin()
    for offline in (True, True, True, False):
        order = made.waiting(StartTunnel)
        made.pending.remove(order)
        made.take(replace(made.failure(order, FailureKind.TRANSIENT), silent=True, offline=offline))
        assert made.machine.server == 0
        made.wait(3)
    assert made.waiting(StartTunnel), "it is tried again within three seconds"


def test_a_tunnel_of_a_kind_that_cannot_shake_hands_anew_is_asked_once_and_stays_ready():
    """The control: a silence of one that can is told each time."""
    able, unable = world().ready(), world().ready()
    unable.fail(Rekey, FailureKind.UNSUPPORTED)
    for made in (able, unable):
        for _ in range(5):
            silence(made)
            made.settle()
            made.wait(5)
    assert [len(made.heard(RemedyTaken)) for made in (able, unable)] == [5, 1]
    assert len(unable.ordered(Rekey)) == 1
    assert unable.phase is Phase.READY
    assert unable.phases.count(Phase.READY) == 1


def test_a_watch_that_fails_is_nobodys_problem():
    made = world().ready()
    order = made.waiting(WatchTunnel)
    made.pending.remove(order)
    made.take(made.failure(order, FailureKind.UNSUPPORTED))
    assert not made.problems
    assert made.phase is Phase.READY
    made.wait(70)
    assert made.waiting(WatchTunnel)


# -- the MTU ----------------------------------------------------------------------------------------


def test_the_mtu_is_fitted_once_a_tunnel_and_told_if_it_is_lower():
    made = world().ready()
    tell(made, lambda number: MtuFitted(number, 1280), FitMtu)
    assert made.heard(MtuLowered) == [MtuLowered(1420, 1280)]
    made.wait(60)
    assert len(made.ordered(FitMtu)) == 1


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.UNSUPPORTED])
def test_an_mtu_that_cannot_be_fitted_stays_and_is_no_problem(kind):
    made = world().ready()
    order = made.waiting(FitMtu)
    made.pending.remove(order)
    made.take(made.failure(order, kind))
    made.wait(200)
    assert len(made.ordered(FitMtu)) == 1
    assert not made.problems


# -- the lock ---------------------------------------------------------------------------------------


def test_lockdown_ends_locked():
    made = world(lock=LockMode.LOCKDOWN).ready()
    made.stop()
    assert made.phase is Phase.STOPPED
    assert made.table.stage is FirewallStage.LOCKED
    assert not made.ordered(RemoveFirewall)


def test_on_ends_open():
    made = world().ready()
    made.stop()
    assert made.table is None


def test_a_lock_that_cannot_be_put_up_at_the_end_is_said_and_it_ends():
    made = world(lock=LockMode.LOCKDOWN).ready()
    made.held.add(ApplyFirewall)
    made.stop()
    for _ in range(5):
        order = next((each for each in made.pending if isinstance(each.work, ApplyFirewall)), None)
        if order is None:
            break
        made.pending.remove(order)
        made.take(made.failure(order, FailureKind.TRANSIENT))
        made.wait(2)
    assert made.phase is Phase.STOPPED
    assert made.problems


def test_off_asks_for_rules_without_a_lock():
    made = world(lock=LockMode.OFF).ready()
    assert {order.work.policy.lock for order in made.ordered(ApplyFirewall)} == {LockMode.OFF}
    made.stop()
    assert made.table is None


# -- another port policy ------------------------------------------------------------------------------


def test_another_policy_is_in_force_at_once_and_nothing_else_changes():
    made = world().ready()
    before = len(made.orders)
    made.take(PolicyWanted(PortPolicy(PolicyMode.OPEN_ALL)))
    made.settle()
    assert made.table.inbound.mode is PolicyMode.OPEN_ALL
    assert made.phase is Phase.READY
    assert made.heard(PolicyChanged) == [PolicyChanged(PortPolicy(), PortPolicy(PolicyMode.OPEN_ALL))]
    assert {type(order.work) for order in made.orders[before:]} == {ApplyFirewall}
    made.take(PolicyWanted(PortPolicy(PolicyMode.OPEN_ALL)))
    assert len(made.heard(PolicyChanged)) == 1
