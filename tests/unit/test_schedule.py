"""When things are due: in time, not in step, never in a loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.schedule import SOONEST_RETRY, backoff, next_look, renew_at, retry_renewal
from vpnpf.model import BOTH, Lease

NOW = 1000.0
lifetimes = st.floats(1.0, 1e8)
ages = st.floats(0.0, 1e6)


def lease(lifetime, granted_at=NOW):
    return Lease(40000, 40000, BOTH, granted_at, lifetime)


def test_a_lease_is_renewed_from_half_of_its_lifetime_on():
    assert renew_at(lease(60.0), NOW) == NOW + 30
    assert renew_at(lease(7200.0), NOW + 1) == NOW + 3600


def test_a_lease_without_an_end_is_not_renewed():
    assert renew_at(lease(None), NOW) is None


def test_a_lease_whose_half_is_over_is_renewed_after_a_share_of_what_is_left():
    assert renew_at(lease(100.0), NOW + 60) == NOW + 70


@given(lifetimes, st.floats(0.0, 1.0))
def test_a_renewal_is_never_due_at_once_and_leaves_time_to_try_again(lifetime, share):
    now = NOW + lifetime * share
    due = renew_at(lease(lifetime), now)
    left = NOW + lifetime - now
    assert due >= now + SOONEST_RETRY - 1e-6
    assert due <= max(NOW + lifetime / 2, now + left / 4, now + SOONEST_RETRY) + 1e-6


def test_backing_off_doubles_to_a_minute():
    waits = [backoff(failures, "home/lease:torrent") for failures in range(1, 12)]
    for wait, middle in zip(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60], strict=True):
        assert 0.9 * middle <= wait <= 1.1 * middle


def test_backing_off_does_not_go_in_step_and_can_be_replayed():
    assert len({backoff(5, f"home/lease:{number}") for number in range(100)}) == 100
    assert backoff(5, "home/lease:0") == backoff(5, "home/lease:0")


@given(st.integers(1, 10**9))
def test_backing_off_for_ever_stays_bounded(failures):
    assert 0.9 <= backoff(failures, "key") <= 66


def test_a_failed_renewal_takes_a_share_of_what_is_left():
    assert retry_renewal(lease(60.0), 60.0, NOW + 30) == 7.5
    assert retry_renewal(lease(60.0), 1.0, NOW + 30) == 1.0
    assert retry_renewal(lease(None), 60.0, NOW) == 60.0


@given(lifetimes, st.integers(1, 30))
def test_a_failed_renewal_is_tried_again_often_before_the_end(lifetime, failures):
    now, end, tries = NOW + lifetime / 2, NOW + lifetime, 0
    while now < end and tries < 4:
        now += retry_renewal(lease(lifetime), backoff(failures + tries, "key"), now)
        tries += 1
    assert tries == 4 or lifetime < 4.5


@given(ages)
def test_looks_are_soon_at_first_and_then_ever_later(age):
    assert 0.05 <= next_look(age, 0.05, 15.0) <= 15.0
    assert next_look(age, 0.05, 15.0) <= next_look(age + 1, 0.05, 15.0)
