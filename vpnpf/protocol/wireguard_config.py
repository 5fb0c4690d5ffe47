"""WireGuard configuration files as providers hand them out (wg-quick(8)), by an allow-list that regenerates.

Nothing of the file's text reaches a program: each value is parsed into a type of its own, and `wg setconf` gets
text that is written anew from those. A key that is not known is a mistake, above all the keys with
which wg-quick runs commands. Texts hold nothing of the file but key names that we know, since anything else may
be a secret in the wrong place.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from vpnpf.errors import ConfigError, Mistake
from vpnpf.model import Endpoint
from vpnpf.protocol import values

T = TypeVar("T")

KEEPALIVE = 25
"""Seconds; keeps the way in open through a NAT, and makes the first handshake."""
MTU = 1420
_LEAST_MTU = {4: 576, 6: 1280}
"""By IP version; RFC 8200 section 5. Below the second the kernel takes IPv6 off the device."""
_EVERYTHING = ("0.0.0.0/0", "::/0")
_SCRIPTS = ("PreUp", "PostUp", "PreDown", "PostDown")
_OURS = ("Table", "FwMark")
_SAVE = "SaveConfig"
_INTERFACE = ("PrivateKey", "Address", "DNS", "MTU", "ListenPort")
_PEER = ("PublicKey", "PresharedKey", "Endpoint", "AllowedIPs", "PersistentKeepalive")
_REPEATABLE = {"Address", "DNS", "AllowedIPs"}
_SECTION = re.compile(r"\[[ \t]*(interface|peer)[ \t]*\]", re.IGNORECASE | re.ASCII)
_UNKNOWN = "?"
"""Stands for a section that is a mistake; its keys are not looked at."""


@dataclass(frozen=True, slots=True)
class WireGuardConfig:
    """A tunnel to one server."""

    private_key: str = field(repr=False)
    public_key: str
    host: str
    """Name or address of the server."""
    port: int
    addresses: tuple[str, ...]
    """Own addresses with prefix length."""
    preshared_key: str | None = field(default=None, repr=False)
    dns: tuple[str, ...] = ()
    mtu: int = MTU
    listen_port: int | None = None
    keepalive: int = KEEPALIVE
    notes: tuple[str, ...] = ()
    """The file's comments."""

    def setconf(self, endpoint: Endpoint, mark: int) -> str:
        """What `wg setconf` gets (wg(8), "CONFIGURATION FILE FORMAT"). Holds the private key."""
        lines = ["[Interface]", f"PrivateKey = {self.private_key}", f"FwMark = {mark:#x}"]
        if self.listen_port is not None:
            lines.append(f"ListenPort = {self.listen_port}")
        lines += ["[Peer]", f"PublicKey = {self.public_key}"]
        if self.preshared_key is not None:
            lines.append(f"PresharedKey = {self.preshared_key}")
        lines += [
            f"Endpoint = {endpoint}",
            f"AllowedIPs = {', '.join(_EVERYTHING)}",
            f"PersistentKeepalive = {self.keepalive}",
        ]
        return "\n".join(lines) + "\n"


def parse(text: str, name: str) -> WireGuardConfig:
    """Read a file's text; `name` is how errors call the file. Raises ConfigError with every mistake."""
    reader = _Reader(name)
    reader.read(text.removeprefix("\ufeff"))
    return reader.build()


class _Reader:
    """One file: values by section and key, and the mistakes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mistakes: list[tuple[float, Mistake]] = []
        """With their lines; what belongs to none comes last."""
        self._sections: dict[str, int] = {}
        self._values: dict[str, list[tuple[int, str]]] = {}
        """By "Section.Key" as we write it: (line, value)."""
        self._notes: list[str] = []

    def read(self, text: str) -> None:
        """Take all lines in."""
        section = ""
        for number, raw in enumerate(re.split(r"\r\n|\n|\r", text), 1):
            if any(not (character.isprintable() or character == "\t") for character in raw):
                self._wrong(number, "it holds a control character", "write the line anew")
                continue
            line, mark, comment = raw.partition("#")
            if mark and comment.strip():
                self._notes.append(comment.strip())
            line = line.strip()
            if not line:
                continue
            if line.startswith("["):
                section = self._section(number, line)
            else:
                self._pair(number, section, line)

    def build(self) -> WireGuardConfig:
        """The configuration. Raises ConfigError if anything is wrong."""
        private = self._one("Interface.PrivateKey", values.key)
        public = self._one("Peer.PublicKey", values.key)
        place = self._one("Peer.Endpoint", values.place)
        addresses = self._several("Interface.Address", values.interface_address)
        allowed = self._several("Peer.AllowedIPs", values.prefix)
        dns = self._several("Interface.DNS", values.resolver, required=False)
        preshared = self._one("Peer.PresharedKey", values.key, required=False)
        mtu = self._one("Interface.MTU", values.number(_LEAST_MTU[4], 65535), required=False)
        listen = self._one("Interface.ListenPort", values.number(0, values.LAST_PORT), required=False)
        keepalive = self._one("Peer.PersistentKeepalive", values.keepalive, required=False)
        if allowed and _EVERYTHING[0] not in allowed:
            line = self._values["Peer.AllowedIPs"][0][0]
            hint = "write AllowedIPs = 0.0.0.0/0, ::/0: whoever comes in may have any address, and must be answered"
            self._wrong(line, "AllowedIPs does not hold 0.0.0.0/0", hint)
        if addresses and all(":" in address for address in addresses):
            line = self._values["Interface.Address"][0][0]
            self._wrong(line, "no IPv4 address", "port forwarding by NAT-PMP needs one")
        if mtu is not None and mtu < _LEAST_MTU[6] and any(":" in address for address in addresses):
            line = self._values["Interface.MTU"][0][0]
            self._wrong(line, f"MTU: IPv6 needs at least {_LEAST_MTU[6]}", "raise it, or remove the IPv6 address")
        families = {":" in address for address in addresses}
        if self._mistakes or private is None or public is None or place is None:
            raise ConfigError(tuple(mistake for _, mistake in sorted(self._mistakes, key=lambda each: each[0])))
        return WireGuardConfig(
            private_key=private,
            public_key=public,
            host=place[0],
            port=place[1],
            addresses=tuple(sorted(addresses, key=lambda address: ":" in address)),
            preshared_key=preshared,
            # A resolver of a family that the tunnel does not carry could only be asked beside it.
            dns=tuple(server for server in dns if server and (":" in server) in families),
            mtu=MTU if mtu is None else mtu,
            listen_port=listen or None,
            keepalive=keepalive or KEEPALIVE,
            notes=tuple(self._notes),
        )

    def _section(self, number: int, line: str) -> str:
        found = _SECTION.fullmatch(line)
        if found is None:
            self._wrong(number, "it is not a section", "there are [Interface] and [Peer]")
            return _UNKNOWN
        name = found[1].title()
        if name in self._sections:
            hint = "a file for one server has one [Peer]" if name == "Peer" else "keep one of them"
            self._wrong(number, f"a second [{name}], after line {self._sections[name]}", hint)
        self._sections.setdefault(name, number)
        return name

    def _pair(self, number: int, section: str, line: str) -> None:
        key, equals, value = (part.strip() for part in line.partition("="))
        known = {"Interface": _INTERFACE, "Peer": _PEER}.get(section, ())
        name = _named(key, known)
        if not equals:
            self._wrong(number, "it is neither a section nor KEY = VALUE", "remove the line, or put # before it")
        elif name is None:
            self._unknown(number, section, key, known)
        elif not value:
            self._wrong(number, f"{name} has no value")
        elif f"{section}.{name}" in self._values and name not in _REPEATABLE:
            first = self._values[f"{section}.{name}"][0][0]
            self._wrong(number, f"{name} is there already, in line {first}", "keep one of them")
        else:
            self._values.setdefault(f"{section}.{name}", []).append((number, value))

    def _unknown(self, number: int, section: str, key: str, known: tuple[str, ...]) -> None:
        if name := _named(key, _SCRIPTS):
            what, hint = f"{name} would run a command as root", "remove the line: vpnpf runs no commands from a file"
        elif name := _named(key, (_SAVE,)):
            what, hint = f"{name} would overwrite this file", "remove the line"
        elif name := _named(key, _OURS):
            what, hint = f"{name} is chosen by vpnpf, so that nothing goes beside the tunnel", "remove the line"
        elif section == _UNKNOWN:
            return
        elif not section:
            what, hint = "a key before the first section", "begin with [Interface]"
        else:
            near = difflib.get_close_matches(key, known, n=1)
            what = f"unknown key in [{section}]"
            hint = f"did you mean {near[0]}?" if near else "remove the line"
        self._wrong(number, what, hint)

    def _one(self, key: str, read: Callable[[str], T], *, required: bool = True) -> T | None:
        found = self._values.get(key)
        if not found:
            if required:
                section, _, name = key.partition(".")
                self._wrong(None, f"{name} is missing in [{section}]", "download the file anew from your provider")
            return None
        number, value = found[0]
        try:
            return read(value)
        except ValueError as error:
            self._wrong(number, f"{key.partition('.')[2]}: {error}")
            return None

    def _several(self, key: str, read: Callable[[str], str], *, required: bool = True) -> tuple[str, ...]:
        if key not in self._values:
            self._one(key, read, required=required)
            return ()
        found = []
        for number, line in self._values[key]:
            for value in line.split(","):
                try:
                    found.append(read(value.strip()))
                except ValueError as error:
                    self._wrong(number, f"{key.partition('.')[2]}: {error}")
        return tuple(dict.fromkeys(found))

    def _wrong(self, number: int | None, what: str, hint: str = "") -> None:
        where = self._name if number is None else f"{self._name}:{number}"
        self._mistakes.append((math.inf if number is None else number, Mistake(where, what, hint)))


def _named(key: str, names: tuple[str, ...]) -> str | None:
    """The name that a key is, whatever its case; letters that only look alike are others."""
    return next((name for name in names if key.isascii() and name.lower() == key.lower()), None)
