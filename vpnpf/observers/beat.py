"""Something done again and again beside an observer's reading."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def beating(look: Callable[[], None], every: float) -> Iterator[None]:
    """Call `look` every so many seconds while the body runs; the first time after that time."""

    async def again() -> None:
        while True:
            await asyncio.sleep(every)
            look()

    task = asyncio.create_task(again(), name="beat")
    try:
        yield
    finally:
        task.cancel()
