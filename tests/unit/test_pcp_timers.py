"""When PCP sends again: RFC 6887 sections 8.1.1 and 11.2.1, with the dice in the test's hand."""

from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.protocol.pcp_timing import (
    FIRST_BUDGET,
    IRT,
    MRT,
    draw,
    rand,
    renewal_times,
    retransmission,
    within,
)

rands = st.lists(st.floats(-0.1, 0.1), max_size=20)
draws = st.lists(st.floats(0, 1), max_size=20)


def test_without_jitter_it_doubles_from_3_s_to_1024_s_and_stays_there():
    waits = retransmission([0.0] * 12).waits
    assert waits == (3, 6, 12, 24, 48, 96, 192, 384, 768, 1024, 1024, 1024)


def test_each_wait_is_doubled_from_the_one_before_with_its_jitter():
    assert retransmission([0.1, -0.1, 0.0]).waits == pytest.approx((3.3, 5.94, 11.88))


@given(rands)
def test_every_wait_is_within_the_jitter(values):
    waits = retransmission(values).waits
    assert len(waits) == len(values)
    for before, wait in pairwise([IRT / 2, *waits]):
        base = min(2 * before, MRT)
        assert 0.9 * base - 1e-9 <= wait <= 1.1 * base + 1e-9


@pytest.mark.parametrize("value", [0.11, -0.2, 1, float("nan")])
def test_rand_is_a_tenth_at_most(value):
    with pytest.raises(ValueError, match="RAND"):
        retransmission([0, value])


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=16))
def test_the_first_budget_is_two_tries_in_less_than_4_s(values):
    schedule = within(retransmission(values), FIRST_BUDGET)
    assert len(schedule.waits) == 2
    assert 2.699 <= schedule.waits[0] <= 3.301
    assert schedule.total == pytest.approx(FIRST_BUDGET)
    assert FIRST_BUDGET < 4


@given(rands, st.floats(0.01, 5000))
def test_a_budget_cuts_the_end_and_nothing_else(values, budget):
    whole = retransmission(values)
    part = within(whole, budget)
    assert part.total == pytest.approx(min(whole.total, budget))
    assert all(wait > 0 for wait in part.waits)
    assert list(accumulate(part.waits))[:-1] == pytest.approx(
        list(accumulate(whole.waits))[: max(0, len(part.waits) - 1)]
    )


def test_renewal_windows_of_an_hour():
    assert renewal_times(3600, [0.0] * 4) == (1800, 2700, 3150, 3375)
    assert renewal_times(3600, [1.0] * 4) == (2250, 2925, 3262.5, 3431.25)


def test_renewals_of_a_short_lease_keep_4_s_apart_and_end_before_it():
    assert renewal_times(60, [0.0] * 9) == (30, 45, 52.5, 56.5)
    assert renewal_times(4, [0.5] * 9) == (2.25,)
    assert renewal_times(0, [0.5] * 9) == ()


@given(st.floats(0, 86400), draws)
def test_renewals_in_general(lifetime, points):
    times = renewal_times(lifetime, points)
    assert len(times) <= len(points)
    assert all(0 < at < lifetime for at in times)
    assert all(after - before >= 4 - 1e-9 for before, after in pairwise(times))
    for number, at in enumerate(times):
        left = lifetime / 2 ** (number + 1)
        assert at >= lifetime - left - 1e-9
        assert at <= lifetime - left * 3 / 4 + 1e-9 or at == pytest.approx(times[number - 1] + 4)


@given(st.binary(max_size=41))
def test_dice_of_bytes(data):
    numbers = draw(data)
    assert len(numbers) == len(data) // 2
    assert all(0 <= number < 1 for number in numbers)
    assert all(-0.1 <= value <= 0.1 for value in rand(data))
    retransmission(rand(data))


def test_the_ends_of_the_dice():
    assert draw(b"\0\0\x80\0") == (0, 0.5)
    assert rand(b"\0\0\x80\0") == (-0.1, 0.0)
