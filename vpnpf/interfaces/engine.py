"""The adapters that the engine itself uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from vpnpf.model import Connection, FirewallPolicy, FirewallReading, LanPrefix, ListeningSocket, Tunnel


class Clock(Protocol):
    """Time, so that it can be made up in tests."""

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        ...

    def wall(self) -> float:
        """Seconds since 1970 in UTC, for people only."""
        ...


class Firewall(Protocol):
    """The kernel's packet filter, one rule set at a time."""

    async def apply(self, policy: FirewallPolicy, now: float) -> FirewallReading:
        """Swap the rule set in one transaction and read it back. Raises Failure; then the old one stands."""
        ...

    async def read(self) -> FirewallReading:
        """Compare the kernel's rule set with what was applied last, and read the counters."""
        ...

    async def remove(self) -> None:
        """Take our rules away, and nothing else. Never raises for what is gone already."""
        ...

    async def watch(self) -> None:
        """Wait, for days if need be, until somebody changed our rules; ours count too. Raises Unavailable."""
        ...


class Sockets(Protocol):
    """The kernel's list of sockets."""

    async def listening(self, port: int) -> tuple[ListeningSocket, ...]:
        """Sockets bound to this local port for inbound packets, in this network namespace."""
        ...

    async def connected(self, port: int) -> tuple[Connection, ...]:
        """TCP connections on this local port, but those begun here. Raises Failure."""
        ...


class Lan(Protocol):
    """The machine's own links."""

    async def prefixes(self, without: str) -> tuple[LanPrefix, ...]:
        """Private prefixes (RFC 1918, ULA, link-local) on connected links other than the device `without`."""
        ...


class ExitCheck(Protocol):
    """Somebody on the internet who says which address he sees."""

    async def address(self, tunnel: Tunnel) -> str:
        """The address in its canonical form, asked for through the tunnel. Raises Failure."""
        ...


class Store(Protocol):
    """What must survive a restart: written atomically, mode 0600."""

    def load(self, name: str) -> dict[str, object] | None:
        """The value saved last under this name, or None. A damaged file is put aside, not raised."""
        ...

    def save(self, name: str, value: Mapping[str, object]) -> None:
        """Replace the value in one step. Raises Unavailable if the disk says no."""
        ...

    def forget(self, name: str) -> None:
        """Remove the value; nothing happens if there is none."""
        ...
