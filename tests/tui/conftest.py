"""What the tests of the face share."""

from __future__ import annotations

import pytest

from tests.tui.face_world import FakeDaemon
from tests.unit.engine_world import World


@pytest.fixture
def daemon():
    world = World()
    world.ready()
    return FakeDaemon(world)
