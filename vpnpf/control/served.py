"""What the control socket needs of the daemon that it serves."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from vpnpf.control.messages import Json
from vpnpf.events import Event
from vpnpf.hub import Hub
from vpnpf.interfaces import Clock

Verb = Callable[[Json], Awaitable[Mapping[str, object]]]
"""What carries out a request with a body. Raises VpnpfError for what is not to be."""


class Seen(Protocol):
    """A profile that can be watched."""

    @property
    def profile(self) -> str:
        """Its name."""
        ...

    @property
    def hub(self) -> Hub:
        """One for the whole life of the daemon."""
        ...

    @property
    def clock(self) -> Clock:
        """The engine's."""
        ...

    def traffic(self, interface: str) -> tuple[int, int] | None:
        """Bytes that a device received and sent; None: it is not there. Never raises nor waits."""
        ...


class Policies(Protocol):
    """Its port policy: see `control.policy_verbs`."""

    async def show(self, arguments: Json) -> Mapping[str, object]:
        """What is in force, and where it comes from."""
        ...

    async def set(self, arguments: Json) -> Mapping[str, object]:
        """Another one from now on."""
        ...

    async def reset(self, arguments: Json) -> Mapping[str, object]:
        """The configuration's own again."""
        ...

    async def explain(self, arguments: Json) -> Mapping[str, object]:
        """Which part of it decides about a new flow."""
        ...


class Asked(Protocol):
    """What a profile answers beside its life: see `control.asked`. Each raises VpnpfError."""

    async def exposure(self) -> Mapping[str, object]:
        """What `vpnpf exposure --json` prints."""
        ...

    async def report(self) -> str:
        """What `vpnpf report` prints: redacted."""
        ...

    async def plan(self, body: Json) -> Mapping[str, object]:
        """What a change of the port policy would bring. Raises UsageError for one that cannot be."""
        ...

    async def logins(self) -> Mapping[str, object]:
        """Whom one can log in to."""
        ...

    async def login(self, body: Json) -> Mapping[str, object]:
        """Try a login once, and keep it. Raises Misconfigured for a refusal; no text has the password."""
        ...


class Served(Seen, Protocol):
    """A daemon that takes commands. Each raises VpnpfError: NotNow for what cannot be at the moment."""

    @property
    def policies(self) -> Policies:
        """Of the engine that runs now."""
        ...

    def post(self, event: Event) -> None:
        """Hand the engine a wish; never waits."""
        ...

    async def start(self) -> None:
        """Read the configuration anew and begin. Raises ConfigError, and the old one is kept."""
        ...

    async def stop(self) -> None:
        """Have tunnel and port taken down; the daemon stays."""
        ...

    async def restart(self) -> None:
        """The same, and begin again. Raises ConfigError for the configuration as it is now, and then it goes on untouched."""
        ...

    async def shutdown(self) -> None:
        """Have everything taken down and the daemon ended; the answer still goes out."""
        ...

    async def servers(self) -> Sequence[Mapping[str, object]]:
        """Each with number, place, endpoint and current."""
        ...
