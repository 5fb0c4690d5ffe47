"""Reading what a torrent client's API says: of the right type, or it is said by name; and safe to show."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from vpnpf.api import Unsupported
from vpnpf.printable import printable as safe

LONGEST = 200
"""Characters that are shown of what somebody else said."""


def decoded(body: bytes, doing: str, hint: str) -> object:
    """The JSON value. Raises Unsupported."""
    try:
        said: object = json.loads(body)
    except (ValueError, RecursionError):
        raise Unsupported(doing, "the answer is not JSON", hint) from None
    return said


def field(said: Mapping[str, Any], name: str, kind: type[Any], doing: str, hint: str) -> Any:  # noqa: ANN401 - of that kind
    """The value of this name, if it is of that very type. Raises Unsupported."""
    value = said.get(name)
    if type(value) is not kind:
        raise Unsupported(doing, f'it says nothing usable of "{name}"', hint)
    return value


def printable(text: str) -> str:
    """What somebody else said, on one line and not without end."""
    return safe(text, LONGEST)
