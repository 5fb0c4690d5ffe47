"""What a plug-in says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from msgspec import Struct

from vpnpf.model import ForwardSpec

Verified = Literal["none", "mock", "real daemon", "real service", "not needed"]
"""How far a plug-in was proven: against nothing yet, a mock of the far side, the program that is the far side, or the
service itself; or there is nothing to prove, since it asks nobody."""


def _anything(_value: object) -> str:
    return ""


def _no_objection(_options: Mapping[str, object], _forwards: tuple[ForwardSpec, ...]) -> tuple[Objection, ...]:
    return ()


class Option(Struct, frozen=True):
    """A plug-in's own setting, as `[profiles.NAME.options]` or `[clients.NAME]` may hold it."""

    name: str
    type: type[str | int | bool | list[Any]]
    """Of a list, `check` is asked about each item."""
    help: str
    check: Callable[[object], str] = _anything
    """Says in a few words what is wrong with a value of the right type; empty: nothing."""
    required: bool = False
    """Whether it cannot be left out."""


class Objection(Struct, frozen=True):
    """What is wrong with a profile as a plug-in sees it."""

    key: tuple[str | int, ...]
    """Where, below [profiles.NAME]: ("options", "ports", 0), ("forwards", "torrent", "external_port")."""
    what: str
    """In a few words."""
    hint: str = ""
    """The next step."""


class FileFacts(Struct, frozen=True):
    """What a configuration file of a tunnel says, without its keys."""

    type: str
    """"wireguard" or "openvpn"."""
    host: str
    """Name or address of its server."""
    notes: tuple[str, ...] = ()
    """Its comments."""
    addresses: tuple[str, ...] = ()
    """Own addresses in the tunnel, with prefix length."""
    dns: tuple[str, ...] = ()


class Verdict(Struct, frozen=True):
    """What a provider makes of a file."""

    mine: bool = False
    """Whether the file is one of its own."""
    no_ports: str = ""
    """Why no port can be had with it, as a sentence without full stop; empty: nothing speaks against it."""
    hint: str = ""
    """The next step then."""


def _no_verdict(_facts: FileFacts) -> Verdict:
    return Verdict()


class Manifest(Struct, frozen=True):
    """What a plug-in says of itself; read without doing anything."""

    id: str
    name: str
    """As people write it: "ProtonVPN"."""
    summary: str
    """One line, no full stop."""
    verified: Verified
    """How far it was proven."""
    verified_with: str = ""
    """With what, in a few words: "qBittorrent 4.5.2"."""
    options: tuple[Option, ...] = ()
    check: Callable[[Mapping[str, object], tuple[ForwardSpec, ...]], tuple[Objection, ...]] = _no_objection
    """What is wrong with options and forwards together; asks nobody (providers only). It is given the options that are right
    by themselves, and not called while one that is `required` is missing or wrong."""
    max_forwards: int = 1
    """How many forwards a profile may have with it (providers only)."""
    account: bool = False
    """Whether it logs in with the user name and password of an account, that `vpnpf login` asks for (providers only)."""
    account_user: str = ""
    """What such a user name looks like, in a few words: "p and seven digits" (providers only)."""
    supplies: tuple[str, ...] = ()
    """Types of tunnels whose configuration it makes itself, so that there is no file (providers only): `Supplying`."""
    help: str = ""
    """What the person has to do on the provider's site, or in the torrent client, in a few sentences."""
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
    fixed_ports: bool = False
    """Whether its ports are what a person sets on its site, so that no other can be asked for (providers only)."""
    domains: tuple[str, ...] = ()
    """Domains of its servers' names: a configuration file for a host in one of them is its own (providers only)."""
    judge: Callable[[FileFacts], Verdict] = _no_verdict
    """Whether a configuration file is its own by other signs, and good for a port; a pure function (providers only)."""
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
