"""The mock gateway's faults without sockets: each does what it says, and leaves nothing when it is switched off."""

from __future__ import annotations

import copy
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_provider import kinds
from mock_provider.behaviour import GROUP, Behaviour
from mock_provider.faults import SWITCHES, Fate, Faults
from mock_provider.mangle import LENGTHS, Mangler, Send, Source, layout
from mock_provider.natpmp import EPOCH, Dnat, Machine
from vpnpf.model import Protocol
from vpnpf.protocol import natpmp
from vpnpf.protocol.natpmp import AddressAnswer, ErrorAnswer, MappingAnswer

UDP, TCP = 1, 2
ALICE = ("10.2.0.2", 40000)
FIELDS = {"internal": (8, 2), "external": (10, 2), "lifetime": (12, 4)}


def mapping(opcode: int = UDP, internal: int = 0, wish: int = 1, lifetime: int = 60) -> bytes:
    return struct.pack("!BBHHHI", 0, opcode, 0, internal, wish, lifetime)


def world(**switches) -> Behaviour:
    faults = Faults(**switches)
    return Behaviour(faults, Machine(faults, now=0.0, choose=min))


def said(behaviour: Behaviour, data: bytes = mapping(), now: float = 0.0) -> bytes:
    """The one datagram that a request brings, at once and from the gateway."""
    (send,) = behaviour.receive(data, ALICE, now).sends
    assert (send.to, send.delay, send.source) == (ALICE, 0.0, Source.GATEWAY)
    return send.data


def true(data: bytes = mapping(), now: float = 0.0) -> bytes:
    """What a gateway with nothing wrong says to this first request."""
    return said(world(), data, now)


def but(answer: bytes, offset: int, value: bytes) -> bytes:
    return answer[:offset] + value + answer[offset + len(value) :]


# -- whether an answer comes ----------------------------------------------------------------------


def fates(faults: Faults, number: int, opcode: int = UDP) -> list[Fate]:
    return [faults.fate(opcode) for _ in range(number)]


@pytest.mark.parametrize(("switch", "fate"), [("loss", Fate.SILENT), ("answer_loss", Fate.ANSWER_LOST)])
def test_loss_by_chance_is_as_often_as_said_and_the_same_in_every_run(switch, fate):
    faults, again, other = (Faults(**{switch: 0.2}) for _ in range(3))
    other.reseed(7)
    met = fates(faults, 2000)
    assert set(met) == {fate, Fate.ANSWERED}
    assert 320 < met.count(fate) < 480
    assert fates(again, 2000) == met
    assert fates(other, 2000) != met
    other.reseed(0)
    assert fates(other, 2000) == met


def test_certain_chances_draw_nothing():
    faults = Faults(loss=1.0)
    before = faults.dice.getstate()
    assert fates(faults, 3) == [Fate.SILENT] * 3
    faults.loss = 0.0
    assert fates(faults, 3) == [Fate.ANSWERED] * 3
    assert faults.dice.getstate() == before


def test_one_request_in_so_many_is_refused():
    faults = Faults(refuse_every=3)
    assert [fate is Fate.REFUSED for fate in fates(faults, 7)] == [False, False, True, False, False, True, False]
    faults.refuse_every = None
    assert Fate.REFUSED not in fates(faults, 4)
    faults.refuse_every = 2
    assert [fate is Fate.REFUSED for fate in fates(faults, 4)] == [False, True, False, True], "it counts anew"


def test_counted_faults_come_in_turn():
    faults = Faults()
    faults.lose_answers_next(1)
    faults.silent_next(1)
    faults.refuse_next(2)
    assert fates(faults, 5) == [Fate.REFUSED, Fate.REFUSED, Fate.SILENT, Fate.ANSWER_LOST, Fate.ANSWERED]


def test_a_gateway_that_is_gone_refuses_whatever_is_asked():
    faults = Faults(gone=True, opcodes={TCP}, silent=True)
    assert faults.fate(UDP) is Fate.REFUSED


@pytest.mark.parametrize(
    ("switches", "fate", "mapped"),
    [
        ({"refuse": True}, Fate.REFUSED, 0),
        ({"silent": True}, Fate.SILENT, 0),
        ({"loss": 1.0}, Fate.SILENT, 0),
        ({"gone": True}, Fate.REFUSED, 0),
        ({"lose_answers": True}, Fate.ANSWER_LOST, 1),
        ({"answer_loss": 1.0}, Fate.ANSWER_LOST, 1),
        ({"reorder": 2}, Fate.HELD, 1),
        ({}, Fate.ANSWERED, 1),
    ],
)
def test_what_a_request_changes_by_its_fate(switches, fate, mapped):
    gateway = world(**switches)
    outcome = gateway.receive(mapping(), ALICE, 0)
    assert outcome.fate is fate
    assert bool(outcome.sends) == (fate is Fate.ANSWERED)
    assert len(outcome.step.add) == len(gateway.machine.table) == mapped


def test_what_is_no_request_is_malformed_and_brings_nothing():
    outcome = world().receive(b"\0", ALICE, 0)
    assert (outcome.fate, outcome.sends) == (Fate.MALFORMED, ())


# -- when, how often and from where ---------------------------------------------------------------


def test_delay_is_fixed_or_within_a_range():
    gateway = world(delay=0.5)
    assert [send.delay for send in gateway.receive(mapping(), ALICE, 0).sends] == [0.5]
    gateway.faults.delay = (0.1, 0.3)
    delays = [gateway.receive(mapping(), ALICE, 0).sends[0].delay for _ in range(50)]
    assert min(delays) >= 0.1
    assert max(delays) <= 0.3
    assert len(set(delays)) > 40


def test_duplicates_always_or_by_chance():
    gateway = world(duplicate=True)
    assert [send.data for send in gateway.receive(mapping(), ALICE, 0).sends] == [true(), true()]
    gateway.faults.duplicate = 0.5
    assert {len(gateway.receive(mapping(), ALICE, 0).sends) for _ in range(50)} == {1, 2}


def test_answers_are_held_back_and_come_in_the_other_order():
    gateway = world(reorder=3)
    requests = [mapping(UDP), mapping(TCP), b"\0\0"]
    outcomes = [gateway.receive(data, ALICE, 0) for data in requests]
    assert [outcome.fate for outcome in outcomes] == [Fate.HELD, Fate.HELD, Fate.ANSWERED]
    assert [send.data[1] for send in outcomes[2].sends] == [128, 130, 129]
    assert [len(gateway.receive(data, ALICE, 0).sends) for data in requests] == [0, 0, 3], "and again"
    gateway.receive(mapping(UDP), ALICE, 0)
    gateway.faults.reorder = 0
    assert said(gateway, b"\0\0")[1] == 128, "what was held then is lost"
    gateway.faults.reorder = 3
    assert [len(gateway.receive(data, ALICE, 0).sends) for data in requests] == [0, 0, 3]


@pytest.mark.parametrize(
    ("wrong", "source"),
    [("port", Source.PORT), ("address", Source.ADDRESS), (True, Source.ADDRESS), (False, Source.GATEWAY)],
)
def test_wrong_source(wrong, source):
    (send,) = world(wrong_source=wrong).receive(mapping(), ALICE, 0).sends
    assert send == Send(true(), ALICE, source=source)


def test_noise_comes_before_the_answer():
    *noise, answer = world(noise=40).receive(mapping(), ALICE, 0).sends
    assert answer.data == true()
    assert len(noise) == 40
    assert {len(send.data) for send in noise} <= set(LENGTHS)
    assert len({send.data for send in noise}) > 10


# -- the answer's bytes ---------------------------------------------------------------------------


@pytest.mark.parametrize("data", [mapping(UDP), mapping(TCP), b"\0\0"])
@given(value=st.integers(0, 255))
def test_version_and_opcode_are_as_told_and_the_rest_is_true(data, value):
    assert said(world(says_version=value), data) == but(true(data), 0, bytes([value]))
    assert said(world(says_opcode=value), data) == but(true(data), 1, bytes([value]))


@pytest.mark.parametrize("name", ["internal_port", "external_port", "lifetime"])
@given(data=st.data())
def test_grants_name_what_they_are_told_and_the_rest_is_true(name, data):
    offset, length = FIELDS[name.removesuffix("_port")]
    value = data.draw(st.integers(0, 256**length - 1) | st.sampled_from([0, 1, 256**length - 1]))
    gateway = world(**{f"says_{name}": value})
    assert said(gateway) == but(true(), offset, value.to_bytes(length))
    assert gateway.machine.table == {Dnat(Protocol.UDP, 33261, ALICE[0], 33261)}, "what it holds is another thing"
    assert said(gateway, b"\0\0") == true(b"\0\0")


def test_what_is_no_grant_names_no_ports():
    everything = {"says_internal_port": 9, "says_external_port": 9, "says_lifetime": 9}
    delete = mapping(UDP, 40000, 0, 0)
    assert said(world(**everything), delete) == true(delete)
    assert said(world(**everything, result=4)) == said(world(result=4))


@pytest.mark.parametrize("address", ["198.51.100.12", "0.0.0.0", "192.168.1.20"])
def test_the_external_address_is_as_told_and_mappings_are_not_touched(address):
    gateway = world(says_address=address)
    assert said(gateway) == true()
    answer = natpmp.parse_address(said(gateway, b"\0\0"))
    assert answer == AddressAnswer(EPOCH, None if address == "0.0.0.0" else address)
    gateway.faults.result = 3
    assert said(gateway, b"\0\0")[8:] == bytes(4), "an error names none"


@given(st.integers(0, 20), st.integers(0, 20))
def test_answers_are_cut_and_lengthened(shorten, lengthen):
    answer = said(world(shorten=shorten, lengthen=lengthen))
    assert len(answer) == min(16, shorten) + lengthen
    assert answer.startswith(true()[:shorten])


def test_random_bytes_instead_of_an_answer():
    gateway = world(garbage=1.0)
    seen = [said(gateway) for _ in range(100)]
    assert {len(data) for data in seen} == set(LENGTHS)
    assert true() not in seen
    gateway.faults.garbage = 0.0
    assert said(gateway) == true()


def test_wire_faults_meet_the_opcodes_that_they_are_told():
    gateway = world(opcodes={TCP}, says_version=9, delay=1.0, duplicate=True, wrong_source=True, noise=3)
    assert said(gateway) == true()
    assert said(gateway, b"\0\0") == true(b"\0\0")
    assert len(gateway.receive(mapping(TCP), ALICE, 0).sends) == 5


@pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 6, 255, 65535])
def test_result_codes_known_and_unknown(result):
    gateway = world(result=result)
    assert natpmp.parse_mapping(said(gateway), Protocol.UDP, 0) == ErrorAnswer(result)
    assert natpmp.parse_address(said(gateway, b"\0\0")) == ErrorAnswer(result)
    assert not gateway.machine.table


def test_grants_are_no_longer_than_the_longest_and_end_then():
    gateway = world(longest_grant=1)
    assert natpmp.parse_mapping(said(gateway), Protocol.UDP, 0) == MappingAnswer(EPOCH, 0, 33261, 1)
    assert gateway.next_due == 1
    assert gateway.tick(1)[0].remove


PCP_MAP = (
    bytes.fromhex("02810000 00000e10 00123456")
    + bytes(12)
    + b"nonce-nonce-"
    + b"\x11\0\0\0"
    + bytes.fromhex("1ae1 9c40 00000000000000000000ffffc633640b")
)


@pytest.mark.parametrize(
    ("switch", "value", "offset", "octets"),
    [
        ("says_lifetime", 7, 4, "00000007"),
        ("says_internal_port", 9, 40, "0009"),
        ("says_external_port", 0, 42, "0000"),
        ("says_address", "10.0.0.1", 44, "00000000000000000000ffff0a000001"),
        ("epoch_rate", 1.0, 8, "00123456"),
    ],
)
def test_answers_of_pcp_have_their_own_places(switch, value, offset, octets):
    """RFC 6887 section 11.1."""
    faults = Faults(**{switch: value})
    assert Mangler(faults).mangle(PCP_MAP, 0.0) == but(PCP_MAP, offset, bytes.fromhex(octets))


@given(st.binary(max_size=70))
def test_no_answer_is_too_strange_to_be_mangled(answer):
    assert Mangler(Faults()).mangle(answer, 0.0) == answer
    odd = Faults(says_lifetime=1, says_external_port=2, says_address="1.2.3.4", epoch_rate=2.0, reset_flood=3.0)
    assert len(Mangler(odd).mangle(answer, 0.0)) == len(answer)
    assert all(place.offset + place.length <= len(answer) for place in layout(answer).values())


# -- the epoch ------------------------------------------------------------------------------------


def epoch(gateway: Behaviour, now: float) -> int:
    return struct.unpack_from("!I", said(gateway, b"\0\0", now), 4)[0]


@pytest.mark.parametrize(("rate", "after"), [(0.5, 50), (2.0, 200), (0.0, 0), (-1.0, -100), (-1000.0, -100_000)])
def test_the_epoch_runs_at_another_rate_and_is_true_again(rate, after):
    gateway = world(epoch_rate=rate)
    assert epoch(gateway, 10) == EPOCH + 10, "it begins with the truth"
    assert epoch(gateway, 110) == EPOCH + 10 + after
    gateway.faults.epoch_rate = 1.0
    assert epoch(gateway, 120) == EPOCH + 120
    gateway.faults.epoch_rate = rate
    assert epoch(gateway, 130) == EPOCH + 130, "it begins anew"
    assert epoch(gateway, 230) == EPOCH + 130 + after


def test_the_epoch_does_not_fall_below_0():
    gateway = world(epoch_rate=-1000.0)
    epoch(gateway, 0)
    assert epoch(gateway, 10_000) == 0


def lost(before: tuple[int, float], after: tuple[int, float]) -> bool:
    """RFC 6886 section 3.6."""
    return after[0] < before[0] + (after[1] - before[1]) * 7 / 8 - 2


@given(st.sampled_from([0.01, 0.2, 1.0, 10.0, 500.0]), st.integers(2, 40))
def test_a_flood_of_resets_shows_in_every_answer_that_a_reset_precedes(rate, answers):
    gateway = world(reset_flood=rate)
    gateway.machine.lifetime = 86400
    said(gateway, mapping(lifetime=86400))
    pause = 1 / rate
    seen = [(epoch(gateway, number * pause), number * pause) for number in range(answers)]
    assert all(map(lost, seen[:-1], seen[1:]))
    assert gateway.machine.table, "nothing is lost"
    gateway.faults.reset_flood = 0.0
    assert epoch(gateway, seen[-1][1]) == EPOCH + int(seen[-1][1])


def test_a_flood_goes_on_for_ever_and_each_begins_alike():
    gateway = world(reset_flood=1.0)
    first = [epoch(gateway, second) - second for second in range(4000)]
    shown = [second for second in range(3999) if lost((first[second], 0), (first[second + 1] + 1, 1))]
    assert len(shown) == 3999 - 3, "but for one in a thousand"
    assert min(first) > EPOCH
    gateway.faults.reset_flood = 0.0
    said(gateway)
    gateway.faults.reset_flood = 1.0
    assert [epoch(gateway, second) - second for second in range(4500, 4510)] == first[:10]


def test_nothing_of_the_sort_without_a_flood():
    gateway = world()
    seen = [(epoch(gateway, number * 3.7), number * 3.7) for number in range(50)]
    assert not any(map(lost, seen[:-1], seen[1:]))


def test_reset_loses_all_and_starts_at_0_and_forgetting_goes_on():
    for happens, then in ((Behaviour.reset_epoch, 5), (lambda gateway, _: gateway.forget(), EPOCH + 15)):
        gateway = world()
        said(gateway)
        assert happens(gateway, 10).remove == (Dnat(Protocol.UDP, 33261, ALICE[0], 33261),)
        assert not gateway.machine.table
        assert epoch(gateway, 15) == then


# -- gone and back --------------------------------------------------------------------------------


def test_gone_and_back_with_the_mappings():
    gateway = world()
    said(gateway)
    assert not gateway.vanish(10).remove
    assert gateway.receive(mapping(), ALICE, 11).fate is Fate.REFUSED
    assert not gateway.come_back(20).remove
    assert len(gateway.machine.table) == 1
    assert epoch(gateway, 20) == EPOCH + 20


def test_gone_and_back_without_the_mappings():
    gateway = world()
    said(gateway)
    assert len(gateway.vanish(10, forget=True).remove) == 1
    gateway.come_back(20)
    assert epoch(gateway, 25) == 5, "it counts from its return"
    gateway.come_back(30)
    assert epoch(gateway, 35) == 15, "it was there already"


def test_what_was_forgotten_on_the_way_stays_forgotten():
    gateway = world()
    gateway.vanish(10, forget=True)
    gateway.vanish(15)
    gateway.come_back(20)
    assert epoch(gateway, 25) == 5


# -- announcements --------------------------------------------------------------------------------


def announced(gateway: Behaviour) -> list[tuple[float, Send]]:
    seen = []
    while (due := gateway.next_due) is not None:
        seen += [(due, send) for send in gateway.tick(due)[1]]
    return seen


def test_ten_announcements_each_gap_twice_the_one_before():
    gateway = world()
    gateway.announce(100.0, interface="br0")
    seen = announced(gateway)
    assert [at - 100 for at, _ in seen] == [0, 0.25, 0.75, 1.75, 3.75, 7.75, 15.75, 31.75, 63.75, 127.75]
    assert {(send.to, send.interface, send.source) for _, send in seen} == {(GROUP, "br0", Source.GATEWAY)}
    said_then = [natpmp.parse_address(send.data) for _, send in seen]
    assert said_then == [AddressAnswer(EPOCH + int(at), "198.51.100.11") for at, _ in seen]


def test_announcements_are_true_if_faults_meet_other_requests():
    gateway = world(says_address="192.0.2.1", opcodes={UDP, TCP})
    gateway.announce(0.0, 1)
    assert gateway.tick(0.0)[1][0].data == true(b"\0\0")


def test_announcements_are_mangled_and_a_gateway_that_is_gone_makes_none():
    gateway = world(says_address="192.0.2.1", epoch_rate=0.0)
    gateway.announce(0.0, 3, gap=1.0)
    first, *_ = gateway.tick(0.0)[1]
    assert natpmp.parse_address(first.data) == AddressAnswer(EPOCH, "192.0.2.1")
    gateway.vanish(0.5)
    assert gateway.tick(1.0)[1] == ()
    gateway.come_back(2.0)
    assert [at for at, _ in announced(gateway)] == [3.0]


def test_an_announcement_of_another_kind_and_expiry_in_between():
    gateway = world()
    said(gateway, mapping(lifetime=1))
    gateway.announce(0.0, 2, gap=2.0, message=lambda now: b"at %d" % now)
    assert [(at, send.data) for at, send in announced(gateway)] == [(0.0, b"at 0"), (2.0, b"at 2")]
    assert not gateway.machine.table


# -- switched off ---------------------------------------------------------------------------------

VALUES = {
    kinds.FLAG: st.booleans(),
    kinds.CHANCE: st.sampled_from([0.0, 0.3, 1.0]),
    kinds.COUNT: st.integers(1, 4),
    kinds.GROUP: st.integers(2, 4),
    kinds.SPAN: st.sampled_from([0.0, 1.0, (0.5, 2.0)]),
    kinds.RATE: st.sampled_from([0.0, 0.1, 20.0]),
    kinds.FACTOR: st.sampled_from([1.0, -1.0, 0.5, 3.0]),
    kinds.BYTE: st.integers(0, 255),
    kinds.CODE: st.sampled_from([0, 1, 2, 5, 9, 65535]),
    kinds.OCTETS: st.integers(0, 20),
    kinds.GRANT: st.integers(1, 5),
    kinds.LIFETIME: st.sampled_from([0, 1, 2**32 - 1]),
    kinds.ADDRESS: st.sampled_from(["0.0.0.0", "10.0.0.1", "198.51.100.12"]),
    kinds.SOURCE: st.sampled_from(["port", "address", True, False]),
    kinds.REQUESTS: st.sets(st.integers(0, 2)).map(frozenset),
}
switches = st.fixed_dictionaries({}, optional={name: VALUES[one.kind] for name, one in SWITCHES.items()})
requests = st.lists(
    st.tuples(
        st.sampled_from([b"\0\0", b"\0", *(mapping(o, i, w, t) for o in (1, 2) for i, w in ((0, 1), (0, 0), (5000, 0)) for t in (0, 60))]),
        st.floats(0, 3),
    ),
    max_size=20,
)  # fmt: skip


def test_every_kind_of_switch_is_tried():
    assert {one.kind for one in SWITCHES.values()} == set(VALUES)


@given(switches, requests, requests, st.lists(st.sampled_from(["refuse_next", "silent_next", "lose_answers_next"])))
def test_when_all_is_off_nothing_remains(wrong, before, after, counted):
    now = 0.0
    gateway = world(**wrong)
    for count in counted:
        getattr(gateway.faults, count)(2)
    for data, pause in before:
        now += pause
        gateway.receive(data, ALICE, now)
    gateway.faults.clear()
    assert {name: getattr(gateway.faults, name) for name in SWITCHES} == {
        name: one.default for name, one in SWITCHES.items()
    }
    machine = copy.deepcopy(gateway.machine)
    for data, pause in after:
        now += pause
        outcome = gateway.receive(data, ALICE, now)
        healthy = machine.handle(data, ALICE[0], now)
        assert outcome.step == healthy
        if healthy.answer is None:
            assert (outcome.fate, outcome.sends) == (Fate.MALFORMED, ())
        else:
            assert (outcome.fate, outcome.sends) == (Fate.ANSWERED, (Send(healthy.answer, ALICE),))


@given(switches, requests)
def test_the_same_run_goes_alike_again(wrong, history):
    def run():
        gateway, now = world(**wrong), 0.0
        for data, pause in history:
            now += pause
            yield gateway.receive(data, ALICE, now)

    assert list(run()) == list(run())


@given(switches, requests)
def test_mappings_end_in_time_whatever_is_wrong(wrong, history):
    gateway, now = world(**wrong), 0.0
    for data, pause in history:
        now += pause
        gateway.receive(data, ALICE, now)
    gateway.tick(now + 60)
    assert not gateway.machine.table
