"""Fields that `repr` does not show: a traceback, a debugger's log or an f-string must not tell a secret."""

from __future__ import annotations

from msgspec import Struct

HIDDEN = "..."


def without(value: Struct, *names: str) -> str:
    """What `repr` gives for a Struct, without the values of these fields."""
    shown = ((name, HIDDEN if name in names else repr(getattr(value, name))) for name in value.__struct_fields__)
    return f"{type(value).__name__}({', '.join(f'{name}={text}' for name, text in shown)})"
