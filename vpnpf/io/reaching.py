"""How far many endpoints are, measured together."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence

from vpnpf.errors import Failure
from vpnpf.model import Endpoint

AT_ONCE = 16
"""Connections that are tried at a time: more would wait for each other, and measure that."""


async def reached(
    reach: Callable[[Endpoint], Awaitable[float]], endpoints: Sequence[Endpoint], within: float
) -> Mapping[Endpoint, float]:
    """Seconds by endpoint, of those that answered before `within` seconds were over for all of them."""
    found: dict[Endpoint, float] = {}
    waiting = iter(dict.fromkeys(endpoints))

    async def one_after_another() -> None:
        for endpoint in waiting:
            with contextlib.suppress(Failure):
                found[endpoint] = await reach(endpoint)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within), asyncio.TaskGroup() as group:
            for _ in range(min(AT_ONCE, len(endpoints))):
                group.create_task(one_after_another())
    return found
