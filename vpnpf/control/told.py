"""What a daemon told, as values; and that it told what cannot be read: it may be of another version. Pure."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from vpnpf.errors import Unavailable

Value = TypeVar("Value")
ASKING = "asking vpnpf"


def told(raw: object, kind: type[Value], what: str = "answer", doing: str = ASKING) -> Value:
    """A value of this kind. Raises Unavailable for what is none."""
    try:
        return msgspec.convert(raw, kind)
    except ValueError as error:  # msgspec.ValidationError is one
        raise unreadable(error, what, doing) from error


def unreadable(why: object, what: str = "answer", doing: str = ASKING) -> Unavailable:
    """That it is none of ours; `why` may be empty."""
    said = f": {why}" if str(why) else ""
    return Unavailable(doing, f"its {what} cannot be read{said}", "is another version of vpnpf running? restart it")
