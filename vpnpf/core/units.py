"""Amounts in words. Pure."""

from __future__ import annotations

_STEP = 1024
_LARGER = ("KiB", "MiB", "GiB", "TiB")


def size(octets: float) -> str:
    """Bytes for people: "12 B", "3.4 MiB"."""
    value, unit = float(octets), "B"
    for larger in _LARGER:
        if value < _STEP:
            break
        value, unit = value / _STEP, larger
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
