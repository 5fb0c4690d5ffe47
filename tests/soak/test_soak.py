"""The short forms of `make soak`; and that they would find something."""

from __future__ import annotations

import itertools

import pytest

from mock_provider.faults import SWITCHES
from tests.soak import loss, months
from tests.soak.trouble import VALUES, Trouble, calendar, kinds, text_of
from tests.soak.virtual import run
from vpnpf.core import failing


def not_kept(figures):
    return [str(figure) for figure in figures if not figure.kept and "real time" not in figure.what]


@pytest.mark.parametrize("provider", sorted(months.PROVIDERS))
def test_a_day_with_one_fault_of_each_kind(provider):
    month = months.lived(provider, days=0.5, each=1, servers=1, lasts=(25,))
    assert not_kept(months.figures(month, 0.5, 1, 1)) == []
    assert month.phase == "ready"


def test_hours_of_loss():
    assert not_kept(loss.figures(run(loss.live(3, seed=3)), 3)) == []


def test_an_engine_that_waits_too_long_is_found_out(monkeypatch):
    monkeypatch.setattr(failing, "backoff", lambda *_failures, **_limits: 400.0)
    troubles = [Trouble(0.0, "silent (on)", 600), Trouble(1000.0, "silent (on)", 600)]
    monkeypatch.setattr(months, "calendar", lambda *_arguments: troubles)
    monkeypatch.setattr("tests.soak.trouble.LASTS", (600,))
    month = months.Month("natpmp")
    run(months.live(month, 0.05, 1, 0, 1, (600,)))
    assert month.not_ready.total() > 0


def test_every_kind_of_fault_of_the_mock_is_there():
    valued = {one.field for one in SWITCHES.values() if one.kind.shape} - {"gone"}
    assert valued == set(VALUES)
    assert all(Trouble(0.0, kind, 25).scenario.statements for kind in kinds())
    assert text_of("loss (on)", 25) == "at 0s loss 60% for 25s"


def test_a_calendar_has_so_many_of_each_and_time_to_be_healthy():
    troubles = calendar(30, 100, 30, seed=1)
    assert len(troubles) == 100 * len(kinds()) + 30
    gaps = [after.at - before.at - before.lasts for before, after in itertools.pairwise(troubles)]
    assert min(gaps) > 120
