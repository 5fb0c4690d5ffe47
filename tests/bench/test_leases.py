"""The short form of `python -m tests.bench.leases`: a few leases for part of a minute, and the bytes on real sockets."""

from __future__ import annotations

import pytest

from tests.bench import leases

pytestmark = [pytest.mark.system, pytest.mark.alone]


def test_leases_are_renewed_on_time():
    rows = {row.what: row for row in leases.measured(50, 0.05, lifetime=4, rounds=3)}
    for what in ("leases", "ports lost", "renewals", "latest renewal, from its time to its answer"):
        assert rows[what].kept, rows[what]
