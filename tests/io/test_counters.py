"""A device's counters, from the kernel's own table and from tables that it never writes."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.io import counters
from vpnpf.io.counters import parse, traffic

TABLE = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:    1000      10    0    0    0     0          0         0     2000      20    0    0    0     0       0          0
wg-home: 123456789012  9    0    0    0     0          0         0  3 4 5 6 7 8 9 10
eth0:1: 7 0 0 0 0 0 0 0 8 0
short: 1 2
"""


@pytest.mark.parametrize(
    ("interface", "found"),
    [
        ("lo", (1000, 10, 2000, 20)),
        ("wg-home", (123456789012, 9, 3, 4)),
        ("eth0:1", (7, 0, 8, 0)),
        ("wg", None),
        ("short", None),
        ("", None),
        (" face |bytes    packets errs drop fifo frame compressed multicast|bytes", None),
    ],
)
def test_the_row_of_the_device(interface, found):
    assert parse(TABLE, interface) == found


def test_what_goes_through_is_counted():
    before = traffic("lo")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.bind(("127.0.0.1", 0))
        one.sendto(b"x" * 5000, one.getsockname())
        one.recv(6000)
    received, sent = traffic("lo")
    assert received - before[0] >= 5000 <= sent - before[1]


def test_no_device_and_no_table_are_nothing(monkeypatch, tmp_path):
    assert traffic("no-such-device") is None
    monkeypatch.setattr(counters, "TABLE", tmp_path / "none")
    assert traffic("lo") is None


@given(st.text(), st.text(max_size=3))
def test_any_text_has_numbers_or_nothing(text, interface):
    found = parse(text, interface)
    assert found is None or all(isinstance(each, int) for each in found)
