"""The short form of `python -m tests.bench.face`."""

from __future__ import annotations

import pytest

from tests.bench import face

pytestmark = pytest.mark.alone


def test_the_first_picture_is_not_kept_waiting():
    ours, bare = face.paints(7)
    assert ours <= face.PAINT_AT_MOST * bare, f"{ours:.3f} s, a bare app {bare:.3f} s"


def test_a_ready_profile_costs_next_to_nothing_to_show():
    share = face.idle(20)
    assert share <= face.IDLE_AT_MOST, f"{share:.2%} of a core"
