"""A lab or a whole provider for each test. Without root they fail: a system test that did not run proves nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from mock_provider.provider import MockProvider
from mock_provider.topology import Lab


@pytest.fixture
async def lab() -> AsyncIterator[Lab]:
    """Namespaces of client, router, VPN server and internet host; up in about 30 ms."""
    async with Lab() as made:
        yield made


@pytest.fixture
async def provider() -> AsyncIterator[MockProvider]:
    """A ProtonVPN-like provider with leases of 60 s; up in about 80 ms. Set `provider.gateway.lifetime` for less."""
    async with MockProvider() as made:
        yield made
