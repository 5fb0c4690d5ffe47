"""The short form of `python -m tests.bench.daemon`."""

from __future__ import annotations

import pytest

from tests.bench import daemon

pytestmark = [pytest.mark.system, pytest.mark.alone]


async def test_a_daemon_with_one_lease_is_small_and_quiet():
    for figure in await daemon.idle(20):
        assert figure.kept, figure


async def test_a_hundred_watchers_and_one_that_is_stuck_delay_no_renewal():
    for figure in await daemon.watched(6):
        assert figure.kept, figure
