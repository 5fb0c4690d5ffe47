"""What a screen looks like, as text that can be read and compared: the characters, then the styles where they change.

`SNAPSHOTS=write pytest tests/tui` writes them anew: look at the difference before it is committed.
"""

from __future__ import annotations

import os
from pathlib import Path

SIZES = ((80, 24), (120, 40), (200, 60))
PLACE = Path(__file__).parent / "snapshots"


def picture(app):
    """The whole screen, as a text."""
    strips = app.screen._compositor.render_strips(app.size)
    rows = ["".join(segment.text for segment in strip).rstrip() for strip in strips]
    styles = []
    for number, strip in enumerate(strips, 1):
        spans, at = [], 0
        for segment in strip.simplify():
            spans.append(f"{at} {segment.style}")
            at += segment.cell_length
        styles.append(f"{number}: {' | '.join(spans)}")
    return "\n".join([*rows, "--", *_merged(styles), ""])


def _merged(styles):
    """A line of styles is not repeated while it stays the same."""
    found, before = [], ""
    for line in styles:
        number, _, said = line.partition(": ")
        if said != before:
            found.append(f"{number}: {said}")
        before = said
    return found


def compare(app, name):
    """Hold the screen against the one that is kept by this name and its size."""
    path = PLACE / f"{name}-{app.size.width}x{app.size.height}.txt"
    seen = picture(app)
    if os.environ.get("SNAPSHOTS") == "write":
        PLACE.mkdir(exist_ok=True)
        path.write_text(seen)
        return
    assert path.exists(), f"no {path.name}: SNAPSHOTS=write pytest tests/tui makes it"
    assert seen == path.read_text(), (
        f"{name} looks different; SNAPSHOTS=write pytest tests/tui, then look at the difference"
    )
