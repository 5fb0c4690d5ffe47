"""Leases across a restart: what is kept, and that whatever is found instead is only a wish less."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from vpnpf.core.state import wishes_for as wishes
from vpnpf.errors import Unavailable
from vpnpf.leases import REMEMBERED, from_store, merged, moved
from vpnpf.model import BOTH, Lease, Protocol
from vpnpf.store import FileStore

LEASE = Lease(
    40000,
    40001,
    (Protocol.UDP,),
    granted_at=1234.5,
    lifetime=60.0,
    exit_address="198.51.100.7",
    epoch=7,
    token='{"gateway": "10.2.0.1"}',
)

ports = st.integers(1, 65535)
leases = st.builds(
    Lease,
    external_port=ports,
    internal_port=ports,
    protocols=st.sampled_from([BOTH, (Protocol.TCP,), (Protocol.UDP,)]),
    granted_at=st.floats(0, 1e9),
    lifetime=st.none() | st.floats(1, 1e6),
    exit_address=st.none() | st.ip_addresses().map(str),
    token=st.text(),
)


def kept(value):
    """What comes back from a file."""
    whole = {"version": 2, "leases": {"here": value}}
    return from_store(json.loads(json.dumps(whole))).get("here", {})


def to_store(held):
    """What is written for the leases of one identity."""
    return merged(None, "here", held)["leases"]["here"]


@given(st.dictionaries(st.text(min_size=1), leases, max_size=5))
def test_port_protocols_address_and_token_come_back(held):
    back = kept(to_store(tuple(held.items())))
    assert back.keys() == held.keys()
    for name, lease in held.items():
        again = back[name]
        assert (again.external_port, again.internal_port) == (lease.external_port, lease.internal_port)
        assert (again.protocols, again.exit_address, again.token) == (lease.protocols, lease.exit_address, lease.token)


def test_times_do_not_come_back_since_the_clock_starts_anew():
    again = kept(to_store((("torrent", LEASE),)))["torrent"]
    assert (again.granted_at, again.lifetime, again.epoch) == (0.0, 0.0, None)
    assert again.expires_at == 0.0


def test_nothing_kept_is_no_wish():
    assert from_store(None) == {}
    assert from_store({}) == {}


@pytest.mark.parametrize(
    "change",
    [
        {"external_port": 0},
        {"external_port": 65536},
        {"internal_port": -1},
        {"external_port": "port"},
        {"external_port": None},
        {"protocols": []},
        {"protocols": ["sctp"]},
        {"protocols": "tcp"},
        {"protocols": 6},
    ],
)
def test_what_cannot_be_meant_is_left_out_and_the_rest_is_kept(change):
    stored = to_store((("torrent", LEASE), ("game", LEASE)))
    stored["torrent"] |= change
    assert list(kept(stored)) == ["game"]


@pytest.mark.parametrize("missing", ["external_port", "internal_port", "protocols"])
def test_what_is_missing_is_left_out(missing):
    stored = to_store((("torrent", LEASE),))
    del stored["torrent"][missing]
    assert kept(stored) == {}


@pytest.mark.parametrize("missing", ["exit_address", "token"])
def test_what_is_not_needed_may_be_missing(missing):
    stored = to_store((("torrent", LEASE),))
    del stored["torrent"][missing]
    assert kept(stored)["torrent"].external_port == 40000


JUNK = [None, True, 0, -1, 40000, 70000, 1.5, 1e300, "", "40000", "tcp", [], ["tcp"], ["udp", 1], [[]], {}, {"a": []}]
json_values = st.sampled_from(JUNK) | st.integers() | st.text()
entries = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("external_port", "internal_port", "protocols", "exit_address", "token", "other"), json_values
    ),
)


@given(st.dictionaries(st.text(), json_values | entries))
def test_a_file_that_somebody_else_wrote_never_raises(value):
    held = [*from_store(value).values(), *from_store({"version": 2, "leases": value}).values(), kept(value)]
    for lease in (lease for leases in held for lease in leases.values()):
        assert 0 < lease.external_port < 65536
        assert 0 < lease.internal_port < 65536
        assert lease.protocols
        assert isinstance(lease.token, str)


def test_each_server_and_key_has_leases_of_its_own():
    first = merged(None, "proton a", (("torrent", LEASE),))
    both = merged(json.loads(json.dumps(first)), "proton b", (("torrent", replace(LEASE, external_port=50000)),))
    held = from_store(json.loads(json.dumps(both)))
    assert held["proton a"]["torrent"].external_port == 40000
    assert held["proton b"]["torrent"].external_port == 50000


def test_another_server_is_asked_for_the_port_but_not_told_the_token():
    held = from_store(merged(None, "proton a", (("torrent", LEASE),)))
    wish = wishes(held, "proton b")["torrent"]
    assert (wish.external_port, wish.token, wish.exit_address) == (40000, "", None)
    assert wishes(held, "proton a")["torrent"].token == LEASE.token


def test_the_port_held_last_is_the_wish_and_what_was_held_here_beats_it():
    value = merged(None, "a", (("torrent", replace(LEASE, external_port=1111)),))
    value = merged(value, "b", (("torrent", replace(LEASE, external_port=2222)),))
    held = from_store(value)
    assert wishes(held, "c")["torrent"].external_port == 2222
    assert wishes(held, "a")["torrent"].external_port == 1111


def test_the_identity_not_used_for_longest_is_forgotten_first():
    value = None
    for number in range(REMEMBERED + 3):
        value = merged(value, f"server {number}", (("torrent", LEASE),))
        value = merged(value, "server 0", (("torrent", LEASE),))
    held = from_store(value)
    assert len(held) == REMEMBERED
    assert "server 0" in held
    assert "server 1" not in held


def test_a_file_from_before_identities_is_a_wish_for_any():
    old = {"torrent": to_store((("torrent", LEASE),))["torrent"]}
    assert wishes(from_store(old), "anything")["torrent"].external_port == 40000


# -- a file of an earlier version -----------------------------------------------------------------

KEPT = merged(None, "server 1", (("torrent", LEASE),))
NAME = "leases-home"


@pytest.fixture
def stores(tmp_path):
    return FileStore(tmp_path / "state"), FileStore(tmp_path / "state" / "secrets")


def test_it_is_read_once_and_moved_to_the_secrets(stores, tmp_path):
    state, secrets = stores
    state.save(NAME, KEPT)
    (tmp_path / "state" / f"{NAME}.damaged").write_text(LEASE.token)
    assert moved(state, secrets, NAME) == KEPT
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["secrets"]
    assert secrets.load(NAME) == KEPT
    assert (tmp_path / "state" / "secrets" / f"{NAME}.json").stat().st_mode & 0o777 == 0o600
    assert moved(state, secrets, NAME) == KEPT


def test_what_is_among_the_secrets_is_newer(stores):
    """As after a kill between writing there and removing here."""
    state, secrets = stores
    state.save(NAME, {"version": 2, "leases": {}})
    secrets.save(NAME, KEPT)
    assert moved(state, secrets, NAME) == KEPT
    assert state.load(NAME) is None


def test_a_disk_that_takes_nothing_costs_no_lease(stores, monkeypatch):
    state, secrets = stores
    state.save(NAME, KEPT)

    def full(_name, _value):
        raise Unavailable("saving", "No space left on device")

    monkeypatch.setattr(secrets, "save", full)
    assert moved(state, secrets, NAME) == KEPT
    assert state.load(NAME) == KEPT


def test_none_is_none(stores):
    assert moved(*stores, NAME) is None
