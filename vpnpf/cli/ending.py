"""The end of a run that is one in any case: whoever starts us anew, like systemd, waits for it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time

from vpnpf.printable import printable

PATIENCE = 10.0
"""Seconds from the engine's end until the process ends, whatever still runs in it."""
STDERR = 2


def end_at_last(status: int, engine: asyncio.Task[object]) -> None:
    """End the process with `status` if it does not end by itself in time, and say what held it up.

    Rules, routes and tunnel stay as they are then, as after kill -9; the next run takes them over. To be called in the
    loop's thread, when `engine` has ended.
    """
    loop = asyncio.get_running_loop()

    def wait() -> None:
        time.sleep(PATIENCE)
        with contextlib.suppress(Exception):
            os.set_blocking(STDERR, False)
            os.write(STDERR, _said(engine, loop).encode(errors="replace"))
        os._exit(status)

    threading.Thread(target=wait, name="end at last", daemon=True).start()


def _said(engine: asyncio.Task[object], loop: asyncio.AbstractEventLoop) -> str:
    error = None if engine.cancelled() or not engine.done() else engine.exception()
    why = "" if error is None else f"error: vpnpf made a mistake: {type(error).__name__}: {error}\n"
    names = ", ".join(sorted(each.get_name() for each in asyncio.all_tasks(loop)))
    held = f"by {names}" if names else "by a call that does not return"
    text = f"{why}error: the end was held up {held}; ended all the same after {PATIENCE:g} s"
    lines = map(printable, text.splitlines())
    return "\n".join(lines) + "\n"
