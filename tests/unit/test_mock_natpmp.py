"""The mock gateway's answers: ProtonVPN's table of requests, RFC 6886, and what holds for every history."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_provider.faults import Fate, Faults
from mock_provider.natpmp import Dnat, Machine
from vpnpf.model import Protocol

UDP, TCP = 1, 2
ALICE, BOB = "10.2.0.2", "10.2.0.3"


def mapping(opcode: int, internal: int, wish: int, lifetime: int = 60) -> bytes:
    return struct.pack("!BBHHHI", 0, opcode, 0, internal, wish, lifetime)


def machine(*, faults: Faults | None = None, now: float = 0.0, **options) -> Machine:
    return Machine(faults or Faults(), now=now, choose=min, **options)


def ask(gateway: Machine, opcode: int, internal: int, wish: int, lifetime: int = 60, now: float = 0.0, client=ALICE):
    """Result, internal, external, lifetime."""
    answer = gateway.handle(mapping(opcode, internal, wish, lifetime), client, now).answer
    assert answer is not None
    assert len(answer) == 16
    assert answer[:2] == bytes([0, 128 + opcode])
    result, _, *rest = struct.unpack_from("!HIHHI", answer, 2)
    return result, *rest


def test_bytes_on_the_wire_are_those_of_the_documented_loop():
    gateway = machine(epoch=0x123456, ports=[41877])
    step = gateway.handle(bytes.fromhex("0000"), ALICE, 0.9)
    assert step.answer == bytes.fromhex("00800000 00123456 c633640b")
    step = gateway.handle(bytes.fromhex("000100000000000100 00003c"), ALICE, 0.9)
    assert step.answer == bytes.fromhex("00810000 00123456 0000a395 0000003c")
    assert step.add == (Dnat(Protocol.UDP, 41877, ALICE, 41877),)
    step = gateway.handle(bytes.fromhex("000200000000000100 00003c"), ALICE, 1.0)
    assert step.answer == bytes.fromhex("00820000 00123457 0000a395 0000003c")
    assert step.add == (Dnat(Protocol.TCP, 41877, ALICE, 41877),)


@pytest.mark.parametrize(
    ("internal", "wish", "answered_internal"),
    [(0, 1, 0), (0, 0, 33261), (56789, 0, 56789), (56789, 40000, 56789)],
)
def test_proton_grants(internal, wish, answered_internal):
    gateway = machine()
    assert ask(gateway, UDP, internal, wish) == (0, answered_internal, 33261, 60)
    assert gateway.table == {Dnat(Protocol.UDP, 33261, ALICE, internal or 33261)}


def test_a_second_symmetric_request_is_the_same_mapping_in_both_protocols():
    gateway = machine()
    assert ask(gateway, UDP, 0, 1)[2] == ask(gateway, TCP, 0, 1)[2] == ask(gateway, TCP, 0, 0)[2] == 33261
    assert ask(gateway, UDP, 33261, 33261) == (0, 33261, 33261, 60)
    assert len(gateway.table) == 2


def test_four_asymmetric_mappings_besides_the_symmetric_one_then_out_of_resources():
    gateway = machine()
    ports = {ask(gateway, UDP, internal, 0)[2] for internal in (50001, 50002, 50003, 50004)}
    assert ask(gateway, UDP, 50005, 0) == (4, 50005, 0, 0)
    ports.add(ask(gateway, UDP, 0, 1)[2])
    assert len(ports) == 5
    assert ask(gateway, TCP, 50001, 0)[0] == 0, "the other protocol of a held one is no fifth"
    assert ask(gateway, UDP, 50005, 0, client=BOB)[0] == 0, "the limit is per client"


@pytest.mark.parametrize(("asked", "granted"), [(60, 60), (7200, 60), (45, 45)])
def test_lifetime_is_capped(asked, granted):
    assert ask(machine(), UDP, 0, 1, asked)[3] == granted


def test_a_renewed_mapping_stays_and_a_forgotten_one_ends():
    gateway = machine(lifetime=4)
    ask(gateway, UDP, 0, 1, now=0)
    ask(gateway, TCP, 0, 1, now=0)
    ask(gateway, UDP, 0, 1, now=3)
    assert gateway.next_expiry == 4
    assert gateway.expire(3.999).remove == ()
    assert gateway.expire(4).remove == (Dnat(Protocol.TCP, 33261, ALICE, 33261),)
    assert gateway.next_expiry == 7
    assert gateway.expire(7).remove == (Dnat(Protocol.UDP, 33261, ALICE, 33261),)
    assert gateway.next_expiry is None


def test_delete_as_the_official_client_does_it():
    gateway = machine()
    port = ask(gateway, UDP, 0, 1)[2]
    ask(gateway, TCP, 0, 1)
    assert ask(gateway, TCP, port, 0, 0) == (0, port, 0, 0)
    assert {rule.protocol for rule in gateway.table} == {Protocol.UDP}
    assert ask(gateway, TCP, port, 0, 0) == (0, port, 0, 0), "also when nothing was there"
    assert ask(gateway, UDP, port, 0, 0) == (0, port, 0, 0)
    assert not gateway.table


def test_delete_with_internal_0_ends_all_mappings_of_the_protocol_of_this_client():
    gateway = machine()
    for internal in (0, 50001):
        ask(gateway, UDP, internal, 1)
        ask(gateway, TCP, internal, 1)
    ask(gateway, UDP, 0, 1, client=BOB)
    assert ask(gateway, UDP, 0, 0, 0) == (0, 0, 0, 0)
    assert {(rule.address, rule.protocol) for rule in gateway.table} == {(ALICE, Protocol.TCP), (BOB, Protocol.UDP)}


def test_rotation_comes_with_the_next_renewal_and_moves_both_protocols():
    gateway = machine()
    ask(gateway, UDP, 0, 1)
    ask(gateway, TCP, 0, 1)
    gateway.faults.rotate()
    assert ask(gateway, TCP, 0, 1)[2] == 33261, "the protocol asked for first leads"
    step = gateway.handle(mapping(UDP, 0, 1), ALICE, 1)
    assert {rule.external_port for rule in step.remove} == {33261}
    assert {(rule.protocol, rule.external_port, rule.internal_port) for rule in step.add} == {
        (Protocol.UDP, 33262, 33262),
        (Protocol.TCP, 33262, 33262),
    }
    assert ask(gateway, TCP, 0, 1)[2] == ask(gateway, UDP, 0, 1)[2] == 33262, "once"


def test_rotation_of_a_mapping_renewed_by_its_number_keeps_the_internal_port():
    gateway = machine()
    ask(gateway, UDP, 0, 1)
    gateway.faults.rotate()
    assert ask(gateway, UDP, 33261, 33261) == (0, 33261, 33262, 60)
    assert ask(gateway, UDP, 33261, 33262) == (0, 33261, 33262, 60)
    assert gateway.table == {Dnat(Protocol.UDP, 33262, ALICE, 33261)}


def test_rotate_after_counts_renewals():
    gateway = machine(faults=Faults(rotate_after=2))
    ports = [(ask(gateway, UDP, 0, 1)[2], ask(gateway, TCP, 0, 1)[2]) for _ in range(8)]
    assert all(udp == tcp for udp, tcp in ports)
    changes = [index for index in range(1, 8) if ports[index] != ports[index - 1]]
    assert changes == [3, 6]


def test_tcp_differs_until_it_is_switched_off():
    gateway = machine(faults=Faults(tcp_differs=True))
    udp, tcp = ask(gateway, UDP, 0, 1)[2], ask(gateway, TCP, 0, 1)[2]
    assert udp != tcp
    assert ask(gateway, TCP, 0, 1)[2] == tcp, "but it is stable"
    gateway.faults.tcp_differs = False
    assert ask(gateway, TCP, 0, 1)[2] == udp


def test_reset_forgets_everything_and_starts_the_epoch_again():
    gateway = machine()
    ask(gateway, UDP, 0, 1)
    assert gateway.epoch(10) > 10**6
    assert gateway.reset_epoch(10).remove == (Dnat(Protocol.UDP, 33261, ALICE, 33261),)
    assert (gateway.epoch(10), gateway.epoch(12.5)) == (0, 2)


def test_forced_results_change_nothing():
    gateway = machine(faults=Faults(result=3))
    assert ask(gateway, UDP, 0, 1) == (3, 0, 0, 0)
    assert gateway.handle(b"\0\0", ALICE, 0).answer == bytes.fromhex("00800003 00123456 00000000")
    assert not gateway.table


def test_no_port_left_is_out_of_resources():
    gateway = machine(ports=[40000])
    assert ask(gateway, UDP, 0, 1)[0] == 0
    assert ask(gateway, UDP, 0, 1, client=BOB) == (4, 0, 0, 0)


@pytest.mark.parametrize(
    ("sent", "answer"),
    [
        (b"", None),
        (b"\0", None),
        (bytes.fromhex("0080"), None),
        (bytes.fromhex("000100000000"), None),
        (bytes.fromhex("0200") + bytes(22), bytes.fromhex("00800001 00123456")),
        (bytes.fromhex("0007 0000 1111"), bytes.fromhex("0087 0005 1111")),
        (bytes.fromhex("0007"), bytes.fromhex("0087 0005")),
    ],
)
def test_what_is_no_request_of_version_0(sent, answer):
    assert machine().handle(sent, ALICE, 0).answer == answer


# -- RFC 6886 -------------------------------------------------------------------------------------


def test_rfc_refuses_internal_port_0():
    assert ask(machine(mode="rfc"), UDP, 0, 1) == (2, 0, 0, 0)


def test_rfc_honours_a_wish_for_a_free_port_and_else_gives_the_next():
    gateway = machine(mode="rfc", lifetime=7200)
    assert ask(gateway, TCP, 6881, 40000, 7200) == (0, 6881, 40000, 7200)
    assert ask(gateway, TCP, 6881, 40000, client=BOB) == (0, 6881, 40001, 60)
    assert ask(gateway, TCP, 6882, 0) == (0, 6882, 6882, 60), "no wish: the internal number"
    assert gateway.table >= {Dnat(Protocol.TCP, 40000, ALICE, 6881), Dnat(Protocol.TCP, 40001, BOB, 6881)}


def test_rfc_keeps_an_existing_mapping_whatever_is_wished_then():
    gateway = machine(mode="rfc")
    ask(gateway, TCP, 6881, 40000)
    assert ask(gateway, TCP, 6881, 50000)[2] == 40000
    assert ask(gateway, UDP, 6881, 50000)[2] == 40000, "the number is reserved in the other protocol"


def test_a_mode_that_does_not_exist_is_named():
    with pytest.raises(ValueError, match="no mode 'pcp': there are proton, rfc"):
        machine(mode="pcp")


# -- whatever happens -----------------------------------------------------------------------------

requests = st.tuples(
    st.sampled_from([ALICE, BOB]),
    st.one_of(
        st.builds(
            mapping,
            st.sampled_from([UDP, TCP]),
            st.sampled_from([0, 1, 40000, 40001, 40002, 40003, 50000, 65535]),
            st.sampled_from([0, 1, 40000, 40001, 65535]),
            st.sampled_from([0, 1, 3, 60, 7200, 2**32 - 1]),
        ),
        st.binary(max_size=20),
    ),
    st.floats(0, 3),
)
histories = st.lists(requests, max_size=40)
wrongs = st.builds(
    Faults,
    tcp_differs=st.booleans(),
    rotate_after=st.none() | st.integers(1, 3),
    rotations=st.integers(0, 1),
)


@given(histories, st.sampled_from(["proton", "rfc"]), wrongs, st.data())
def test_every_history(history, mode, faults, data):
    """Steps add up to the table; an external port has one owner; what is granted is forwarded and ends in time."""
    now = 0.0
    gateway = Machine(
        faults,
        now=now,
        mode=mode,
        lifetime=4,
        ports=range(40000, 40012),
        choose=lambda free: data.draw(st.sampled_from(free)),
    )
    table: set[Dnat] = set()

    def take(step):
        assert set(step.remove) <= table
        table.difference_update(step.remove)
        assert not set(step.add) & table
        table.update(step.add)
        assert table == gateway.table

    for client, sent, pause in history:
        now += pause
        if data.draw(st.integers(0, 9)) == 0:
            faults.rotate()
        step = gateway.handle(sent, client, now)
        take(step)
        assert len({(rule.protocol, rule.external_port) for rule in table}) == len(table)
        for port in {rule.external_port for rule in table}:
            assert len({rule.address for rule in table if rule.external_port == port}) == 1
        assert gateway.next_expiry is None or now < gateway.next_expiry <= now + 4
        if step.answer is not None and len(step.answer) == 16 and len(sent) >= 12 and sent[1] in (UDP, TCP):
            result, _, _, external, lifetime = struct.unpack_from("!HIHHI", step.answer, 2)
            protocol = Protocol.UDP if sent[1] == UDP else Protocol.TCP
            mine = {rule.external_port for rule in table if (rule.address, rule.protocol) == (client, protocol)}
            assert (result == 0 and lifetime > 0) == (external != 0)
            assert external in mine | {0}
            assert lifetime <= min(4, struct.unpack_from("!I", sent, 8)[0])
    while (then := gateway.next_expiry) is not None:
        assert then <= now + 4
        take(gateway.expire(then))
    assert not table


@given(histories)
def test_without_faults_a_client_has_at_most_five_ports_and_both_protocols_agree(history):
    gateway = machine(ports=range(40000, 40020))
    now = 0.0
    for client, sent, pause in history:
        now += pause
        gateway.handle(sent, client, now)
        for address in (ALICE, BOB):
            mine = [rule for rule in gateway.table if rule.address == address]
            assert len({rule.external_port for rule in mine}) <= 5
            by_internal = {rule.internal_port: rule.external_port for rule in mine}
            assert all(by_internal[rule.internal_port] == rule.external_port for rule in mine)


@given(histories, st.sampled_from(["proton", "rfc"]))
def test_asking_again_changes_nothing_but_the_time(history, mode):
    gateway = machine(mode=mode, ports=range(40000, 40020))
    now = 0.0
    for client, sent, pause in history:
        now += pause
        first = gateway.handle(sent, client, now).answer
        again = gateway.handle(sent, client, now)
        assert again.answer == first
        assert (again.add, again.remove) == ((), ())


# -- faults of the wire ---------------------------------------------------------------------------


def test_counted_faults_come_first_and_end():
    faults = Faults()
    faults.refuse_next(2)
    faults.silent_next()
    assert [faults.fate(UDP) for _ in range(4)] == [Fate.REFUSED, Fate.REFUSED, Fate.SILENT, Fate.ANSWERED]


def test_faults_may_meet_one_opcode_alone():
    faults = Faults(refuse=True, opcodes={TCP})
    assert (faults.fate(UDP), faults.fate(TCP)) == (Fate.ANSWERED, Fate.REFUSED)


def test_lost_answers_are_obeyed_and_refused_requests_are_not():
    assert Faults(lose_answers=True).fate(UDP) is Fate.ANSWER_LOST
    assert Faults(lose_answers=True, silent=True).fate(UDP) is Fate.SILENT
    assert Faults(silent=True, refuse=True).fate(UDP) is Fate.REFUSED
