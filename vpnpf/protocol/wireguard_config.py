"""WireGuard configuration files as providers hand them out (wg-quick(8)), by an allow-list that regenerates.

Nothing of the file's text reaches a program: each value is parsed into a type of its own, and `wg setconf` gets
text that is written anew from those. A key that is not known is a mistake, above all the keys with
which wg-quick runs commands. Texts never hold values, since any of them may be a secret on the wrong line.
"""

from __future__ import annotations

import base64
import binascii
import difflib
import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from vpnpf.errors import ConfigError, Mistake
from vpnpf.model import Endpoint

T = TypeVar("T")

KEEPALIVE = 25
"""Seconds; keeps the way in open through a NAT, and makes the first handshake."""
MTU = 1420
_KEY_LENGTH = 32
_LAST_PORT = 65535
_EVERYTHING = ("0.0.0.0/0", "::/0")
_SCRIPTS = {"preup", "postup", "predown", "postdown"}
_INTERFACE = ("PrivateKey", "Address", "DNS", "MTU", "ListenPort")
_PEER = ("PublicKey", "PresharedKey", "Endpoint", "AllowedIPs", "PersistentKeepalive")
_REPEATABLE = {"address", "dns", "allowedips"}
_HOST = re.compile(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,62})(?:\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*\.?")


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

    @property
    def has_ipv6(self) -> bool:
        """Whether the tunnel has an IPv6 address."""
        return any(":" in address for address in self.addresses)

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
        self._mistakes: list[Mistake] = []
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
        private = self._one("Interface.PrivateKey", _key)
        public = self._one("Peer.PublicKey", _key)
        place = self._one("Peer.Endpoint", _place)
        addresses = self._several("Interface.Address", _address)
        allowed = self._several("Peer.AllowedIPs", _prefix)
        dns = self._several("Interface.DNS", _resolver, required=False)
        preshared = self._one("Peer.PresharedKey", _key, required=False)
        mtu = self._one("Interface.MTU", _number(576, 65535), required=False)
        listen = self._one("Interface.ListenPort", _number(0, _LAST_PORT), required=False)
        keepalive = self._one("Peer.PersistentKeepalive", _keepalive, required=False)
        if allowed and _EVERYTHING[0] not in allowed:
            line = self._values["Peer.AllowedIPs"][0][0]
            hint = "write AllowedIPs = 0.0.0.0/0, ::/0: whoever comes in may have any address, and must be answered"
            self._wrong(line, "AllowedIPs does not hold 0.0.0.0/0", hint)
        if addresses and not any("." in address for address in addresses):
            line = self._values["Interface.Address"][0][0]
            self._wrong(line, "no IPv4 address", "port forwarding by NAT-PMP needs one")
        if self._mistakes or private is None or public is None or place is None:
            raise ConfigError(tuple(self._mistakes))
        return WireGuardConfig(
            private_key=private,
            public_key=public,
            host=place[0],
            port=place[1],
            addresses=tuple(sorted(addresses, key=lambda address: ":" in address)),
            preshared_key=preshared,
            dns=tuple(server for server in dns if server),
            mtu=MTU if mtu is None else mtu,
            listen_port=listen or None,
            keepalive=keepalive or KEEPALIVE,
            notes=tuple(self._notes),
        )

    def _section(self, number: int, line: str) -> str:
        name = line.strip("[]").strip().title()
        if not (line.endswith("]") and name in {"Interface", "Peer"}):
            self._wrong(number, "it is not a section", "there are [Interface] and [Peer]")
            return ""
        if name in self._sections:
            hint = "a file for one server has one [Peer]" if name == "Peer" else "keep one of them"
            self._wrong(number, f"a second [{name}], after line {self._sections[name]}", hint)
        self._sections.setdefault(name, number)
        return name

    def _pair(self, number: int, section: str, line: str) -> None:
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals:
            self._wrong(number, "it is neither a section nor KEY = VALUE", "remove the line, or put # before it")
            return
        known = {"Interface": _INTERFACE, "Peer": _PEER}.get(section, ())
        name = next((each for each in known if each.lower() == key.lower()), None)
        if name is None:
            self._unknown(number, section, key, known)
        elif not value:
            self._wrong(number, f"{name} has no value")
        elif f"{section}.{name}" in self._values and name.lower() not in _REPEATABLE:
            first = self._values[f"{section}.{name}"][0][0]
            self._wrong(number, f"{name} is there already, in line {first}", "keep one of them")
        else:
            self._values.setdefault(f"{section}.{name}", []).append((number, value))

    def _unknown(self, number: int, section: str, key: str, known: tuple[str, ...]) -> None:
        word = re.sub(r"[^A-Za-z0-9]", "?", key)[:24]
        if key.lower() in _SCRIPTS:
            what, hint = f"{word} would run a command as root", "remove the line: vpnpf runs no commands from a file"
        elif key.lower() == "saveconfig":
            what, hint = f"{word} would overwrite this file", "remove the line"
        elif key.lower() in {"table", "fwmark"}:
            what, hint = f"{word} is chosen by vpnpf, so that nothing goes beside the tunnel", "remove the line"
        elif not section:
            what, hint = "a key before the first section", "begin with [Interface]"
        else:
            near = difflib.get_close_matches(key, known, n=1)
            what = f"unknown key {word} in [{section}]"
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
        self._mistakes.append(Mistake(self._name if number is None else f"{self._name}:{number}", what, hint))


def _key(value: str) -> str:
    try:
        raw = base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _KEY_LENGTH or base64.b64encode(raw).decode() != value:
        raise ValueError("not a key: 44 characters of base64")
    return value


def _address(value: str) -> str:
    try:
        return str(ipaddress.ip_interface(value))
    except ValueError:
        raise ValueError("not an address such as 10.2.0.2/32") from None


def _prefix(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value, strict=False))
    except ValueError:
        raise ValueError("not a prefix such as 0.0.0.0/0") from None


def _resolver(value: str) -> str:
    """An address, or "" for a search domain: those are left out, since they would be asked of the provider."""
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        if _HOST.fullmatch(value) and not re.fullmatch(r"[\d.]+", value):
            return ""
        raise ValueError("neither an address nor a domain") from None


def _place(value: str) -> tuple[str, int]:
    host, _, port = value.rpartition(":")
    if not (port.isascii() and port.isdigit() and len(port) < 6 and 1 <= int(port) <= _LAST_PORT):  # noqa: PLR2004
        raise ValueError("not HOST:PORT with a port from 1 to 65535")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    try:
        return str(ipaddress.ip_address(bare)), int(port)
    except ValueError:
        if bare != host or not _HOST.fullmatch(host) or re.fullmatch(r"[\d.]+", host):
            raise ValueError("not HOST:PORT with a name or an address") from None
        return host, int(port)


def _number(least: int, most: int) -> Callable[[str], int]:
    def read(value: str) -> int:
        if not (value.isascii() and value.isdigit() and len(value) < 7 and least <= int(value) <= most):  # noqa: PLR2004
            raise ValueError(f"not a number from {least} to {most}")
        return int(value)

    return read


def _keepalive(value: str) -> int:
    return 0 if value.lower() == "off" else _number(0, _LAST_PORT)(value)
