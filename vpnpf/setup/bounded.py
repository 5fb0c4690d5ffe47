"""A look at file systems that may never answer: one of the network whose server is gone, or one that a person's own program serves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from vpnpf.io.apart import apart

T = TypeVar("T")

SECONDS = 5.0
"""For one look."""


async def within(look: Callable[[], T], otherwise: T) -> T:
    """What a look finds, or the other where it takes too long. Nobody waits for its thread then, also not at our end."""
    try:
        async with asyncio.timeout(SECONDS):
            return await apart(look, _stay, "vpnpf looking")
    except TimeoutError:
        return otherwise


def _stay() -> None:
    """Where the caller is."""
