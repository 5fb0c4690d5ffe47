"""The short form of `python -m tests.bench.leases`: a few leases for part of a minute, and the bytes on real sockets."""

from __future__ import annotations

import os
import shutil

import pytest

from tests.bench import leases

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="binding to a device needs a right"),
    pytest.mark.skipif(shutil.which("natpmpc") is None, reason="there is no natpmpc"),
]


def test_leases_are_renewed_on_time():
    rows = {row.what: row for row in leases.measured(50, 0.05, lifetime=4, rounds=3)}
    for what in ("leases", "ports lost", "renewals", "latest renewal, from its time to its answer"):
        assert rows[what].kept, rows[what]
