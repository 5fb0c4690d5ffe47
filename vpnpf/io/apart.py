"""A call in a thread of its own, which may be put into another network namespace first, and ends with the call."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

SO_MARK = 36
"""socket(7); Python 3.11 does not name it."""


async def apart(call: Callable[[], T], enter: Callable[[], None], name: str) -> T:
    """Let `call` be made by a thread that `enter` has put elsewhere. Raises what either raises.

    Nobody waits for that thread if this is cancelled: the C library's look-ups cannot be interrupted, and must not hold
    up our end.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def settle(found: T | None, error: Exception | None) -> None:
        if answer.done():
            return
        if error is None:
            answer.set_result(found)  # type: ignore[arg-type] # without an error it is what `call` returned
        else:
            answer.set_exception(error)

    def work() -> None:
        found, problem = None, None
        try:
            enter()
            found = call()
        except Exception as error:  # noqa: BLE001 - it is raised where it is waited for
            problem = error
        with contextlib.suppress(RuntimeError):  # nobody is left to be told
            loop.call_soon_threadsafe(settle, found, problem)

    threading.Thread(target=work, name=name, daemon=True).start()
    return await answer
