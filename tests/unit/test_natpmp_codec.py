"""NAT-PMP messages byte by byte (RFC 6886), and whatever else may arrive."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from vpnpf.model import Protocol
from vpnpf.protocol.natpmp import (
    LONGEST_LIFETIME,
    AddressAnswer,
    ErrorAnswer,
    MappingAnswer,
    Result,
    address_request,
    mapping_request,
    parse_address,
    parse_mapping,
)

UDP, TCP = Protocol.UDP, Protocol.TCP
OPCODE = {UDP: 1, TCP: 2}
OTHER = {UDP: TCP, TCP: UDP}

ports = st.integers(1, 65535)
protocols = st.sampled_from(Protocol)
words = st.integers(0, 2**32 - 1)


def mapped(protocol: Protocol, internal: int, external: int, lifetime: int, epoch: int = 1193046, result: int = 0):
    return struct.pack("!BBHIHHI", 0, 128 + OPCODE[protocol], result, epoch, internal, external, lifetime)


# -- requests -------------------------------------------------------------------------------------


def test_the_external_address_is_asked_for_with_two_bytes():
    assert address_request() == bytes.fromhex("0000")


@pytest.mark.parametrize(
    ("request_of", "on_the_wire"),
    [
        ((UDP, 0, 1, 60), "000100000000000100 00003c"),
        ((TCP, 0, 1, 60), "000200000000000100 00003c"),
        ((UDP, 41877, 41877, 60), "00010000a395a395 0000003c"),
        ((TCP, 41877, 0, 0), "00020000a3950000 00000000"),
        ((UDP, 65535, 65535, 2**32 - 1), "00010000ffffffff ffffffff"),
    ],
)
def test_mappings_are_asked_for_as_documented(request_of, on_the_wire):
    assert mapping_request(*request_of) == bytes.fromhex(on_the_wire)


@pytest.mark.parametrize("external", [0, 1, 41877])
def test_the_request_that_would_delete_every_mapping_cannot_be_made(external):
    with pytest.raises(ValueError, match="every mapping"):
        mapping_request(TCP, 0, external, 0)


@pytest.mark.parametrize(
    "numbers", [(-1, 1, 60), (65536, 1, 60), (1, -1, 60), (1, 65536, 60), (1, 1, -1), (1, 1, 2**32)]
)
def test_numbers_that_do_not_fit_are_a_value_error(numbers):
    with pytest.raises(ValueError, match="no ports and lifetime"):
        mapping_request(UDP, *numbers)


@given(protocols, ports, st.integers(0, 65535), words)
def test_requests_can_be_read_back(protocol, internal, external, lifetime):
    made = mapping_request(protocol, internal, external, lifetime)
    assert struct.unpack("!BBHHHI", made) == (0, OPCODE[protocol], 0, internal, external, lifetime)


# -- answers --------------------------------------------------------------------------------------


def test_the_documented_answers():
    address = bytes.fromhex("00800000 00123456 c633640b")
    assert parse_address(address) == AddressAnswer(1193046, "198.51.100.11")
    udp = bytes.fromhex("00810000 00123456 0000a395 0000003c")
    assert parse_mapping(udp, UDP, 0) == MappingAnswer(1193046, 0, 41877, 60)
    tcp = bytes.fromhex("00820000 00123456 a395a395 0000003c")
    assert parse_mapping(tcp, TCP, 41877) == MappingAnswer(1193046, 41877, 41877, 60)
    deleted = bytes.fromhex("00820000 00123456 a3950000 00000000")
    assert parse_mapping(deleted, TCP, 41877) == MappingAnswer(1193046, 41877, 0, 0)


def test_an_unknown_external_address_is_no_address():
    assert parse_address(bytes.fromhex("00800000 00123456 00000000")) == AddressAnswer(1193046, None)


@given(protocols, st.integers(0, 65535), ports, st.integers(1, 2**32 - 1), words)
@example(UDP, 0, 1, 2**32 - 1, 2**32 - 1)
@example(TCP, 65535, 65535, LONGEST_LIFETIME + 1, 0)
def test_a_mapping_comes_through_and_its_lifetime_is_clamped(protocol, internal, external, lifetime, epoch):
    data = mapped(protocol, internal, external, lifetime, epoch)
    expected = MappingAnswer(epoch, internal, external, min(lifetime, LONGEST_LIFETIME))
    assert parse_mapping(data, protocol, internal) == expected
    assert parse_mapping(data, OTHER[protocol], internal) is None
    assert parse_mapping(data, protocol, internal ^ 1) is None
    assert parse_address(data) is None


@given(words, st.integers(1, 2**32 - 1))
def test_an_address_comes_through(epoch, address):
    answer = parse_address(struct.pack("!BBHII", 0, 128, 0, epoch, address))
    assert isinstance(answer, AddressAnswer)
    assert answer.epoch == epoch
    assert bytes(map(int, answer.address.split("."))) == address.to_bytes(4, "big")


GOOD = mapped(UDP, 6881, 41877, 60)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\1" + GOOD[1:], "version 1"),
        (b"\2" + GOOD[1:], "version 2"),
        (b"\0\1" + GOOD[2:], "a request's opcode"),
        (b"\0\x80" + GOOD[2:], "the answer to another opcode"),
        (b"\0\x82" + GOOD[2:], "the other protocol"),
        (GOOD[:-1], "a byte too short"),
        (GOOD + b"\0", "a byte too long"),
        (GOOD[:12], "the length of an address answer"),
        (mapped(UDP, 6882, 41877, 60), "another internal port"),
        (mapped(UDP, 6881, 0, 60), "granted, and no external port"),
        (b"", "nothing"),
    ],
)
def test_what_is_no_answer_is_dropped(data, why):
    assert parse_mapping(GOOD, UDP, 6881) is not None, "the control"
    assert parse_mapping(data, UDP, 6881) is None, why


@pytest.mark.parametrize(
    "data", [bytes.fromhex("00800000 00123456 c6336"[:22]), bytes.fromhex("00800000 00123456 c633640b 00")]
)
def test_an_address_answer_of_another_length_is_dropped(data):
    assert parse_address(data) is None


# -- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "result"),
    [
        (mapped(TCP, 6881, 0, 0, result=2), 2),
        (mapped(TCP, 6881, 6881, 60, result=4), 4),
        (mapped(TCP, 0, 0, 0, result=3), 3),
        (mapped(TCP, 6881, 0, 0, result=65535), 65535),
        (bytes.fromhex("00820003 00123456"), 3),
        # An unsupported version: 8 bytes with opcode 0 as in the RFC's figure, or with the answer's as miniupnpd does.
        (bytes.fromhex("00000001 00123456"), 1),
        (bytes.fromhex("00820001 00123456"), 1),
        # An unsupported opcode: the request echoed, with the answer's bit and the result put in.
        (bytes.fromhex("00820005 1ae11ae1 00001c20"), 5),
        # A gateway that has PCP only (RFC 6887 section 9): version 2, reserved, result 1, lifetime, epoch, reserved.
        (bytes.fromhex("02820001 00000e10 00123456 000000000000000000000000"), 1),
    ],
)
def test_errors_in_all_their_shapes(data, result):
    assert parse_mapping(data, TCP, 6881) == ErrorAnswer(result)


@pytest.mark.parametrize(
    "data",
    [
        bytes.fromhex("0082"),
        bytes.fromhex("008200"),
        mapped(UDP, 6881, 0, 0, result=2),
        bytes.fromhex("00000002 00123456"),
        bytes.fromhex("02020001 00000e10 00123456 000000000000000000000000"),
        bytes.fromhex("02820003 00000e10 00123456 000000000000000000000000"),
        bytes.fromhex("01820001 00123456"),
        mapped(TCP, 6881, 0, 0, result=2) + b"\0",
        bytes.fromhex("00820001 00123456") + bytes(9),
    ],
)
def test_errors_of_something_else_are_dropped(data):
    assert parse_mapping(data, TCP, 6881) is None


def test_an_address_error():
    assert parse_address(bytes.fromhex("00800003 00123456 00000000")) == ErrorAnswer(Result.NETWORK_FAILURE)
    assert parse_address(bytes.fromhex("00000001 00123456")) == ErrorAnswer(Result.UNSUPPORTED_VERSION)


@pytest.mark.parametrize(
    ("result", "words"), [(2, "not authorized (result 2)"), (4, "out of resources (result 4)"), (77, "result 77")]
)
def test_errors_in_words(result, words):
    assert str(ErrorAnswer(result)) == words


# -- anything -------------------------------------------------------------------------------------

nearly = st.builds(
    lambda head, result, rest: head + result + rest,
    st.tuples(st.sampled_from([0, 1, 2]), st.sampled_from([0, 1, 2, 128, 129, 130, 131])).map(bytes),
    st.sampled_from([b"\0\0", b"\0\1", b"\0\2", b"\0\5", b"\xff\xff"]),
    st.binary(max_size=28),
)


@given(st.binary(max_size=1200) | nearly, protocols, st.integers(0, 65535))
@example(b"\0\x81", UDP, 0)
def test_no_datagram_raises_and_only_whole_answers_count(data, protocol, internal):
    answer = parse_mapping(data, protocol, internal)
    if isinstance(answer, MappingAnswer):
        assert data[:4] == bytes([0, 128 + OPCODE[protocol], 0, 0])
        assert len(data) == 16
        assert answer.internal_port == internal == int.from_bytes(data[8:10], "big")
        assert 0 <= answer.lifetime <= LONGEST_LIFETIME
        assert answer.external_port > 0 or answer.lifetime == 0
    elif isinstance(answer, ErrorAnswer):
        assert answer.result == (data[3] if data[0] == 2 else int.from_bytes(data[2:4], "big")) != 0
    else:
        assert answer is None

    answer = parse_address(data)
    if isinstance(answer, AddressAnswer):
        assert data[:4] == b"\0\x80\0\0"
        assert len(data) == 12
    else:
        assert answer is None or isinstance(answer, ErrorAnswer)
