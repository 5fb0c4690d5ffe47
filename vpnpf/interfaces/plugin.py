"""What a plug-in says of itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct


def _anything(_value: object) -> str:
    return ""


class Option(Struct, frozen=True):
    """A plug-in's own setting, as `[profiles.NAME.options]` or `[clients.NAME]` may hold it."""

    name: str
    type: type[str | int | bool | list[Any]]
    """Of a list, `check` looks at the items."""
    help: str
    check: Callable[[object], str] = _anything
    """Says in a few words what is wrong with a value of the right type; empty: nothing."""


class Manifest(Struct, frozen=True):
    """What a plug-in says of itself; read without doing anything."""

    id: str
    name: str
    """As people write it: "ProtonVPN"."""
    summary: str
    """One line, no full stop."""
    verified: str
    """How far it was proven: "mock", "real daemon", "real service"."""
    options: tuple[Option, ...] = ()
    max_forwards: int = 1
    """How many forwards a profile may have with it (providers only)."""
    account: bool = False
    """Whether it logs in with the user name and password of an account, that `vpnpf login` asks for (providers only)."""
    supplies: tuple[str, ...] = ()
    """Types of tunnels whose configuration it makes itself, so that there is no file (providers only): `Supplying`."""
    help: str = ""
    """What the person has to do on the provider's site, in a few sentences (providers only)."""
    ended: str = ""
    """Why it has no ports to give, with the date, as a sentence; then it cannot be configured (providers only)."""
    announces: bool = False
    """Whether its gateway tells everybody when it restarts, so that `listen` is worth calling (providers only)."""
    port_switch: bool = False
    """Whether the account or server has a port policy of its own, to be read and set (providers only): `Switching`."""
    username_suffix: str = ""
    """What the user name at its servers ends with for port forwarding, where there are user names (providers only)."""
    keeps_port: bool = False
    """Whether the token of a lease brings the same port through any tunnel, for as long as the provider itself takes it
    (providers only): then it is never asked for as if nothing had been held."""
    direct: bool = False
    """Whether it works on the machine's own link, without a tunnel, and only there (providers and tunnels)."""
    sets_device: bool = True
    """Whether it can be told which device to listen on (clients only); if not, it listens on any."""
    tests_port: bool = False
    """Whether it can have its port knocked on from the internet (clients only): `PortTesting`."""
    keys: tuple[str, ...] = ("config",)
    """Keys of [profiles.NAME.tunnel] that it reads beside `type` (tunnels only)."""
    required: tuple[str, ...] = ("config",)
    """Those of them that cannot be left out (tunnels only)."""
    adopts: bool = False
    """Whether the device is somebody else's, so that there is nothing to lock (tunnels only)."""
