"""PCP messages byte by byte (RFC 6887), and whatever else may arrive."""

from __future__ import annotations

import ipaddress
import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from mock_provider import pcp_wire as wire
from vpnpf.model import Protocol
from vpnpf.protocol.pcp import (
    LONGEST_LIFETIME,
    AnnounceAnswer,
    ErrorAnswer,
    Filter,
    MapAnswer,
    MapRequest,
    NatPmpOnly,
    Result,
    encode_announce,
    encode_map,
    packed,
    parse_announce,
    parse_map,
)

UDP, TCP = Protocol.UDP, Protocol.TCP
NUMBER = {TCP: 6, UDP: 17}
NONCE = bytes(range(12))
WANTED = MapRequest("10.2.0.2", NONCE, TCP, 6881, lifetime=7200, external_port=40000)

US = "00000000000000000000ffff0a020002"
ANYWHERE = "00000000000000000000ffff00000000"
EXIT = "00000000000000000000ffffc633640b"
BODY = "000102030405060708090a0b 06 000000 1ae1"
ASKED = f"0201 0000 00001c20 {US} {BODY} 9c40 {ANYWHERE}"
GRANTED = bytes.fromhex(f"0281 00 00 00000e10 00123456 {'00' * 12} {BODY} 9c40 {EXIT}")
REFUSED = bytes.fromhex(f"0281 00 08 0000001e 00123456 {'00' * 12} {BODY} 9c40 {ANYWHERE}")
PREFER_FAILURE, FILTER = "02000000", f"03000014 0078 0000 {EXIT[:24]} cb007100"

ports = st.integers(1, 65535)
words = st.integers(0, 2**32 - 1)
addresses = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)).map(str)


def with_result(result: int, lifetime: int = 0, data: bytes = GRANTED) -> bytes:
    return data[:3] + bytes([result]) + lifetime.to_bytes(4) + data[8:]


# -- requests -------------------------------------------------------------------------------------


def test_announce_is_a_header():
    assert encode_announce("10.2.0.2") == bytes.fromhex(f"0200 0000 00000000 {US}")
    assert encode_announce("fd00::2") == bytes.fromhex("0200 0000 00000000 fd000000000000000000000000000002")


@pytest.mark.parametrize(
    ("changes", "on_the_wire"),
    [
        ({}, ASKED),
        ({"protocol": UDP}, ASKED.replace("0b 06", "0b 11")),
        ({"external_port": 0}, ASKED.replace("9c40", "0000")),
        ({"external_address": "198.51.100.11"}, ASKED.replace(ANYWHERE, EXIT)),
        ({"prefer_failure": True}, ASKED + PREFER_FAILURE),
        ({"filters": (Filter("203.0.113.0/24"),)}, ASKED + FILTER),
        (
            {"prefer_failure": True, "filters": (Filter(None), Filter("2001:db8::/32", 6881))},
            f"{ASKED} {PREFER_FAILURE} 03000014 {'00' * 20} 03000014 0020 1ae1 20010db8 {'00' * 12}",
        ),
        ({"lifetime": 0, "external_port": 0}, ASKED.replace("00001c20", "00000000").replace("9c40", "0000")),
        (
            {"client": "fd00::2"},
            ASKED.replace(US, "fd000000000000000000000000000002").replace(ANYWHERE, "00" * 16),
        ),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "",
)
def test_map_is_asked_for_as_documented(changes, on_the_wire):
    request = encode_map(replace(WANTED, **changes))
    assert request == bytes.fromhex(on_the_wire)
    assert len(request) % 4 == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": b"short"},
        {"nonce": bytes(13)},
        {"internal_port": 0},
        {"internal_port": 65536},
        {"external_port": -1},
        {"external_port": 65536},
        {"lifetime": -1},
        {"lifetime": 2**32},
        {"lifetime": 0},
        {"lifetime": 0, "external_port": 0, "external_address": "198.51.100.11"},
        {"external_port": 0, "prefer_failure": True},
    ],
    ids=repr,
)
def test_what_a_server_would_call_malformed_cannot_be_asked_for(changes):
    with pytest.raises(ValueError, match=r"nonce|port|lifetime|wish"):
        replace(WANTED, **changes)


@pytest.mark.parametrize(
    ("network", "port"),
    [("0.0.0.0/0", 0), ("::/0", 0), ("203.0.113.1/24", 0), ("nowhere", 0), (None, 1), ("203.0.113.1", 65536)],
)
def test_filters_that_say_something_else_than_they_seem_to_cannot_be_made(network, port):
    with pytest.raises(ValueError, match=r"clear|host bits|IPv6|port"):
        Filter(network, port)


@given(
    st.builds(
        MapRequest,
        client=st.ip_addresses(v=4).map(str),
        nonce=st.binary(min_size=12, max_size=12),
        protocol=st.sampled_from(Protocol),
        internal_port=ports,
        lifetime=st.integers(1, 2**32 - 1),
        external_port=ports,
        external_address=st.none() | st.ip_addresses(v=4).map(str),
        prefer_failure=st.booleans(),
        filters=st.lists(st.builds(Filter, st.none() | st.ip_addresses().map(str)), max_size=4).map(tuple),
    )
)
def test_a_server_reads_what_was_written(wanted):
    data = encode_map(wanted)
    assert data[8:24] == wire.mapped(wanted.client)
    read, processed = wire.read_map(data)
    assert data[60:] == processed
    assert (read.nonce, read.number, read.internal) == (wanted.nonce, NUMBER[wanted.protocol], wanted.internal_port)
    assert (read.external, read.lifetime) == (wanted.external_port, wanted.lifetime)
    assert read.address == packed(wanted.external_address or "0.0.0.0")
    assert read.prefer_failure == wanted.prefer_failure
    assert read.filters == tuple(each.data for each in wanted.filters)


# -- answers --------------------------------------------------------------------------------------


def test_a_grant():
    assert parse_map(GRANTED, WANTED) == MapAnswer(0x123456, 6881, 40000, "198.51.100.11", 3600)


def test_options_are_walked_over_by_their_length():
    unknown = bytes.fromhex("f0000005 0102030405 000000")
    answer = parse_map(GRANTED + bytes.fromhex(PREFER_FAILURE + FILTER) + unknown, WANTED)
    assert answer == MapAnswer(0x123456, 6881, 40000, "198.51.100.11", 3600, (2, 3, 240))


@pytest.mark.parametrize("options", ["02000001", "03000014 00", "03000018" + "00" * 20, "0200000000000005 01"])
def test_options_that_do_not_fill_the_datagram_make_it_no_answer(options):
    data = GRANTED + bytes.fromhex(options)
    assert parse_map(data + bytes(-len(data) % 4), WANTED) is None


@pytest.mark.parametrize(
    ("raw", "address"),
    [
        (EXIT, "198.51.100.11"),
        (ANYWHERE, None),
        ("00" * 16, None),
        ("20010db8000000000000000000000001", "2001:db8::1"),
    ],
)
def test_the_external_address_is_canonical(raw, address):
    assert parse_map(GRANTED[:44] + bytes.fromhex(raw), WANTED).external_address == address


@pytest.mark.parametrize(("granted", "kept"), [(1, 1), (86400, 86400), (86401, 86400), (2**32 - 1, 86400)])
def test_a_lifetime_of_more_than_a_day_is_a_day(granted, kept):
    assert (
        parse_map(GRANTED[:4] + granted.to_bytes(4) + GRANTED[8:], WANTED).lifetime
        == kept
        == min(kept, LONGEST_LIFETIME)
    )


def test_the_end_of_a_mapping():
    wanted = replace(WANTED, lifetime=0, external_port=0)
    gone = GRANTED[:4] + bytes(4) + GRANTED[8:42] + bytes(2) + bytes.fromhex(ANYWHERE)
    assert parse_map(gone, wanted) == MapAnswer(0x123456, 6881, 0, None, 0)


def test_external_port_0_is_no_grant():
    assert parse_map(GRANTED[:42] + bytes(2) + GRANTED[44:], WANTED) is None


def test_a_sign_of_life():
    data = bytes.fromhex(f"0280 00 00 00000000 00000007 {'00' * 12}")
    assert parse_announce(data) == AnnounceAnswer(7)
    assert parse_announce(data + bytes.fromhex("f0000000")) == AnnounceAnswer(7)
    assert parse_announce(data + bytes.fromhex("f0000001")) is None
    assert parse_announce(with_result(Result.UNSUPP_OPCODE, data=data)) == ErrorAnswer(4, 1800, 7)
    assert parse_announce(GRANTED) is None
    assert parse_map(data, WANTED) is None


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", [*list(Result)[1:], 14, 255])
def test_errors_say_how_long_they_hold(result):
    short = result in {7, 8, 10}
    assert parse_map(with_result(result), WANTED) == ErrorAnswer(result, 30 if short else 1800, 0x123456)
    assert parse_map(with_result(result, 77), WANTED) == ErrorAnswer(result, 77, 0x123456)
    assert parse_map(with_result(result, 2**32 - 1), WANTED).lifetime == LONGEST_LIFETIME
    assert parse_map(with_result(result), WANTED).long is not short


def test_errors_in_words():
    assert str(parse_map(REFUSED, WANTED)) == "no resources (result 8)"
    assert str(ErrorAnswer(99, 30)) == "result 99"


@pytest.mark.parametrize("result", list(Result)[1:])
def test_only_a_server_that_cannot_have_read_the_request_may_leave_it_out(result):
    answer = parse_map(with_result(result)[:24], WANTED)
    assert (answer is not None) == (result in {Result.UNSUPP_VERSION, Result.UNSUPP_OPCODE})


@pytest.mark.parametrize("version", [1, 3, 255])
def test_another_version_is_heard_only_where_it_says_so(version):
    data = bytes([version]) + with_result(Result.UNSUPP_VERSION)[1:]
    assert parse_map(data, WANTED) == ErrorAnswer(1, 1800, 0x123456, version)
    assert parse_map(data[:24], WANTED).version == version
    assert parse_map(bytes([version]) + GRANTED[1:], WANTED) is None
    assert parse_map(bytes([version]) + REFUSED[1:], WANTED) is None


@pytest.mark.parametrize("opcode", [0, 1, 128, 129])
def test_a_gateway_that_speaks_nat_pmp_only(opcode):
    answer = bytes([0, opcode]) + bytes.fromhex("0001 00123456")
    for data in (answer, answer + bytes(4), answer + bytes(8)):
        assert parse_map(data, WANTED) == parse_announce(data) == NatPmpOnly(0x123456)
    assert parse_map(answer[:7], WANTED) is None
    assert parse_map(answer + bytes(9), WANTED) is None
    assert parse_map(answer[:2] + bytes.fromhex("0002 00123456"), WANTED) is None
    assert parse_map(answer[:2] + bytes.fromhex("0101 00123456"), WANTED) is None


# -- whatever else --------------------------------------------------------------------------------


@pytest.mark.parametrize("good", [GRANTED, REFUSED])
def test_a_part_of_an_answer_is_none(good):
    for length in range(len(good)):
        assert parse_map(good[:length], WANTED) is None
    for more in range(1, 4):
        assert parse_map(good + bytes(more), WANTED) is None


@pytest.mark.parametrize("good", [GRANTED, REFUSED])
def test_an_answer_has_at_most_1100_bytes(good):
    options = bytes.fromhex("f0000000")
    assert parse_map(good + options * 260, WANTED) is not None
    assert parse_map(good + options * 261, WANTED) is None


@pytest.mark.parametrize("good", [GRANTED, REFUSED])
@pytest.mark.parametrize(
    "other",
    [
        {"nonce": bytes(12)},
        {"nonce": NONCE[:11] + b"\0"},
        {"protocol": UDP},
        {"internal_port": 6882},
    ],
    ids=repr,
)
def test_answers_to_another_request_are_none(good, other):
    assert parse_map(good, replace(WANTED, **other)) is None


def test_a_request_that_comes_back_is_no_answer():
    assert parse_map(encode_map(WANTED), WANTED) is None
    assert parse_announce(encode_announce("10.2.0.2")) is None


@given(st.one_of(st.binary(max_size=1200), st.binary(max_size=80).map(lambda tail: GRANTED[:4] + tail)))
@example(b"")
@example(bytes(8))
@example(bytes.fromhex("0000000100000000"))
def test_any_bytes_are_read_or_dropped(data):
    for answer in (parse_map(data, WANTED), parse_announce(data)):
        assert answer is None or isinstance(answer, MapAnswer | AnnounceAnswer | ErrorAnswer | NatPmpOnly)


@given(st.sampled_from([GRANTED, REFUSED]), st.lists(st.tuples(st.integers(0, 59), st.integers(0, 255)), max_size=6))
def test_no_mutation_is_taken_for_the_answer_to_another_request(good, mutations):
    data = bytearray(good)
    for place, value in mutations:
        data[place] = value
    answer = parse_map(bytes(data), WANTED)
    if answer is None or isinstance(answer, NatPmpOnly):
        return
    assert data[1] == 0x81
    assert (data[24:37], data[40:42]) == (good[24:37], good[40:42])
    assert data[0] == 2 or (data[3] == 1 and isinstance(answer, ErrorAnswer))
    if isinstance(answer, MapAnswer):
        assert data[3] == 0
        assert 0 <= answer.lifetime <= LONGEST_LIFETIME
        assert answer.external_port != 0 or answer.lifetime == 0
    else:
        assert 1 <= answer.lifetime <= LONGEST_LIFETIME


@given(
    st.binary(min_size=12, max_size=12),
    st.sampled_from(Protocol),
    ports,
    ports,
    addresses,
    words,
    words,
    st.integers(0, 3),
)
def test_a_client_reads_what_was_answered(nonce, protocol, internal, external, address, lifetime, epoch, filters):
    wanted = MapRequest("10.2.0.2", nonce, protocol, internal, lifetime=60)
    data = struct.pack("!BBBBII12x", 2, 0x81, 0, 0, lifetime, epoch)
    data += struct.pack("!12sB3xHH16s", nonce, NUMBER[protocol], internal, external, packed(address))
    data += bytes.fromhex(FILTER) * filters
    ip = ipaddress.ip_address(address)
    ip = getattr(ip, "ipv4_mapped", None) or ip
    known = None if ip.is_unspecified else str(ip)
    lifetime = min(lifetime, LONGEST_LIFETIME)
    assert parse_map(data, wanted) == MapAnswer(epoch, internal, external, known, lifetime, (3,) * filters)
