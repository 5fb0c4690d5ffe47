"""Whether a gateway lost its mappings (RFC 6886 section 3.6, RFC 6887 section 8.5), and announcements of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.protocol.announcement import Announcement, parse
from vpnpf.protocol.epoch import RECREATE_GAP, Epoch, natpmp_lost, pcp_lost, recreate_at

epochs = st.builds(Epoch, st.integers(0, 2**32 - 1), st.floats(0, 1e9))


@pytest.mark.parametrize(
    ("seconds", "after", "lost"),
    [
        (1000, 0, False),
        (998, 0, False),
        (997, 0, True),
        (1068, 80, False),
        (1067, 80, True),
        (1080, 80, False),
        (5000, 80, False),
        (0, 80, True),
        (80, 80, True),
    ],
)
def test_nat_pmp_expects_seven_eighths_of_the_time_that_passed(seconds, after, lost):
    assert natpmp_lost(Epoch(1000, 500.0), Epoch(seconds, 500.0 + after)) is lost


@pytest.mark.parametrize(
    ("seconds", "after", "lost"),
    [
        (1000, 0, False),
        (999, 0, False),
        (998, 0, True),
        # the server's clock ran on while ours stood
        (1002, 0, False),
        (1003, 0, True),
        (1160, 148, False),
        (1160, 147.9, True),
        # ours ran on while the server's stood
        (1148, 160, False),
        (1147, 160, True),
        (1000, 2, False),
        (1000, 2.2, True),
        (0, 3600, True),
        (4600, 3600, False),
    ],
)
def test_pcp_holds_the_two_clocks_against_each_other(seconds, after, lost):
    assert pcp_lost(Epoch(1000, 500.0), Epoch(seconds, 500.0 + after)) is lost


@given(epochs)
def test_what_comes_first_is_believed(epoch):
    assert not natpmp_lost(None, epoch)
    assert not pcp_lost(None, epoch)


@given(st.integers(0, 2**31), st.floats(0, 1e7), st.floats(0, 1e6), st.floats(-0.05, 0.05))
def test_a_clock_that_drifts_a_little_loses_nothing(seconds, at, passed, drift):
    """Both clocks began somewhere within their second, and datagrams take up to half a second."""
    after = Epoch(seconds + int(passed * (1 + drift)), at + passed)
    assert not natpmp_lost(Epoch(seconds, at), after)
    assert not pcp_lost(Epoch(seconds, at), after)


@given(st.integers(100, 2**31), st.floats(0, 1e7), st.integers(0, 40), st.floats(0, 40))
def test_a_restart_is_noticed(seconds, at, since, passed):
    after = Epoch(min(since, int(passed)), at + passed)
    if seconds > 44:
        assert natpmp_lost(Epoch(seconds, at), after)
        assert pcp_lost(Epoch(seconds, at), after)


def test_a_flood_of_resets_recreates_once_in_5_s():
    assert recreate_at(100.0, None) == 100.0
    assert recreate_at(100.0, 99.0) == 99.0 + RECREATE_GAP == 104.0
    assert recreate_at(200.0, 99.0) == 200.0


@pytest.mark.parametrize(
    ("data", "announcement"),
    [
        ("00800000 00000003 c633640b", Announcement(0, 3, "198.51.100.11")),
        ("00800000 00000003 00000000", Announcement(0, 3, None)),
        ("00800003 00000003 00000000", None),
        ("02800000 00000000 00000003" + "00" * 12, Announcement(2, 3)),
        ("02800007 0000001e 00000003" + "00" * 12, None),
        ("02000000 00000000 00000003" + "00" * 12, None),
        ("02810000 00000000 00000003" + "00" * 12, None),
        ("00810000 00000003 1ae19c40 00000e10", None),
        ("0080000100000003", None),
        ("", None),
    ],
)
def test_announcements_of_both_protocols(data, announcement):
    assert parse(bytes.fromhex(data)) == announcement


@given(st.binary(max_size=1200))
def test_anything_may_be_sent_to_the_group(data):
    assert parse(data) is None or isinstance(parse(data), Announcement)
