"""A client that can have its port knocked on: when it is asked, and that nothing hangs on what it says."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import BLOCKING, FORWARD, PLAN, SPEC, START, World
from vpnpf.core.proofs import wanted_settings
from vpnpf.core.state import initial
from vpnpf.events import CheckPort, PortTested, SetClient
from vpnpf.model import FailureKind, ListeningSocket, ListenSettings, Phase, PolicyMode, PortPolicy, Protocol

CLIENT = replace(FORWARD, client_device=False, client_tests=True)
HOUR = 3600.0


def made(spec=CLIENT, *, policy=None, **more):
    profile = replace(SPEC, forwards=(spec,), policy=policy or PortPolicy())
    return World(initial(profile, PLAN, START, switchable=more.pop("switchable", False)), **more)


def times(world):
    """When it was asked, each some seconds after START."""
    return [at - START for at, kind in world.asked_at if kind is CheckPort]


class Asked(World):
    """Notes when what was asked for."""

    def take(self, event):
        orders = super().take(event)
        self.asked_at = [*getattr(self, "asked_at", []), *((self.now, type(order.work)) for order in orders)]
        return orders


def asked(**more):
    profile = replace(SPEC, forwards=(CLIENT,))
    return Asked(initial(profile, PLAN, START), lifetime=None, **more)


def test_a_client_that_cannot_be_told_a_device_listens_on_any():
    world = made().ready()
    assert world.settings["torrent"] == ListenSettings(40000, "")
    assert wanted_settings(world.machine, world.forward) == ListenSettings(40000, "")
    assert world.forward.proofs.client.evidence == "qbittorrent says port 40000 on any device"


@pytest.mark.parametrize(("address", "ok"), [("0.0.0.0", True), ("10.2.0.2", True), ("192.168.1.5", False)])
def test_its_sockets_are_right_on_any_address_and_on_the_tunnels(address, ok):
    world = made().ready()
    sockets = tuple(ListeningSocket(protocol, address, 40000) for protocol in Protocol)
    world._sockets = lambda *_: sockets
    world.wait(20)
    assert world.forward.proofs.listening.ok is ok


def test_sockets_on_an_address_that_the_tunnel_had_are_noticed_and_bound_anew():
    """A client of that kind may be bound to an address; another server may have given another one."""
    world = made(lifetime=None).ready()
    told = len(world.ordered(SetClient))
    dead = tuple(ListeningSocket(protocol, "10.9.9.9", 40000) for protocol in Protocol)
    alive = tuple(ListeningSocket(protocol, "0.0.0.0", 40000) for protocol in Protocol)
    world._sockets = lambda *_: alive if len(world.ordered(SetClient)) > told else dead
    world.until(lambda: world.forward.proofs.listening.ok is False, 16)
    assert "only on 10.9.9.9" in world.forward.proofs.listening.evidence
    assert world.until(lambda: bool(world.forward.proofs.listening.ok), 20) == pytest.approx(5, abs=1)
    assert len(world.ordered(SetClient)) == told + 1


def test_it_is_asked_after_a_while_and_ever_less_often():
    world = asked().ready()
    world.wait(12 * HOUR)
    assert times(world) == pytest.approx([5, 605, 1805, 4205, 9005, 18605, 33005], abs=1)


def test_who_comes_in_by_himself_is_proof_enough():
    world = asked().ready()
    world.wait(3)
    world.packets["torrent"] = 1
    world.wait(HOUR)
    assert world.forward.proofs.reachable.ok is True
    assert not times(world)


def test_its_knock_is_counted_like_anybodys_and_is_the_last():
    world = asked(knock=True).ready()
    world.wait(HOUR)
    assert len(times(world)) == 1
    assert world.forward.proofs.reachable.ok is True
    assert "1 tcp" in world.forward.proofs.reachable.evidence


def test_a_closed_port_is_evidence_with_the_time_and_nothing_else():
    world = made().ready()
    before = len(world.notices)
    world.wait(60)
    proof = world.forward.proofs.reachable
    assert proof.ok is None
    assert proof.evidence == "nobody has come in yet, and the port test of qbittorrent says closed"
    assert proof.checked == pytest.approx(START + 5, abs=1)
    assert world.phase is Phase.READY
    assert not world.problems
    assert {type(notice).__name__ for notice in world.notices[before:]} <= {"LeaseRenewed"}


def test_one_that_got_in_where_nobody_was_counted_is_said():
    world = made(held={CheckPort}).ready()
    world.wait(10)
    order = world.waiting(CheckPort)
    world.pending.remove(order)
    world.take(PortTested(order.generation, order.work.key, "torrent", 40000, open=True))
    assert world.forward.proofs.reachable.ok is None
    assert world.forward.proofs.reachable.evidence.endswith("says open: it may have knocked elsewhere")


@pytest.mark.parametrize("kind", FailureKind)
def test_a_service_that_does_not_answer_is_nobodys_problem(kind):
    world = asked().ready()
    world.fail(CheckPort, kind)
    world.wait(2 * HOUR)
    assert times(world) == pytest.approx([5, 605, 1805, 4205], abs=1)
    assert not world.problems
    assert world.phase is Phase.READY
    assert world.forward.proofs.reachable.evidence == "nobody has come in yet"


def test_another_port_is_tested_anew_and_what_was_said_of_the_old_one_is_forgotten():
    world = made(held={CheckPort}).ready()
    world.wait(10)
    late = world.waiting(CheckPort)
    world.port = 45000
    world.until(lambda: world.forward.announced.external_port == 45000, 60)
    world.take(PortTested(late.generation, late.work.key, "torrent", 40000, open=False))
    world.pending.remove(late)
    assert world.forward.proofs.reachable.evidence == "nobody has come in yet"
    world.wait(10)
    assert world.waiting(CheckPort).work == CheckPort("torrent", 45000)


@pytest.mark.parametrize(
    ("spec", "policy", "switchable"),
    [
        (FORWARD, None, False),  # it cannot
        (replace(CLIENT, shut=True), None, False),
        (replace(CLIENT, sources=("192.0.2.0/24",)), None, False),
        (CLIENT, PortPolicy(PolicyMode.BLOCK_ALL), False),
        (replace(CLIENT, client_local=False), None, False),  # nobody knows whether it listens
        (CLIENT, None, True),  # the provider lets nobody in
    ],
)
def test_it_is_not_asked_where_nothing_could_be_learnt(spec, policy, switchable):
    world = made(spec, policy=policy, switchable=switchable, switch=BLOCKING, switch_delay=1e9).begin()
    world.wait(HOUR)
    assert not world.ordered(CheckPort)


def test_it_is_not_asked_while_nothing_listens():
    world = made(listening=False).begin()
    world.wait(HOUR)
    assert not world.ordered(CheckPort)
    world.listening = True
    world.until(lambda: bool(world.ordered(CheckPort)), 120)


def test_a_tunnel_that_is_back_is_tested_through_anew():
    world = asked().ready()
    world.wait(60)
    world.handshake_age = 500.0
    world.wait(30)
    world.handshake_age = 5.0
    world.wait(120)
    assert len(times(world)) == 2
