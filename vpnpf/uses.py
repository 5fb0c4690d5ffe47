"""When openings were used, as the store keeps it: so that a restart neither forgets what is idle nor calls it so.

Times are seconds since 1970 there, since CLOCK_BOOTTIME starts anew with the machine; `offset` is wall-clock time minus
CLOCK_BOOTTIME, in seconds. A wall clock that was wrong shows in what people are told, and decides nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import cast

from vpnpf.model import Use


def to_store(uses: tuple[Use, ...], offset: float) -> dict[str, object]:
    """What the store keeps, as JSON can hold it."""
    return {"version": 1, "uses": {use.what: _to_json(use, offset) for use in uses}}


def from_store(value: Mapping[str, object] | None, offset: float) -> tuple[Use, ...]:
    """What was kept; what cannot be read is left out."""
    kept = (value or {}).get("uses")
    return tuple(_uses(cast("dict[str, object]", kept), offset)) if isinstance(kept, dict) else ()


def _to_json(use: Use, offset: float) -> dict[str, object]:
    last = None if use.last is None else use.last + offset
    flags = {"reported": use.reported, "closed": use.closed}
    return {"since": use.since + offset, "last": last, "idle": use.idle, **flags}


def _uses(kept: Mapping[str, object], offset: float) -> Iterator[Use]:
    for what, value in kept.items():
        if not isinstance(value, dict):
            continue
        fields = cast("dict[str, object]", value)
        since, last, idle = (_number(fields.get(name)) for name in ("since", "last", "idle"))
        if since is None or idle is None or idle < 0:
            continue
        reported, closed = fields.get("reported") is True, fields.get("closed") is True
        yield Use(what, since - offset, None if last is None else last - offset, idle, reported, closed)


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
