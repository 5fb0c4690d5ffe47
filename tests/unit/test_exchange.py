"""The timer without a clock, by hand and at any pace."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.protocol.exchange import QUICK, Exchange, Schedule, Transmission

ASKING = Exchange(b"?", lambda data: data or None, "asking")


def tries_of(transmission: Transmission, moments) -> list[float]:
    """The moments at which a driver that looks at these was told to send."""
    return [now for now in moments if transmission.due(now) is not None]


def test_the_usual_schedule_tries_four_times_and_is_over_at_3_75():
    transmission = Transmission(ASKING, 100.0)
    hundredths = [100 + n / 100 for n in range(400)]
    assert tries_of(transmission, hundredths) == [100.0, 100.25, 100.75, 101.75]
    assert not transmission.over(103.74)
    assert transmission.over(103.75)
    assert transmission.due(103.75) is None
    assert QUICK.total == 3.75


def test_it_is_not_over_before_it_began():
    transmission = Transmission(ASKING, 100.0)
    assert not transmission.over(200.0)
    assert transmission.due(99.9) is None
    assert transmission.due(100.0) == b"?"


def test_asked_twice_at_one_moment_it_sends_once():
    transmission = Transmission(ASKING, 100.0)
    assert [transmission.due(100.0), transmission.due(100.0)] == [b"?", None]
    assert transmission.deadline == 100.25


def test_after_a_suspend_the_tries_that_are_left_get_their_full_wait():
    transmission = Transmission(ASKING, 0.0)
    transmission.due(0.0)
    assert transmission.due(3600.0) == b"?"
    assert transmission.deadline == 3600.5
    assert not transmission.over(3600.0)
    assert tries_of(transmission, [3600.1, 3600.5, 3600.6, 3601.5]) == [3600.5, 3601.5]
    assert not transmission.over(3603.4)
    assert transmission.over(3603.5)


@pytest.mark.parametrize(("refusals", "refused"), [(0, False), (1, True), (4, True)])
def test_one_refusal_is_enough_where_nothing_else_came(refusals, refused):
    transmission = Transmission(ASKING, 0.0)
    assert not transmission.refused
    tries_of(transmission, [0.0, 0.25, 0.75, 1.75])
    transmission.refusals += refusals
    assert transmission.refused is refused


def test_an_empty_schedule_sends_nothing():
    transmission = Transmission(Exchange(b"?", lambda _: None, "asking", Schedule(())), 0.0)
    assert transmission.due(0.0) is None
    assert transmission.over(0.0)


waits = st.lists(st.floats(0.001, 64), min_size=1, max_size=9).map(tuple)


@given(waits, st.lists(st.floats(0, 100), max_size=60), st.floats(0, 1e9))
def test_at_any_pace_it_ends_after_all_tries_and_never_hurries(schedule, pauses, now):
    transmission = Transmission(Exchange(b"?", lambda _: None, "asking", Schedule(schedule)), now)
    sent = []
    for pause in [*pauses, *(2 * wait for wait in schedule), 200.0]:
        over = transmission.over(now)
        if transmission.due(now) is not None:
            assert not over
            sent.append(now)
        now += pause
    assert transmission.over(now)
    assert len(sent) == len(schedule)
    gaps = [later - earlier for earlier, later in itertools.pairwise(sent)]
    assert all(gap >= wait * (1 - 1e-6) - 1e-6 for gap, wait in zip(gaps, schedule, strict=False))
