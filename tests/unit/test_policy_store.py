"""The policy set by hand over restarts: kept, dropped when the configuration's changes, and never longer than it was to be."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.core.policy_codec import PolicyError, digest, ordered, policy_from, policy_json
from vpnpf.errors import Unavailable
from vpnpf.model import BOTH, Opening, PolicyMode, PortPolicy, Protocol
from vpnpf.openings import Services, Timed, key_of, parse_entry
from vpnpf.policy_store import PolicyStore, said
from vpnpf.store import FileStore

NOW, OFFSET = 1000.0, 1_700_000_000.0
SSH = Opening(22, 22, Protocol.TCP)
CONFIGURED = PortPolicy()
BY_HAND = PortPolicy(openings=(SSH, Opening(443, 443, Protocol.TCP, ends_at=NOW + 3600)))


@pytest.fixture
def made(tmp_path):
    def make(written=CONFIGURED, timed=()):
        return PolicyStore(FileStore(tmp_path), "home", written, timed)

    return make


def kept(made, policy=BY_HAND):
    store = made()
    store.load(NOW, OFFSET)
    store.keep(policy, NOW + OFFSET, OFFSET)


def document(tmp_path):
    return json.loads((tmp_path / "policy-home.json").read_text())


def test_without_anything_kept_it_is_the_configurations(made, tmp_path):
    store = made()
    assert store.load(NOW, OFFSET) == CONFIGURED
    assert store.by_hand is None
    assert not list(tmp_path.iterdir())


def test_what_was_set_is_there_again(made):
    kept(made)
    store = made()
    assert store.load(NOW + 10, OFFSET) == BY_HAND
    assert store.by_hand.set_at == NOW + OFFSET
    assert store.configured == CONFIGURED


def test_until_it_is_taken_back(made, tmp_path):
    kept(made)
    store = made()
    store.load(NOW, OFFSET)
    store.forget(NOW + OFFSET, OFFSET)
    assert made().load(NOW, OFFSET) == CONFIGURED
    assert not list(tmp_path.iterdir())


def test_until_the_configurations_own_changes(made):
    kept(made)
    other = PortPolicy(PolicyMode.BLOCK_ALL)
    store = made(other)
    assert store.load(NOW, OFFSET) == other
    assert store.by_hand is None


def test_after_a_reboot_ends_are_where_they_were(made):
    kept(made)
    # CLOCK_BOOTTIME begins anew; ten minutes went by.
    store = made().load(5.0, OFFSET + NOW + 600 - 5.0)
    assert store.openings[1].ends_at == pytest.approx(5.0 + 3000)


def test_what_ended_meanwhile_is_gone(made):
    kept(made)
    assert made().load(NOW + 3601, OFFSET).openings == (SSH,)


def test_a_clock_that_went_back_keeps_nothing_open_for_longer(made):
    kept(made)
    # A machine without a clock that wakes in 1970: the end would be decades away.
    policy = made().load(7.0, 0.0)
    assert policy.openings[1].ends_at == pytest.approx(7.0 + 3600)


def test_a_clock_that_went_far_ahead_closes(made):
    kept(made)
    assert made().load(7.0, 4_000_000_000.0).openings == (SSH,)


# -- entries of the configuration that last for some time -----------------------------------------


def configured(lasts, now=NOW):
    text = f"443/tcp for {lasts}s"
    openings = parse_entry(text, now=now + OFFSET, boot_offset=-OFFSET, services=Services())
    return PortPolicy(openings=openings), (Timed(key_of(text), lasts, openings),)


def test_it_counts_from_the_first_use_not_from_each_start(made):
    assert made(*configured(3600)).load(NOW, OFFSET).openings[0].ends_at == NOW + 3600
    again = made(*configured(3600, NOW + 600)).load(NOW + 600, OFFSET)
    assert again.openings[0].ends_at == pytest.approx(NOW + 3600)
    assert made(*configured(3600, NOW + 4000)).load(NOW + 4000, OFFSET).openings == ()
    # And stays closed.
    assert made(*configured(3600, NOW + 9000)).load(NOW + 9000, OFFSET).openings == ()


def test_another_duration_begins_anew(made):
    made(*configured(3600)).load(NOW, OFFSET)
    other = made(*configured(7200, NOW + 600)).load(NOW + 600, OFFSET)
    assert other.openings[0].ends_at == NOW + 600 + 7200


def test_a_later_start_with_the_same_duration_is_the_same_configuration(made):
    store = made(*configured(3600))
    store.load(NOW, OFFSET)
    store.keep(BY_HAND, NOW + OFFSET, OFFSET)
    again = made(*configured(3600, NOW + 600))
    assert again.load(NOW + 600, OFFSET) == BY_HAND
    again.forget(NOW + 600 + OFFSET, OFFSET)
    assert made(*configured(3600, NOW + 700)).load(NOW + 700, OFFSET).openings[0].ends_at == pytest.approx(NOW + 3600)


def test_only_looking_begins_no_clock(made, tmp_path):
    made(*configured(3600)).load(NOW, OFFSET, only_look=True)
    assert not list(tmp_path.iterdir())


def test_ends_that_cannot_be_kept_are_said(made, monkeypatch):
    def full(*_):
        raise Unavailable("saving", "no room")

    store = made(*configured(3600))
    monkeypatch.setattr(FileStore, "save", full)
    assert store.load(NOW, OFFSET).openings[0].ends_at == NOW + 3600
    assert "no room" in store.trouble


def until(end):
    return PortPolicy(openings=(SSH, Opening(443, 443, Protocol.TCP, ends_at=end)))


def test_an_end_that_is_written_as_a_moment_is_part_of_what_the_configuration_says(made):
    store = made(until(NOW + 60))
    store.load(NOW, OFFSET)
    store.keep(BY_HAND, NOW + OFFSET, OFFSET)
    assert made(until(NOW + 60.0004)).load(NOW + 1, OFFSET) == BY_HAND
    assert made(until(NOW + 90)).load(NOW + 1, OFFSET) == until(NOW + 90)


def test_that_such_an_end_has_come_is_no_change_of_the_configuration(made):
    store = made(until(NOW + 60))
    store.load(NOW, OFFSET)
    store.keep(BY_HAND, NOW + OFFSET, OFFSET)
    # What has ended is left out when the file is read.
    assert made(PortPolicy(openings=(SSH,))).load(NOW + 61, OFFSET) == BY_HAND
    assert made(PortPolicy(openings=(SSH,))).load(NOW + 59, OFFSET) == PortPolicy(openings=(SSH,))


# -- files that are none --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"set_at": "now"},
        {"set_at": None},
        {"policy": None},
        {"policy": {"mode": "open"}},
        {"policy": {"mode": "allow-list", "openings": [{"first": 0, "last": 0, "protocol": "tcp"}]}},
    ],
)
def test_what_cannot_be_read_is_said_and_the_configurations_is_used(made, tmp_path, change):
    kept(made)
    path = tmp_path / "policy-home.json"
    path.write_text(json.dumps({**document(tmp_path), **change}))
    store = made()
    assert store.load(NOW, OFFSET) == CONFIGURED
    assert store.trouble.startswith("the port policy set by hand cannot be read")


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_whatever_is_kept_gives_a_policy(value):
    class Kept(FileStore):
        def load(self, name):
            del name
            return {"version": 1, "configured": said(CONFIGURED, (), OFFSET), "policy": value, "ends": value}

    store = PolicyStore(Kept(Path("nowhere")), "home", CONFIGURED)
    assert store.load(NOW, OFFSET, only_look=True) == CONFIGURED


# -- as JSON --------------------------------------------------------------------------------------

PREFIXES = st.lists(
    st.sampled_from(("203.0.113.0/24", "198.51.100.7/32", "2001:db8::/32")), unique=True, max_size=3
).map(lambda found: tuple(sorted(found)))


@st.composite
def openings(draw):
    first = draw(st.integers(1, 65535))
    last = draw(st.integers(first, 65535))
    # To the millisecond, as they are written.
    end = draw(st.none() | st.integers(0, 10**9).map(lambda ms: ms / 1000))
    text = st.text(st.characters(categories=("L", "N")), max_size=20)
    return Opening(first, last, draw(st.sampled_from(BOTH)), draw(PREFIXES), draw(text), draw(text), end)


POLICIES = st.builds(
    PortPolicy,
    st.sampled_from(PolicyMode),
    st.booleans(),
    st.lists(openings(), max_size=5).map(ordered),
    st.none() | st.floats(1, 1e8),
    st.booleans(),
)


@given(POLICIES)
def test_a_policy_comes_back_as_it_was(policy):
    wire = json.loads(json.dumps(policy_json(policy, OFFSET)))
    back = policy_from(wire, OFFSET)
    assert digest(back) == digest(policy)
    assert [each.key for each in back.openings] == [each.key for each in policy.openings]
    for one, other in zip(back.openings, policy.openings, strict=True):
        assert one.ends_at == (other.ends_at if other.ends_at is None else pytest.approx(other.ends_at, abs=0.002))


@given(
    st.dictionaries(st.sampled_from(("mode", "openings", "forwarded", "more")), st.integers() | st.text() | st.none())
)
def test_anything_else_is_named(value):
    with contextlib.suppress(PolicyError):
        policy_from(value, OFFSET)
