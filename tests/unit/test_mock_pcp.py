"""The mock gateway's PCP: RFC 6887 check by check, the table it shares with NAT-PMP, and every history."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_provider import pcp_wire
from mock_provider.faults import Fate, Faults
from mock_provider.gateway import Request
from mock_provider.natpmp import Dnat
from mock_provider.pcp import Owner, PcpMachine
from vpnpf.model import Protocol

ALICE, BOB = "10.2.0.2", "10.2.0.3"
TCP, UDP, ICMP = 6, 17, 1
MINE, OTHER = b"m" * 12, b"o" * 12
PREFER_FAILURE = bytes.fromhex("02000000")
FILTER = bytes.fromhex("03000014 00780000") + bytes(10) + bytes.fromhex("ffffcb007100")
CLEAR = bytes.fromhex("03000014") + bytes(20)
THIRD_PARTY = bytes.fromhex("01000010") + bytes(10) + bytes.fromhex("ffff0a020003")
UNSUPPORTED_0 = bytes.fromhex("00800001 00123456")
NATPMP_MAP_UDP = struct.pack("!BBHHHI", 0, 1, 0, 6881, 0, 7200)


def mapped(address: str) -> bytes:
    return bytes(10) + b"\xff\xff" + bytes(map(int, address.split(".")))


def request(
    number: int = TCP,
    internal: int = 6881,
    external: int = 0,
    lifetime: int = 7200,
    nonce: bytes = MINE,
    options: bytes = b"",
    client: str = ALICE,
    address: str = "0.0.0.0",
) -> bytes:
    body = struct.pack("!12sB3xHH16s", nonce, number, internal, external, mapped(address))
    return struct.pack("!BBHI", 2, 1, 0, lifetime) + mapped(client) + body + options


def machine(*, faults: Faults | None = None, now: float = 0.0, **options) -> PcpMachine:
    return PcpMachine(faults or Faults(), now=now, choose=min, epoch=0x123456, **options)


def say(gateway: PcpMachine, data: bytes, now: float = 0.0, client: str = ALICE) -> bytes:
    answer = gateway.handle(data, client, now).answer
    assert answer is not None
    assert len(answer) % 4 == 0
    assert 24 <= len(answer) <= 1100
    assert answer[:3] == bytes([2, data[1] | 128, 0])
    assert answer[8:24] == gateway.epoch(now).to_bytes(4) + bytes(12)
    return answer


def ask(gateway: PcpMachine, *arguments, now: float = 0.0, client: str = ALICE, **options) -> tuple[int, int, int]:
    """Result, external port, lifetime."""
    data = request(*arguments, client=client, **options)
    answer = say(gateway, data, now, client)
    assert answer[24:42] == data[24:42], "nonce, protocol and internal port come back"
    return answer[3], struct.unpack_from("!H", answer, 42)[0], int.from_bytes(answer[4:8])


# -- the messages ---------------------------------------------------------------------------------


def test_bytes_on_the_wire():
    gateway = machine()
    step = gateway.handle(bytes.fromhex("0200 0000 00000000 00000000000000000000ffff0a020002"), ALICE, 0.5)
    assert step.answer == bytes.fromhex("0280 00 00 00000000 00123456") + bytes(12)
    step = gateway.handle(
        bytes.fromhex(
            "0201 0000 00001c20 00000000000000000000ffff0a020002"
            "000102030405060708090a0b 06 000000 1ae1 9c40 00000000000000000000ffff00000000"
        ),
        ALICE,
        0.5,
    )
    assert step.answer == bytes.fromhex(
        "0281 00 00 00001c20 00123456 000000000000000000000000"
        "000102030405060708090a0b 06 000000 1ae1 9c40 00000000000000000000ffffc633640b"
    )
    assert step.add == (Dnat(Protocol.TCP, 40000, ALICE, 6881),)


@pytest.mark.parametrize("speaks", ["both", "pcp-only"])
@pytest.mark.parametrize(
    ("data", "result"),
    [
        (b"", None),
        (b"\2", None),
        (b"\2\1", None),
        (request()[:23], None),
        (b"\2\x81" + request()[2:], None),
        (b"\1\1" + request()[2:], 1),
        (b"\3\1", 1),
        (request()[:24], 3),
        (request()[:56], 3),
        (request() + b"\0", 3),
        (request() + bytes(1044), 3),
        (b"\2\2" + request()[2:], 4),
        (b"\2\x7f" + request()[2:], 4),
        (request(client=BOB), 12),
        (b"\2\0\0\0" + bytes(4) + mapped(BOB), 12),
        (request(options=bytes.fromhex("7f000000")), 5),
        (request(options=THIRD_PARTY), 5),
        (request(options=bytes.fromhex("02000004 00000000"), external=1), 6),
        (request(options=bytes.fromhex("02000008 00000000"), external=1), 6),
        (request(options=PREFER_FAILURE), 6),
        (request(options=PREFER_FAILURE * 2, external=40000), 6),
        (request(options=FILTER[:4] + b"\0\x60" + FILTER[6:]), 6),
        (request(options=FILTER[:4] + b"\0\x81" + FILTER[6:]), 6),
        (request(options=CLEAR[:-1] + b"\1"), 6),
        (b"\2\0\0\0" + bytes(4) + mapped(ALICE) + PREFER_FAILURE, 6),
        (request(ICMP), 9),
        (request(internal=0), 9),
        (request(0, 0), 9),
        (request(0, 1), 3),
        (request(ICMP, lifetime=0), 9),
    ],
)
def test_checks_in_their_order(speaks, data, result):
    gateway = machine(speaks=speaks)
    step = gateway.handle(data, ALICE, 0)
    assert not gateway.table
    if result is None:
        assert step.answer is None
        return
    answer = step.answer
    assert answer[:4] == bytes([2, data[1] | 128, 0, result])
    assert answer[4:8] == (1800).to_bytes(4)
    copied = data[24:1100]
    assert answer[24:] == copied + bytes(-len(copied) % 4)


def test_an_optional_option_that_is_not_known_is_left_out_of_the_answer():
    answer = say(machine(), request(external=40000, options=bytes.fromhex("f0000001 01000000") + PREFER_FAILURE))
    assert answer[3] == 0
    assert answer[60:] == PREFER_FAILURE


@pytest.mark.parametrize(("asked", "granted"), [(1, 120), (120, 120), (7200, 7200), (86400, 86400), (2**32 - 1, 86400)])
def test_lifetimes_are_from_2_minutes_to_a_day(asked, granted):
    assert ask(machine(), lifetime=asked)[2] == granted


@pytest.mark.parametrize(("asked", "granted"), [(1, 4), (60, 4), (7200, 4)])
def test_the_gateways_own_limit_comes_last(asked, granted):
    assert ask(machine(lifetime=4), lifetime=asked)[2] == granted


# -- mappings -------------------------------------------------------------------------------------


def test_a_wish_is_honoured_if_the_port_is_free_and_else_the_next_is_given():
    gateway = machine()
    assert ask(gateway, TCP, 6881, 40000) == (0, 40000, 7200)
    assert ask(gateway, TCP, 6881, 40000, client=BOB) == (0, 40001, 7200)
    assert ask(gateway, UDP, 6882) == (0, 6882, 7200), "no wish: the internal number"
    assert ask(gateway, UDP, 6881, 50000) == (0, 40000, 7200), "the number is reserved in the other protocol"


def test_prefer_failure_gives_the_wish_or_nothing():
    gateway = machine()
    assert ask(gateway, TCP, 6881, 40000, options=PREFER_FAILURE)[0] == 0
    before = gateway.table
    assert ask(gateway, TCP, 6881, 40000, options=PREFER_FAILURE, client=BOB) == (11, 40000, 1800)
    assert ask(gateway, TCP, 6881, 50000, options=PREFER_FAILURE)[0] == 11, "mapped to another port"
    assert ask(gateway, UDP, 6881, 50000, options=PREFER_FAILURE)[0] == 11
    assert ask(gateway, UDP, 6882, 80, options=PREFER_FAILURE)[0] == 11
    assert ask(gateway, UDP, 6881, 40000, options=PREFER_FAILURE, address="192.0.2.1")[0] == 11
    assert gateway.table == before
    assert ask(gateway, UDP, 6881, 40000, options=PREFER_FAILURE, address="198.51.100.11")[0] == 0
    assert ask(gateway, TCP, 6881, 40000, options=PREFER_FAILURE)[0] == 0, "renewed"
    assert len(gateway.table) == 2


def test_a_refusal_under_prefer_failure_leaves_no_trace():
    gateway = machine(faults=Faults(tcp_differs=True))
    assert ask(gateway, UDP, 6881, 40000)[0] == 0
    assert ask(gateway, TCP, 6881, 40000, options=PREFER_FAILURE)[0] == 11
    assert gateway.table == {Dnat(Protocol.UDP, 40000, ALICE, 6881)}
    gateway.faults.tcp_differs = False
    assert ask(gateway, TCP, 6881, 40000, options=PREFER_FAILURE)[0] == 0


def test_another_nonce_is_refused_for_as_long_as_the_mapping_lasts():
    gateway = machine()
    ask(gateway, TCP, 6881, 40000, 600)
    assert ask(gateway, TCP, 6881, 40000, 7200, OTHER, now=100.5) == (2, 40000, 500)
    assert ask(gateway, TCP, 6881, 0, 0, OTHER, now=100.5)[0] == 2
    assert ask(gateway, UDP, 6881, 0, 7200, OTHER)[0] == 0, "the other protocol is another mapping"
    assert ask(gateway, TCP, 6881, 0, 7200, OTHER, client=BOB)[0] == 0
    assert ask(gateway, TCP, 6881, 40000, 600, now=599)[0] == 0, "renewed"
    assert ask(gateway, TCP, 6881, 40000, 600, OTHER, now=1198)[0] == 2
    assert ask(gateway, TCP, 6881, 40000, 600, OTHER, now=1199)[0] == 0, "it ended"


def test_deleting():
    gateway = machine()
    ask(gateway, TCP, 6881, 40000)
    ask(gateway, UDP, 6881, 40000)
    assert ask(gateway, TCP, 6881, 0, 0) == (0, 0, 0)
    assert gateway.table == {Dnat(Protocol.UDP, 40000, ALICE, 6881)}
    assert ask(gateway, TCP, 6881, 0, 0) == (0, 0, 0), "also when nothing was there"
    assert ask(gateway, TCP, 6881, 40000, nonce=OTHER)[0] == 0, "and it is anybody's again"


def test_deleting_all_takes_those_of_the_nonce():
    gateway = machine()
    for number, internal, nonce in ((TCP, 1, MINE), (UDP, 1, MINE), (TCP, 2, OTHER), (UDP, 3, MINE)):
        ask(gateway, number, internal + 2000, nonce=nonce)
    ask(gateway, TCP, 2001, client=BOB)
    assert ask(gateway, UDP, 0, 0, 0) == (0, 0, 0)
    assert {(rule.address, rule.internal_port) for rule in gateway.table} == {(ALICE, 2001), (ALICE, 2002), (BOB, 2001)}
    assert ask(gateway, 0, 0, 0, 0) == (0, 0, 0)
    assert {(rule.address, rule.internal_port) for rule in gateway.table} == {(ALICE, 2002), (BOB, 2001)}


def test_filters_are_kept_until_they_are_cleared():
    gateway = machine()
    other = FILTER[:-2] + b"\x72\0"
    for options, kept in (
        (FILTER, (FILTER,)),
        (b"", (FILTER,)),
        (other + FILTER, (FILTER, other)),
        (CLEAR + other, (other,)),
        (CLEAR, ()),
    ):
        answer = say(gateway, request(external=40000, options=options))
        assert answer[60:] == options
        assert gateway.owners == {
            Dnat(Protocol.TCP, 40000, ALICE, 6881): Owner(MINE, tuple(each[4:] for each in kept)),
        }


def test_a_restart_forgets_the_nonces_too():
    gateway = machine()
    ask(gateway, TCP, 6881, 40000)
    gateway.reset_epoch(10)
    assert not gateway.table
    assert not gateway.owners
    assert gateway.announcement(12.5) == bytes.fromhex("0280 00 00 00000000 00000002") + bytes(12)
    assert ask(gateway, TCP, 6881, 40000, nonce=OTHER, now=13)[0] == 0


@pytest.mark.parametrize(("result", "seconds"), [(2, 1800), (7, 30), (8, 30), (10, 30), (11, 1800)])
def test_forced_results_change_nothing(result, seconds):
    gateway = machine(faults=Faults(result=result))
    assert ask(gateway, TCP, 6881, 40000) == (result, 40000, seconds)
    assert say(gateway, b"\2\0\0\0" + bytes(4) + mapped(ALICE))[3] == result
    assert not gateway.table


def test_no_port_left_is_no_resources():
    gateway = machine(mode="proton", ports=[40000])
    assert ask(gateway, TCP, 6881)[:2] == (0, 40000)
    assert ask(gateway, TCP, 6882) == (8, 0, 30)


# -- both protocols -------------------------------------------------------------------------------


def test_versions():
    announce = b"\2\0\0\0" + bytes(4) + mapped(ALICE)
    for speaks, natpmp, pcp in (
        ("natpmp-only", bytes.fromhex("00800000 00123456 c633640b"), UNSUPPORTED_0),
        ("both", bytes.fromhex("00800000 00123456 c633640b"), bytes.fromhex("02800000 00000000 00123456") + bytes(12)),
        (
            "pcp-only",
            bytes.fromhex("02800001 00000708 00123456") + bytes(12),
            bytes.fromhex("02800000 00000000 00123456") + bytes(12),
        ),
    ):
        gateway = machine(speaks=speaks)
        assert gateway.handle(b"\0\0", ALICE, 0).answer == natpmp
        assert gateway.handle(announce, ALICE, 0).answer == pcp


def test_a_pcp_only_gateway_maps_nothing_for_nat_pmp():
    gateway = machine(speaks="pcp-only")
    answer = gateway.handle(NATPMP_MAP_UDP, ALICE, 0).answer
    assert answer == bytes.fromhex("02810001 00000708 00123456") + bytes(12)
    assert not gateway.table


def test_a_gateway_that_cannot_speak_so_is_named():
    with pytest.raises(ValueError, match="speak 'upnp': there are natpmp-only, both, pcp-only"):
        machine(speaks="upnp")


def test_nat_pmp_cannot_touch_what_has_a_nonce():
    gateway = machine()
    ask(gateway, UDP, 6881, 40000)
    refused = bytes.fromhex("0081 0002 00123456 1ae1 0000 00000000")
    assert gateway.handle(NATPMP_MAP_UDP, ALICE, 0).answer == refused
    assert gateway.handle(NATPMP_MAP_UDP[:8] + bytes(4), ALICE, 0).answer == refused
    gateway.handle(struct.pack("!BBHHHI", 0, 1, 0, 6882, 0, 7200), ALICE, 0)
    gateway.handle(struct.pack("!BBHHHI", 0, 2, 0, 6881, 0, 7200), ALICE, 0)
    assert len(gateway.table) == 3
    gateway.handle(struct.pack("!BBHHHI", 0, 1, 0, 0, 0, 0), ALICE, 0)
    assert gateway.table == {Dnat(Protocol.UDP, 40000, ALICE, 6881), Dnat(Protocol.TCP, 40000, ALICE, 6881)}


def test_what_nat_pmp_mapped_goes_to_the_first_nonce():
    gateway = machine()
    gateway.handle(NATPMP_MAP_UDP, ALICE, 0)
    assert ask(gateway, UDP, 6881, 50000) == (0, 6881, 7200)
    assert ask(gateway, UDP, 6881, 50000, nonce=OTHER)[0] == 2
    assert gateway.handle(NATPMP_MAP_UDP, ALICE, 0).answer[3] == 2


def test_what_is_logged():
    gateway = machine()
    data = request(UDP, 6881, 40000, 60)
    answer = gateway.handle(data, ALICE, 0).answer
    seen = Request(0.0, ALICE, data, Fate.ANSWERED, answer)
    assert (seen.opcode, seen.is_pcp, seen.ports, seen.granted) == (1, True, (6881, 40000, 60), (0, 6881, 40000, 120))
    assert str(seen) == "10.2.0.2: pcp udp internal 6881, wish 40000, 60 s -> internal 6881, external 40000, 120 s"
    refused = gateway.handle(request(UDP, 6881, nonce=OTHER), ALICE, 0).answer
    assert str(Request(0.0, ALICE, data, Fate.ANSWERED, refused)).endswith("-> result 2")
    assert pcp_wire.words(b"\2\0") == "pcp announce?"
    assert pcp_wire.words(b"\2\5") == "pcp opcode 5"


# -- whatever happens -----------------------------------------------------------------------------

options = st.lists(st.sampled_from([PREFER_FAILURE, FILTER, CLEAR, b"\xf0\0\0\0"]), max_size=2).map(b"".join)
pcp_requests = st.builds(
    request,
    st.sampled_from([TCP, UDP, TCP, UDP, 0, ICMP]),
    st.sampled_from([0, 40000, 40001, 40002, 50000]),
    st.sampled_from([0, 40000, 40001, 65535]),
    st.sampled_from([0, 1, 7200]),
    st.sampled_from([MINE, OTHER]),
    options,
    st.sampled_from([ALICE, ALICE, BOB]),
)
natpmp_requests = st.builds(
    lambda opcode, internal, wish, lifetime: struct.pack("!BBHHHI", 0, opcode, 0, internal, wish, lifetime),
    st.sampled_from([1, 2]),
    st.sampled_from([0, 40000, 40001, 50000]),
    st.sampled_from([0, 1, 40000]),
    st.sampled_from([0, 60]),
)
histories = st.lists(
    st.tuples(
        st.sampled_from([ALICE, BOB]),
        st.one_of(pcp_requests, natpmp_requests, st.binary(max_size=70)),
        st.floats(0, 3),
    ),
    max_size=40,
)


@given(histories, st.sampled_from(["proton", "rfc"]), st.data())
def test_every_history(history, mode, data):
    """Steps add up to the table, an owner has a mapping, nobody loses one to another nonce, grants end in time."""
    now = 0.0
    faults = Faults(tcp_differs=data.draw(st.booleans()), rotate_after=data.draw(st.none() | st.integers(1, 3)))
    gateway = PcpMachine(faults, now=now, mode=mode, lifetime=4, ports=range(40000, 40012), choose=min)
    table: set[Dnat] = set()
    for client, sent, pause in history:
        now += pause
        gateway.expire(now)
        table = set(gateway.table)
        owners = {(rule.address, rule.protocol, rule.internal_port): owner for rule, owner in gateway.owners.items()}
        step = gateway.handle(sent, client, now)
        assert set(step.remove) <= table
        assert not set(step.add) & table
        table = (table - set(step.remove)) | set(step.add)
        assert table == gateway.table
        assert set(gateway.owners) <= table
        assert len({(rule.protocol, rule.external_port) for rule in table}) == len(table)
        nonce = sent[24:36] if sent[:2] == b"\2\1" else b""
        after = {(rule.address, rule.protocol, rule.internal_port): owner for rule, owner in gateway.owners.items()}
        for place, owner in owners.items():
            assert owner.nonce == nonce or after.get(place) == owner
        if step.answer is not None and step.answer[:2] == b"\2\x81" and len(step.answer) >= 60 and step.answer[3] == 0:
            external, lifetime = struct.unpack_from("!H", step.answer, 42)[0], int.from_bytes(step.answer[4:8])
            assert lifetime <= 4
            protocol = pcp_wire.PROTOCOLS.get(sent[36])
            ours = {rule for rule in table if (rule.address, rule.protocol) == (client, protocol)}
            assert lifetime == 0 or external in {rule.external_port for rule in ours}
        assert gateway.next_expiry is None or now < gateway.next_expiry <= now + 4
    gateway.expire(now + 5)
    assert not gateway.table
    assert not gateway.owners


@given(st.lists(st.tuples(pcp_requests, st.floats(0, 3)), max_size=30))
def test_asking_again_changes_nothing_but_the_time(history):
    gateway = machine(lifetime=4)
    now = 0.0
    for sent, pause in history:
        now += pause
        first = gateway.handle(sent, ALICE, now).answer
        again = gateway.handle(sent, ALICE, now)
        assert again.answer == first
        assert (again.add, again.remove) == ((), ())
