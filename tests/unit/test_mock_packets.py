"""What the mock provider reads and writes as bytes: captured frames, ICMP, DNS, its own configuration file."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mock_provider import dns
from mock_provider.capture import Packet, leak, parse
from mock_provider.faults import Fate
from mock_provider.gateway import Request
from mock_provider.icmp import port_unreachable
from mock_provider.wireguard import Client


def frame(protocol: int, body: bytes, source="192.168.77.2", destination="203.0.113.80") -> bytes:
    addresses = socket.inet_aton(source) + socket.inet_aton(destination)
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0) + addresses
    return bytes(12) + b"\x08\x00" + header + body


def test_an_ipv4_frame_is_read():
    packet = parse(frame(17, struct.pack("!HH", 5000, 53) + b"rest"), outbound=True)
    assert packet == Packet(
        True, 0x0800, "192.168.77.2", "203.0.113.80", 17, 5000, 53, struct.pack("!HH", 5000, 53) + b"rest"
    )


@given(st.binary(max_size=80), st.sampled_from([b"\x08\x00", b"\x86\xdd", b"\x08\x06"]))
def test_no_frame_makes_the_reader_fail(rest, ethertype):
    leak(lan=("10.0.0.0/8",))(parse(bytes(12) + ethertype + rest, outbound=True))


UP = {"outbound": True, "ethertype": 0x0800, "source": "192.168.77.2"}
UP6 = {"outbound": True, "ethertype": 0x86DD, "source": "fd77::2"}


@pytest.mark.parametrize(
    ("packet", "leaked"),
    [
        (Packet(**UP, destination="203.0.113.80", protocol=17, destination_port=53), True),
        (Packet(**UP, destination="198.51.100.10", protocol=17, destination_port=51820), False),
        (Packet(**UP, destination="198.51.100.10", protocol=17, destination_port=51821), True),
        (Packet(**UP, destination="198.51.100.10", protocol=6, destination_port=51820), True),
        (Packet(**UP, destination="255.255.255.255", protocol=17, source_port=68, destination_port=67), False),
        (Packet(**UP, destination="192.168.77.1", protocol=17, destination_port=53), True),
        (Packet(**UP6, destination="ff02::1:ff00:1", protocol=58, destination_port=135), False),
        (Packet(**UP6, destination="2001:db8:80::80", protocol=58, destination_port=128), True),
        (Packet(**UP6, destination="ff02::16", protocol=0), False),
        (Packet(**UP6, destination="2001:db8:80::80", protocol=17, destination_port=53), True),
        (Packet(outbound=True, ethertype=0x0806), False),
        (Packet(outbound=False, ethertype=0x0800, source="203.0.113.80", destination="192.168.77.2"), False),
    ],
)
def test_what_counts_as_a_leak(packet, leaked):
    assert leak()(packet) is leaked


def test_a_lan_that_stays_reachable_is_no_leak():
    to_printer = Packet(**UP, destination="192.168.77.66", protocol=6)
    assert leak()(to_printer)
    assert not leak(lan=("192.168.77.0/24",))(to_printer)
    assert leak(lan=("192.168.77.0/24",))(Packet(**UP, destination="203.0.113.80", protocol=6))


def ones_sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return (total & 0xFFFF) + (total >> 16)


@given(st.integers(1, 65535), st.integers(0, 1100))
def test_icmp_port_unreachable_carries_the_datagram_and_true_checksums(port, length):
    message = port_unreachable(("10.2.0.2", port), ("10.2.0.1", 5351), length)
    assert message[:2] == b"\x03\x03"
    assert ones_sum(message) == 0xFFFF
    inner = message[8:28]
    assert ones_sum(inner) == 0xFFFF
    assert inner[12:] == socket.inet_aton("10.2.0.2") + socket.inet_aton("10.2.0.1")
    assert struct.unpack("!HHH", message[28:34]) == (port, 5351, 8 + length)


def query(name: str, kind: int) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
    return struct.pack("!HHHHHH", 0xBEEF, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", kind, 1)


def test_every_name_has_an_address():
    sent = query("Tracker.Example", 1)
    assert dns.parse(sent) == ("tracker.example", 1, len(sent))
    assert dns.answer(sent, "203.0.113.80") == (
        struct.pack("!HHHHHH", 0xBEEF, 0x8180, 1, 1, 0, 0)
        + sent[12:]
        + bytes.fromhex("c00c 0001 0001 0000003c 0004 cb007150")
    )


def test_no_name_has_an_ipv6_address():
    sent = query("tracker.example", 28)
    assert dns.answer(sent, "203.0.113.80") == struct.pack("!HHHHHH", 0xBEEF, 0x8180, 1, 0, 0, 0) + sent[12:]


@given(st.binary(max_size=60))
def test_no_datagram_makes_the_resolver_fail(data):
    if dns.parse(data) is not None:
        dns.answer(data, "203.0.113.80")


@pytest.mark.parametrize(
    ("data", "fate", "answer", "line"),
    [
        ("0000", Fate.REFUSED, None, "10.2.0.2: external address? -> refused"),
        (
            "000100000000000100 00003c",
            Fate.ANSWERED,
            "00810000001234560000a3950000003c",
            "10.2.0.2: udp internal 0, wish 1, 60 s -> internal 0, external 41877, 60 s",
        ),
        (
            "0002 0000 1234 0000 0000003c",
            Fate.ANSWERED,
            "0082000400123456123400000000 0000",
            "10.2.0.2: tcp internal 4660, wish 0, 60 s -> result 4",
        ),
        ("00", Fate.MALFORMED, None, "10.2.0.2: opcode -1 -> malformed"),
    ],
)
def test_a_request_reads_as_one_line(data, fate, answer, line):
    request = Request(0.0, "10.2.0.2", bytes.fromhex(data), fate, bytes.fromhex(answer) if answer else None)
    assert str(request) == line


def test_the_configuration_file_is_as_the_site_gives_it(tmp_path):
    client = Client("PRIVATE=", "PUBLIC=", "SERVER=", "10.2.0.2", port_forwarding=False)
    path = client.write(tmp_path / "proton.conf")
    assert path.stat().st_mode & 0o777 == 0o600
    lines = path.read_text().splitlines()
    assert {"# NAT-PMP (Port Forwarding) = off", "Address = 10.2.0.2/32", "DNS = 10.2.0.1"} <= set(lines)
    assert lines[lines.index("[Peer]") :] == [
        "[Peer]",
        "# MOCK#1",
        "PublicKey = SERVER=",
        "AllowedIPs = 0.0.0.0/0, ::/0",
        "Endpoint = 198.51.100.10:51820",
    ]
    assert "PRIVATE" not in repr(client)
