"""What somebody typed as a user name or password."""

from __future__ import annotations

from collections.abc import Mapping

from vpnpf.errors import UsageError
from vpnpf.secrets import LARGEST

_LONGEST = LARGEST // 2 - 1
"""Bytes of a line, so that two fit where secrets are kept."""


def check_typed(doing: str, typed: Mapping[str, str]) -> None:
    """See that each can be one, by what it is called. Raises UsageError, which does not repeat it."""
    for name, line in typed.items():
        if not line:
            raise UsageError(doing, f"the {name} is empty", "nothing was kept")
        if not line.isprintable():
            raise UsageError(doing, f"the {name} has a character that nobody can type", "write it anew")
        if len(line.encode()) > _LONGEST:
            raise UsageError(doing, f"the {name} is longer than {_LONGEST} bytes", "nothing was kept")
