"""The short form of the ninety days with PIA; and that it would find something."""

from __future__ import annotations

import itertools

import pytest
from msgspec.structs import replace

from tests.soak import pia
from tests.soak.pia_troubles import DAY, FORCED_BY, FORCING, KINDS, Trouble, calendar
from vpnpf_providers import pia_pauses
from vpnpf_providers.pia import PrivateInternetAccess

SHORT = 20.0
"""Days, with signatures of 12 days in place of 62."""
SIGNED_FOR = 12 * DAY


def not_kept(quarter, days, count):
    return [str(row) for row in pia.figures(quarter, days, count) if not row.kept]


def test_weeks_with_every_trouble_twice():
    count = 2 * len(KINDS) + len(FORCING)
    quarter = pia.lived(7, SHORT, calendar(SHORT, count, 1, seed=7), signed_for=SIGNED_FOR, coarse=True)
    assert not_kept(quarter, SHORT, count) == []
    assert quarter.changes == {"busy": 1, "bad signature": 1, pia.PLANNED: 1}
    assert quarter.phase == "ready"


def test_no_hostile_answer_of_the_gateway_costs_a_minute_of_the_port():
    troubles = [
        Trouble(number * 3 * 450.0 + 200 * number, kind, 300)
        for number, kind in enumerate(kind for kind in KINDS if kind.name.startswith("gateway"))
        for _ in range(2)
    ]
    quarter = pia.lived(1, 0.5, troubles)
    assert quarter.troubles.total() == len(troubles) > 10
    assert (quarter.without.total(), quarter.changes.total(), quarter.unforced.total()) == (0, 0, 0)


def test_an_engine_that_gives_a_signature_away_is_found_out(monkeypatch):
    manifest = replace(PrivateInternetAccess.manifest, keeps_port=False)
    monkeypatch.setattr(PrivateInternetAccess, "manifest", manifest)
    refused = next(kind for kind in KINDS if kind.name == "gateway: connection refused")
    quarter = pia.lived(1, 0.2, [Trouble(1000.0, refused, 1500)])
    assert quarter.unforced.total() == 1


def test_a_port_that_is_not_bound_in_time_is_found_out(monkeypatch):
    monkeypatch.setattr(PrivateInternetAccess, "lifetime", 1900.0)
    quarter = pia.lived(1, 0.2, [Trouble(1000.0, KINDS[0], 30)])
    assert quarter.missed > 0
    assert quarter.healthy_without.total() > 0


@pytest.mark.parametrize("name", ["login: HTTP 502", "login: no answer"])
def test_services_that_give_no_token_for_hours_are_left_in_peace(name):
    kind = next(kind for kind in KINDS if kind.name == name)
    quarter = pia.lived(1, 0.3, [Trouble(1000.0, kind, 3 * 3600)])
    assert 0 < quarter.most_in_an_hour <= pia.LOGINS
    assert quarter.longest <= pia.RECOVERS
    assert quarter.healthy_without.total() == 0


def test_an_engine_that_asks_for_a_token_each_time_is_found_out(monkeypatch):
    monkeypatch.setattr(pia_pauses, "PAUSES", (0.0,))
    kind = next(kind for kind in KINDS if kind.name == "login: HTTP 502")
    quarter = pia.lived(1, 0.2, [Trouble(1000.0, kind, 2 * 3600)])
    assert quarter.most_in_an_hour > pia.LOGINS


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_calendar_has_a_hundred_and_what_forces_another_port_comes_early(seed):
    troubles = calendar(pia.DAYS, pia.TROUBLES, pia.FORCED, seed)
    assert len(troubles) == 100
    assert {one.kind for one in troubles} == {*KINDS, *FORCING}
    forcing = [one for one in troubles if one.kind.forces]
    assert len(forcing) == pia.FORCED * len(FORCING)
    assert max(one.at for one in forcing) < FORCED_BY + pia.DAYS * DAY / 100
    assert all(after.at - before.at - before.lasts > pia.RECOVERS for before, after in itertools.pairwise(troubles))
