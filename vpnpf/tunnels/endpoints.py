"""The server's addresses, looked up or known from last time."""

from __future__ import annotations

import contextlib
import ipaddress
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vpnpf.errors import VpnpfError
from vpnpf.io.resolver import resolve
from vpnpf.tunnels.whole import in_thread
from vpnpf.whole_file import replace_file

_MOST = 64
"""Hosts that are kept."""


class Endpoints:
    """Looks a name up; while everything is blocked no resolver is asked, so what was found is kept."""

    def __init__(self, keep: Path, enter: Callable[[], None] = lambda: None) -> None:
        self._keep = keep
        """In a directory that only we can write."""
        self._enter = enter
        """Puts the thread that asks into the network namespace to ask from."""

    async def addresses(self, host: str, port: int) -> tuple[str, ...]:
        """All of them, at least one; those known last if nobody answers. Raises Transient, Misconfigured."""
        try:
            found = await resolve(host, port, self._enter)
        except VpnpfError:
            known = await in_thread(self._known, host)
            if not known:
                raise
            return known
        if found != (host,):
            with contextlib.suppress(OSError):  # without it, it is looked up again
                await in_thread(self._remember, host, found)
        return found

    def _known(self, host: str) -> tuple[str, ...]:
        try:
            return tuple(str(ipaddress.ip_address(address)) for address in self._all()[host])
        except (ValueError, TypeError, LookupError):
            return ()

    def _remember(self, host: str, addresses: tuple[str, ...]) -> None:
        self._keep.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._all()
        known.pop(host, None)
        newest = [*known.items(), (host, addresses)][-_MOST:]
        # In one step: a run that is killed must not take what is known of the other servers with it.
        replace_file(self._keep, json.dumps(dict(newest)))

    def _all(self) -> dict[str, Any]:
        """Addresses by host, the newest last; what is not to be read is none."""
        try:
            known = json.loads(self._keep.read_text())
        except (OSError, ValueError, RecursionError):
            known = None
        return known if isinstance(known, dict) else {}
