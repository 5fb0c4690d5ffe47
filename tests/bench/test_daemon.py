"""The short form of `python -m tests.bench.daemon`."""

from __future__ import annotations

import pytest

from tests.bench import daemon

pytestmark = [pytest.mark.system, pytest.mark.alone]


async def test_a_daemon_with_one_lease_is_small_and_quiet():
    *memory, core = await daemon.idle(20, settled=12)
    assert all(figure.kept for figure in memory), memory
    # The budget is for a machine that does nothing else; what shares its caches makes ours twice as slow.
    assert core.value <= 2 * daemon.CORE, core


async def test_a_hundred_watchers_and_one_that_is_stuck_delay_no_renewal():
    for figure in await daemon.watched(6):
        assert figure.kept, figure
