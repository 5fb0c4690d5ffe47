"""Each link of the chain: made from what was seen, with the time and the evidence of it."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, World
from vpnpf.core.policy import admits, intact, policy_for, rules_for, stands
from vpnpf.core.proofs import followed, prove, wanted_settings
from vpnpf.core.state import initial
from vpnpf.events import ReadClient
from vpnpf.model import (
    FirewallStage,
    ForwardRule,
    ForwardSpec,
    ListeningSocket,
    ListenSettings,
    Opening,
    PolicyMode,
    PortPolicy,
    Proof,
    Proofs,
    Protocol,
    TunnelHealth,
)


@pytest.fixture
def world():
    """READY, at START."""
    return World().ready()


def proofs(world, *, at=None, forward=None, **machine):
    """The chain of a machine that is as the world's but for these."""
    changed = replace(world.machine, **machine)
    return prove(changed, forward or changed.forwards[0], world.now if at is None else at)


def test_a_fresh_profile_proves_nothing():
    machine = initial(SPEC, PLAN, START)
    chain = prove(machine, machine.forwards[0], START)
    assert (chain.tunnel.ok, chain.lease.ok) == (False, False)
    assert {chain.firewall.ok, chain.client.ok, chain.listening.ok, chain.reachable.ok} == {None}


def test_ready_has_all_but_a_visitor(world):
    chain = world.forward.proofs
    assert [proof.ok for proof in (chain.tunnel, chain.lease, chain.firewall, chain.client, chain.listening)] == [
        True
    ] * 5
    assert chain.reachable.ok is None
    assert all("40000" in proof.evidence for proof in (chain.lease, chain.client, chain.listening))


def test_since_stays_while_the_value_stays_and_checked_goes_on(world):
    world.wait(100)
    proof = world.forward.proofs.tunnel
    assert proof.since == START
    assert world.now - proof.checked <= 10


def test_since_starts_anew_when_the_value_changes(world):
    chain = proofs(world, health=TunnelHealth(200.0), at=START + 7)
    assert (chain.tunnel.ok, chain.tunnel.since) == (False, START + 7)
    assert chain.lease.since == START


def test_what_is_open_has_no_since(world):
    assert world.forward.proofs.reachable == Proof(None, None, START, "nobody has come in yet")


# -- tunnel and lease ---------------------------------------------------------------------------


@pytest.mark.parametrize(("age", "ok"), [(0.0, True), (180.0, True), (180.1, False), (None, False)])
def test_a_handshake_counts_for_180_seconds(world, age, ok):
    assert proofs(world, health=TunnelHealth(age)).tunnel.ok is ok


def test_the_lease_says_what_the_internet_sees(world):
    assert world.forward.proofs.lease.evidence == "198.51.100.7:40000 granted for 60 s"


def test_the_lease_says_that_another_port_was_asked_for(world):
    forward = replace(world.forward, spec=replace(FORWARD, external_port=50000))
    assert proofs(world, forward=forward).lease.evidence.endswith("; 50000 was asked for")
    forward = replace(world.forward, spec=replace(FORWARD, external_port=40000))
    assert "asked" not in proofs(world, forward=forward).lease.evidence


def test_a_lease_without_an_end_says_so():
    assert "without an end" in World(lifetime=None).ready().forward.proofs.lease.evidence


def test_a_lease_of_the_tunnel_before_is_open(world):
    assert proofs(world, tunnel_number=2).lease.ok is None


# -- firewall -----------------------------------------------------------------------------------


def test_rules_that_were_tampered_with_say_how(world):
    reading = replace(world.machine.reading, intact=False, evidence="chain input is gone")
    chain = proofs(world, reading=reading)
    assert (chain.firewall.ok, chain.firewall.evidence) == (False, "chain input is gone")


def test_rules_without_the_port_do_not_do(world):
    bare = replace(world.machine.applied, forwards=())
    assert proofs(world, applied=bare).firewall.ok is False


def test_rules_of_another_stage_do_not_do(world):
    blocked = replace(world.machine.applied, stage=FirewallStage.BLOCKED)
    assert proofs(world, applied=blocked).firewall.ok is False


def test_a_rule_that_has_ended_does_not_do(world):
    forward = replace(world.forward, lease=replace(world.forward.lease, lifetime=500.0))
    assert proofs(world, forward=forward, at=START + 59).firewall.ok is True
    assert proofs(world, forward=forward, at=START + 60).firewall.ok is False


def test_the_policy_that_shuts_the_port_is_named(world):
    only_tcp = PortPolicy(forwarded=False, openings=(Opening(40000, 40000, Protocol.TCP),))
    proof = proofs(world, spec=replace(SPEC, policy=only_tcp)).firewall
    assert proof.ok is False
    assert proof.evidence == "closed by the policy allow-list: 40000/udp"


@pytest.mark.parametrize(
    ("policy", "port", "protocol", "open_"),
    [
        (PortPolicy(PolicyMode.OPEN_ALL), 1, Protocol.TCP, True),
        (PortPolicy(PolicyMode.BLOCK_ALL), 1, Protocol.TCP, False),
        (PortPolicy(), 1, Protocol.TCP, True),
        (PortPolicy(forwarded=False), 1, Protocol.TCP, False),
        (PortPolicy(forwarded=False, openings=(Opening(5, 9, Protocol.UDP),)), 5, Protocol.UDP, True),
        (PortPolicy(forwarded=False, openings=(Opening(5, 9, Protocol.UDP),)), 9, Protocol.UDP, True),
        (PortPolicy(forwarded=False, openings=(Opening(5, 9, Protocol.UDP),)), 10, Protocol.UDP, False),
        (PortPolicy(forwarded=False, openings=(Opening(5, 9, Protocol.UDP),)), 5, Protocol.TCP, False),
    ],
)
def test_what_a_policy_lets_in(policy, port, protocol, open_):
    assert admits(policy, port, protocol) is open_


# -- client -------------------------------------------------------------------------------------


def test_the_client_should_have_port_and_device(world):
    assert wanted_settings(world.machine, world.forward) == ListenSettings(40000, "vpf-home")


def test_a_fixed_local_port_is_what_the_client_should_have(world):
    forward = replace(world.forward, spec=replace(FORWARD, internal_port=6881))
    assert wanted_settings(world.machine, forward) == ListenSettings(6881, "vpf-home")


@pytest.mark.parametrize("change", [{"lease": None}, {"spec": ForwardSpec("torrent")}])
def test_without_port_or_client_there_is_nothing_to_set(world, change):
    assert wanted_settings(world.machine, replace(world.forward, **change)) is None


def test_without_a_tunnel_there_is_nothing_to_set(world):
    assert wanted_settings(replace(world.machine, tunnel=None), world.forward) is None


def test_settings_from_before_the_tunnel_came_back_do_not_count(world):
    assert proofs(world, tunnel_number=2).client.ok is None


def test_a_client_that_does_not_answer_proves_nothing(world):
    world.fail(ReadClient)
    world.wait(31)
    proof = world.forward.proofs.client
    assert (proof.ok, proof.evidence) == (False, "doing ReadClient: it was transient")


def test_no_client_is_no_fault():
    world = World(initial(replace(SPEC, forwards=(ForwardSpec("game"),)), PLAN, START)).ready()
    assert world.forward.proofs.client.ok is None
    assert followed(world.forward)


# -- listening ----------------------------------------------------------------------------------


def listening(world, *sockets):
    return proofs(world, forward=replace(world.forward, sockets=sockets)).listening


TCP = ListeningSocket(Protocol.TCP, "10.2.0.2", 40000)
UDP = ListeningSocket(Protocol.UDP, "10.2.0.2", 40000)


@pytest.mark.parametrize("address", ["10.2.0.2", "0.0.0.0"])
@pytest.mark.parametrize("device", ["", "vpf-home"])
def test_sockets_on_the_tunnels_address_or_any_count(world, address, device):
    assert listening(world, *(replace(each, address=address, device=device) for each in (TCP, UDP))).ok is True


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"address": "192.168.1.5"}, " for the tunnel's address, only on 192.168.1.5"),
        ({"address": "127.0.0.1"}, " for the tunnel's address, only on 127.0.0.1"),
        ({"device": "eth0"}, " for the tunnel's address, only on 10.2.0.2 (eth0)"),
        ({"address": "::"}, " for the tunnel's address, only on ::"),  # IPv6 alone: who takes both is listed twice
        ({"port": 40001}, ""),
    ],
)
def test_sockets_elsewhere_do_not_count_and_are_said(world, change, where):
    proof = listening(world, TCP, replace(UDP, **change))
    assert (proof.ok, proof.evidence) == (False, f"nothing listens on 40000/udp{where}")


def test_any_is_any_of_the_gateways_family(world):
    tunnel = replace(world.machine.tunnel, gateway="fd00::1")
    forward = replace(world.forward, sockets=tuple(replace(each, address="::") for each in (TCP, UDP)))
    assert proofs(world, tunnel=tunnel, forward=forward).listening.ok is True
    forward = replace(world.forward, sockets=tuple(replace(each, address="0.0.0.0") for each in (TCP, UDP)))
    assert proofs(world, tunnel=tunnel, forward=forward).listening.ok is False


def test_every_protocol_of_the_forward_needs_its_socket(world):
    assert listening(world, TCP).evidence == "nothing listens on 40000/udp"
    assert listening(world).evidence == "nothing listens on 40000/tcp, 40000/udp"


def test_a_program_on_another_machine_is_named_or_called_so(world):
    for client, who in (("qbittorrent", "qbittorrent"), (None, "the program")):
        spec = replace(FORWARD, client=client, client_local=False)
        proof = proofs(world, forward=replace(world.forward, spec=spec)).listening
        assert proof.ok is None
        assert proof.evidence.startswith(f"{who} runs on another machine")


# -- followed -----------------------------------------------------------------------------------

YES, NO, OPEN = Proof(True), Proof(False), Proof(None)


@pytest.mark.parametrize(
    ("spec", "chain", "expected"),
    [
        (FORWARD, Proofs(YES, YES, YES, YES, YES), True),
        (FORWARD, Proofs(YES, YES, NO, YES, YES), True),  # a policy may keep the port shut
        (FORWARD, Proofs(NO, YES, YES, YES, YES), False),
        (FORWARD, Proofs(YES, OPEN, YES, YES, YES), False),
        (FORWARD, Proofs(YES, YES, YES, OPEN, YES), False),
        (FORWARD, Proofs(YES, YES, YES, YES, OPEN), False),
        (replace(FORWARD, client_local=False), Proofs(YES, YES, YES, YES, OPEN), True),
        (replace(FORWARD, client_local=False), Proofs(YES, YES, YES, NO, OPEN), False),
        (ForwardSpec("game"), Proofs(YES, YES), True),
        (ForwardSpec("game"), Proofs(YES, NO), False),
    ],
)
def test_followed_is_all_up_to_the_socket(world, spec, chain, expected):
    assert followed(replace(world.forward, spec=spec, proofs=chain)) is expected


# -- the rule set of a state --------------------------------------------------------------------


def test_each_state_has_its_rule_set(world):
    machine = world.machine
    assert policy_for(initial(SPEC, PLAN, START)).stage is FirewallStage.CONNECTING
    assert policy_for(machine).stage is FirewallStage.CONNECTED
    assert policy_for(replace(machine, tunnel=None)).stage is FirewallStage.BLOCKED
    assert policy_for(replace(machine, tunnel=None)).forwards == ()


def test_a_port_closes_in_the_kernel_when_its_lease_ends(world):
    assert policy_for(world.machine).forwards == (
        ForwardRule("torrent", tuple(Protocol), 40000, 40000, expires_at=START + 60),
    )


def test_while_a_port_changes_both_are_open_the_new_one_first(world):
    new = replace(world.forward.lease, external_port=40005, internal_port=40005)
    forward = replace(world.forward, lease=new, replaced=world.forward.lease)
    assert [rule.arrives for rule in rules_for(forward)] == [40005, 40000]
    assert [rule.arrives for rule in rules_for(replace(forward, replaced=new))] == [40005]
    assert rules_for(replace(forward, lease=None)) == ()


def test_a_rule_stands_though_its_end_is_older_than_the_leases(world):
    renewed = replace(world.forward, lease=replace(world.forward.lease, granted_at=START + 30))
    assert stands(world.machine, renewed, START + 30)
    moved = replace(world.forward, lease=replace(world.forward.lease, external_port=40001))
    assert not stands(world.machine, moved, START + 30)
    assert not stands(replace(world.machine, applied=None), renewed, START + 30)


def test_rules_that_were_never_read_are_not_intact(world):
    assert intact(world.machine)
    assert not intact(replace(world.machine, reading=None))
