"""Work that is not left half done: to the end though cancelled, and all of it though a part fails."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar, cast

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Wait for work even if cancelled meanwhile; the cancellation comes when it is done. Raises what the work raises."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # looked at, so that nobody complains that it was not
        raise cancelled
    return task.result()


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Call something that reads or writes files without holding up the loop. A call that was begun is waited for."""
    return await to_the_end(asyncio.to_thread(function, *arguments))


async def together(first: Awaitable[A], second: Awaitable[B], third: Awaitable[C]) -> tuple[A, B, C]:
    """Do three things side by side and wait for all of them; then raise the first failure."""
    done = await asyncio.gather(first, second, third, return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return cast("tuple[A, B, C]", tuple(done))


async def all_of(*steps: Callable[[], Awaitable[object]]) -> None:
    """Take every step, though one before it failed, and then raise the first failure."""
    failures = []
    for step in steps:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - whatever it is, the steps after it must be taken
            failures.append(error)
    if failures:
        raise failures[0]
