"""What users of this field's tools suffer, each as a test: the name is the complaint, the test is that it is not ours."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.core.state import initial
from vpnpf.events import (
    Acquire,
    CheckTunnel,
    PortAnnounced,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    ReadClient,
    Rekey,
    RemedyTaken,
    SetClient,
    StartTunnel,
)
from vpnpf.model import FailureKind, Phase, Remedy

DAY = 86400.0


@pytest.mark.parametrize("kind", [FailureKind.TRANSIENT, FailureKind.CRASHED, FailureKind.LEASE_LOST])
def test_the_forward_dies_silently_while_tunnel_and_health_stay_green(kind):
    world = World().ready()
    world.fail(Acquire, kind)
    world.wait(DAY)
    assert world.phase is not Phase.READY
    assert world.forward.proofs.lease.ok is False
    assert world.heard(PortLost)
    assert world.heard(ProblemNoticed)
    assert world.problems
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 60)


def test_the_port_changes_at_a_renewal_and_nobody_follows():
    world = World().ready()
    for port in range(41000, 41020):
        world.port = port
        world.until(lambda port=port: world.forward.announced.external_port == port, 40)
        assert world.settings["torrent"].port == port
        assert world.open_ports() == {port}
    assert not world.heard(ProblemNoticed)
    assert len(world.ordered(StartTunnel)) == 1


def test_no_answer_and_then_nothing():
    world = World()
    world.fail(Acquire)
    world.begin().wait(DAY)
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 60)


def test_saved_data_is_refused_for_ever():
    """Signed data that the provider no longer takes is thrown away once, and the port asked for anew."""
    wish = replace(World().ready().forward.lease, token="expired")
    world = World(initial(SPEC, PLAN, START, {PLAN.identity: {"torrent": wish}}))
    success = world.success

    def picky(order):
        previous = order.work.request.previous if isinstance(order.work, Acquire) else None
        if previous is not None and previous.token == "expired":
            return world.failure(order, FailureKind.TRANSIENT)
        return success(order)

    world.success = picky
    world.begin().wait(30)
    assert world.phase is Phase.READY


def test_one_missed_renewal_ends_the_keep_alive():
    world = World(lifetime=900.0).ready()
    for _ in range(20):
        world.fail(Acquire)
        world.wait(400)
        world.faults.clear()
        world.wait(500)
    assert world.phase is Phase.READY
    assert len(world.heard(PortAnnounced)) == 1
    assert not world.heard(PortLost)


def test_a_login_that_is_refused_is_repeated_until_the_account_is_locked():
    world = World()
    world.fail(Acquire, FailureKind.MISCONFIGURED)
    world.begin().wait(DAY)
    assert len(world.ordered(Acquire)) == 1
    assert world.phase is Phase.FAILED


def test_a_rate_limit_is_answered_by_asking_again_and_again():
    world = World()
    world.fail(Acquire, FailureKind.TRANSIENT, 59.0)
    world.begin().wait(DAY)
    assert len(world.ordered(Acquire)) < 60


def test_the_key_vanishes_at_the_server():
    """Shaking hands anew in place comes first; the tunnel goes down only if that does not help."""
    world = World(lifetime=7200.0).ready()
    world.handshake_age = 181.0
    world.held = {StartTunnel}
    world.until(lambda: world.phase is Phase.BLOCKED, 20)
    names = world.names()
    assert names.index("Rekey") < len(names) - 1 - names[::-1].index("StartTunnel")
    assert [each.remedy for each in world.heard(RemedyTaken)] == [Remedy.REKEY, Remedy.RESTART]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_health_check_restarts_a_working_tunnel(failures):
    world = World(lifetime=7200.0).ready()
    for _ in range(10):
        for _ in range(failures):
            world.fail(CheckTunnel)
            world.wait(3)
        world.faults.clear()
        world.wait(30)
    assert len(world.ordered(StartTunnel)) == 1
    assert not world.ordered(Rekey)


def test_health_does_not_include_the_port():
    world = World()
    world.fail(Acquire)
    world.begin().wait(60)
    assert world.forward.proofs.tunnel.ok
    assert world.phase is not Phase.READY


def test_health_waits_for_the_client_and_the_client_for_health():
    world = World()
    world.fail(SetClient)
    world.fail(ReadClient)
    world.begin().wait(120)
    assert world.phase is Phase.LEASING
    assert world.forward.lease is not None
    assert world.open_ports() == {40000}
    world.faults.clear()
    world.until(lambda: world.phase is Phase.READY, 70)


@pytest.mark.parametrize("kind", [FailureKind.CRASHED, FailureKind.UNSUPPORTED])
def test_an_error_of_port_forwarding_takes_the_network_with_it(kind):
    world = World()
    world.fail(Acquire, kind)
    world.begin().wait(60)
    assert world.machine.tunnel is not None
    assert len(world.ordered(StartTunnel)) <= 2
    world.faults.clear()


def test_over_a_hundred_teardowns_in_eleven_hours_for_refused_renewals():
    """A refused renewal every five minutes: no restart, no change of port, no time without one."""
    world = World().ready()
    lost = 0.0
    for _ in range(11 * 12):
        world.fail(Acquire)
        world.wait(4)
        world.faults.clear()
        world.wait(296)
        lost += 0.0 if world.phase is Phase.READY else 300.0
    assert lost == 0.0
    assert len(world.ordered(StartTunnel)) == 1
    assert len(world.heard(PortAnnounced)) == 1
    assert not world.heard(PortLost)
    assert len(world.heard(ProblemOver)) == len(world.heard(ProblemNoticed))
