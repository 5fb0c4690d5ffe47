"""Pictures of an app that runs without a terminal: one of it as it is, and a film of what it shows."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mock_provider import svg
from vpnpf.errors import VpnpfError

if TYPE_CHECKING:
    from textual.pilot import Pilot

STEP = 0.5
"""Seconds between two frames of a film."""
REST = 2.0
"""Seconds that its last frame stays."""
SETTLED = 0.4
"""Seconds after which what was asked for is shown."""
_LONGEST = 60.0


@contextlib.asynccontextmanager
async def filmed(pilot: Pilot[str], path: Path, title: str) -> AsyncIterator[None]:
    """All that is shown while the body runs, as a moving picture that begins anew when it has ended."""
    frames: list[tuple[float, svg.Frame]] = []
    began = time.monotonic()

    async def film() -> None:
        while True:
            frame = _frame(pilot)
            if not frames or frame != frames[-1][1]:
                frames.append((round(time.monotonic() - began, 1) if frames else 0.0, frame))
            await asyncio.sleep(STEP)

    filming = asyncio.create_task(film(), name="film")
    try:
        yield
    finally:
        filming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await filming
    _write(path, svg.moving(frames, frames[-1][0] + REST, pilot.app.size.width, title))


async def shoot(pilot: Pilot[str], path: Path, title: str) -> None:
    """What is shown now, without what pops up for a moment."""
    pilot.app.clear_notifications()
    await pilot.pause(SETTLED)
    _write(path, svg.still(_frame(pilot), pilot.app.size.width, title))


async def until(pilot: Pilot[str], condition: Callable[[], bool], wanted: str) -> None:
    """Wait for it. Raises VpnpfError with what was wanted."""
    try:
        async with asyncio.timeout(_LONGEST):
            while not condition():
                await pilot.pause(0.05)
    except TimeoutError:
        raise VpnpfError("taking a picture", f"not in {_LONGEST:g} s: {wanted}") from None


def _frame(pilot: Pilot[str]) -> svg.Frame:
    app = pilot.app
    return svg.frame(app.screen._compositor.render_strips(app.size))  # noqa: SLF001 - what the terminal is given


def _write(path: Path, text: str) -> None:
    path.write_text(text)
