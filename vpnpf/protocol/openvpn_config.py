"""OpenVPN files as providers hand them out (openvpn(8), version 2.6), by an allow-list that regenerates.

OpenVPN's own lexer (`openvpn_lexer`) splits the file, each directive is read into words of its own
(`openvpn_options`), blocks are decoded (`openvpn_material`), and OpenVPN gets a text written anew from those.
Nothing else of the file reaches it. Texts hold nothing of the file but names that we know, since anything else may be
a secret in the wrong place.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from hashlib import blake2s
from typing import TypeVar

from msgspec import Struct

from vpnpf.errors import ConfigError, Mistake
from vpnpf.model import Endpoint, Protocol
from vpnpf.protocol import openvpn_directives as directives
from vpnpf.protocol import openvpn_lexer as lexer
from vpnpf.protocol import openvpn_material as material
from vpnpf.protocol import openvpn_options as options

T = TypeVar("T")

DEFAULT_PORT = 1194
LONGEST = 1 << 20
"""Bytes of a file."""
_ALWAYS = (("client",), ("dev", "tun"), ("nobind",))
_WORDS = {Protocol.UDP: "udp", Protocol.TCP: "tcp-client"}
_MOST_SUGGESTED = 40
"""Characters of a name for which the nearest known one is looked for."""


class Remote(Struct, frozen=True):
    """A server as the file names it."""

    host: str
    """Name or address; IPv6 without brackets."""
    port: int
    protocol: Protocol


class OpenVpnConfig(Struct, frozen=True):
    """A tunnel to one of a file's servers."""

    remotes: tuple[Remote, ...]
    remote_random: bool
    options: tuple[tuple[str, ...], ...]
    """What is passed on, as words; always with `client`, `dev tun`, `nobind` and `tls-version-min`."""
    inline: tuple[tuple[str, str], ...]
    """(name of the block, its text): certificates, and keys that nobody may see."""
    needs_password: bool
    """Whether the server asks for a user name and a password."""
    mtu: int | None
    """As the file says, or None."""
    notes: tuple[str, ...] = ()
    """The file's comments."""

    def __repr__(self) -> str:
        """Without the blocks."""
        blocks = ", ".join(name for name, _ in self.inline)
        return f"OpenVpnConfig(remotes={self.remotes!r}, options={self.options!r}, inline=<{blocks}>)"

    def identity(self, remote: Remote | None = None) -> str:
        """Server and client key, told by digests that give neither away; without `remote`, all servers."""
        blocks = dict(self.inline)
        remotes = self.remotes if remote is None else (remote,)
        server = blake2s(digest_size=6)
        server.update(repr((blocks.get("ca"), sorted({each.host for each in remotes}))).encode())
        key = blake2s(repr([blocks.get(name) for name in ("cert", "key")]).encode(), digest_size=6)
        return f"openvpn {server.hexdigest()} {key.hexdigest()}"


def parse(data: bytes, name: str) -> OpenVpnConfig:
    """Read a file; `name` is how errors call it. Raises ConfigError with every mistake, in the order of lines."""
    if len(data) > LONGEST:
        raise ConfigError((Mistake(name, f"it is longer than {LONGEST} bytes", "is it an OpenVPN file?"),))
    reader = _Reader(name)
    for line in lexer.file_lines(data):
        reader.line(line)
    return reader.build()


def render(config: OpenVpnConfig, remote: Endpoint) -> str:
    """What `openvpn --config` gets for one server. Holds the keys."""
    lines = [
        " ".join(map(lexer.quoted, words))
        for words in (*config.options, ("remote", remote.address, str(remote.port), _WORDS[remote.protocol]))
        # OpenVPN refuses it over TCP, where nothing needs to be split.
        if words[0] != "fragment" or remote.protocol is Protocol.UDP
    ]
    for name, text in config.inline:
        lines += [f"<{name}>", text.rstrip("\n"), f"</{name}>"]
    return "\n".join(lines) + "\n"


class _Remote(Struct, frozen=True):
    """A `remote`, with what it leaves open as None."""

    host: str
    port: int | None
    protocol: Protocol | None


class _Reader:
    """One file: what was understood, and the mistakes."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._mistakes: list[tuple[int, Mistake]] = []
        self._seen: dict[str, tuple[int, tuple[str, ...]]] = {}
        """By directive that may stand once: (line, its words)."""
        self._options: dict[str, tuple[str, ...]] = {}
        self._remotes: list[_Remote] = []
        self._blocks: dict[str, str] = {}
        self._port: int | None = None
        self._protocol = Protocol.UDP
        self._ignored: set[str] = set()
        self._notes: list[str] = []
        self._handlers: dict[str, Callable[[int, tuple[str, ...]], None]] = {
            "client": self._bare,
            "remote-random": self._bare,
            "remote": self._remote,
            "proto": self._proto,
            "port": self._default_port,
            "rport": self._default_port,
            "keepalive": self._keepalive,
            "auth-user-pass": self._login,
            "ignore-unknown-option": self._ignore,
        }

    def line(self, line: lexer.Line) -> None:
        """Take one line or block in."""
        if line.comment:
            self._notes.append(line.comment)
        if line.mistake:
            self._wrong(line.number, line.mistake, line.hint)
        elif line.block is not None:
            self._block(line.number, line.block)
        elif line.words:
            words = line.words[2:] if line.words[:2] == ("setenv", "opt") else line.words
            self._directive(line.number, words)

    def build(self) -> OpenVpnConfig:
        """The configuration. Raises ConfigError if anything is wrong."""
        missing: list[Mistake] = []
        if not self._mistakes:
            missing = [Mistake(self._name, what, hint) for what, hint in self._missing()]
        if self._mistakes or missing:
            in_order = sorted(self._mistakes, key=lambda each: each[0])
            raise ConfigError((*(mistake for _, mistake in in_order), *missing))
        self._options.setdefault("tls-version-min", ("tls-version-min", options.TLS_LEAST))
        kept = sorted(self._options.values(), key=lambda words: options.ORDER[words[0]])
        needs_password = "auth-user-pass" in self._seen
        return OpenVpnConfig(
            remotes=tuple(
                Remote(each.host, each.port or self._port or DEFAULT_PORT, each.protocol or self._protocol)
                for each in self._remotes
            ),
            remote_random="remote-random" in self._seen,
            options=(*_ALWAYS, *kept, *([("auth-user-pass",)] if needs_password else [])),
            inline=tuple((name, self._blocks[name]) for name in material.NAMES if name in self._blocks),
            needs_password=needs_password,
            mtu=int(self._options["tun-mtu"][1]) if "tun-mtu" in self._options else None,
            notes=tuple(self._notes),
        )

    def _missing(self) -> list[tuple[str, str]]:
        blocks, found = self._blocks.keys(), []
        if not self._seen.keys() & {"client", "tls-client"}:
            found.append(("client is missing", "use a file for clients with certificates"))
        if "dev" not in self._seen:
            found.append(("dev is missing", "write dev tun"))
        if not self._remotes:
            found.append(("remote is missing", _ANEW))
        if "ca" not in blocks and "peer-fingerprint" not in self._options:
            found.append(("<ca> is missing: anybody could pose as the server", _ANEW))
        if ("cert" in blocks) != ("key" in blocks):
            found.append(("one of <cert> and <key> is missing", _ANEW))
        if "key" not in blocks and "auth-user-pass" not in self._seen:
            found.append(("neither <key> nor auth-user-pass: there is no way to log in", _ANEW))
        if len(blocks & {"tls-auth", "tls-crypt", "tls-crypt-v2"}) > 1:
            found.append(("more than one of <tls-auth>, <tls-crypt> and <tls-crypt-v2>", "keep one of them"))
        return found

    def _block(self, number: int, block: lexer.Block) -> None:
        name = block.name
        if name == "connection":
            self._connection(block)
        elif name == "auth-user-pass":
            self._wrong(number, "it holds a password", _PASSWORD_HINT)
        elif name not in material.NAMES:
            called = f"<{name}>" if name in directives.KNOWN or name in {"dh", "secret", "pkcs12"} else "this block"
            self._wrong(number, f"{called} is not supported", "get a file without it from your provider")
        elif name in self._blocks:
            self._wrong(number, f"a second <{name}>", "keep one of them")
        else:
            try:
                self._blocks[name] = material.read(name, tuple(text for _, text in block.lines))
            except material.Unusable as error:
                self._wrong(number, str(error), error.hint)

    def _connection(self, block: lexer.Block) -> None:
        """One server, with its own port and protocol; what else such a block may say is vpnpf's to choose."""
        protocol, port, remote = self._protocol, self._port, None
        for line in lexer.block_lines(block):
            words = line.words
            if line.mistake:
                self._wrong(line.number, line.mistake, line.hint)
            elif line.block is not None:
                self._wrong(line.number, "a block within <connection>", "put it outside of <connection>")
            elif words and words[0] == "remote" and remote is None:
                remote = self._read_remote(line.number, words[1:])
            elif words and words[0] == "remote":
                self._wrong(line.number, "a second remote in <connection>", "give each a <connection> of its own")
            elif words and words[0] == "proto":
                protocol = self._one(line.number, words, options.protocol) or protocol
            elif words and words[0] in {"port", "rport"}:
                port = self._one(line.number, words, options.port) or port
            elif words and words[0] not in directives.DROPPED:
                self._refuse(line.number, words[0], "is not supported in <connection>")
        if remote is not None:
            self._remotes.append(_Remote(remote.host, remote.port or port, remote.protocol or protocol))

    def _directive(self, number: int, words: tuple[str, ...]) -> None:
        name, given = (words[0], words[1:]) if words else ("", ())
        if handler := self._handlers.get(name):
            handler(number, words)
        elif name in material.NAMES:
            self._external(number, name, given)
        elif name in options.READERS:
            self._read(number, name, given)
        elif name in directives.DROPPED:
            self._seen.setdefault(name, (number, words))
        elif name in directives.REFUSED or name not in self._ignored:
            self._refuse(number, name, "is not supported")

    def _bare(self, number: int, words: tuple[str, ...]) -> None:
        self._once(number, words, 0)

    def _remote(self, number: int, words: tuple[str, ...]) -> None:
        if remote := self._read_remote(number, words[1:]):
            self._remotes.append(remote)

    def _proto(self, number: int, words: tuple[str, ...]) -> None:
        if self._once(number, words, 1):
            self._protocol = self._one(number, words, options.protocol) or self._protocol

    def _default_port(self, number: int, words: tuple[str, ...]) -> None:
        if self._once(number, words, 1):
            self._port = self._one(number, words, options.port) or self._port

    def _keepalive(self, number: int, words: tuple[str, ...]) -> None:
        """A macro; OpenVPN refuses it beside the options that it stands for."""
        if self._once(number, words, 2):
            self._read(number, "ping", words[1:2])
            self._read(number, "ping-restart", words[2:])

    def _login(self, number: int, words: tuple[str, ...]) -> None:
        if words[1:]:
            self._wrong(number, "auth-user-pass names a file", _PASSWORD_HINT)
        else:
            self._once(number, words, 0)

    def _ignore(self, _number: int, words: tuple[str, ...]) -> None:
        self._ignored.update(words[1:])

    def _read(self, number: int, name: str, given: tuple[str, ...]) -> None:
        try:
            words = options.READERS[name](given)
        except ValueError as error:
            self._wrong(number, f"{name}: {error}", directives.REFUSED.get(name, ("", ""))[1])
            return
        self._seen.setdefault(name, (number, words))
        if not words:
            return
        first = self._options.setdefault(words[0], words)
        if first != words:
            self._wrong(number, f"{name} is there already, with another value", "keep one of them")

    def _once(self, number: int, words: tuple[str, ...], takes: int) -> bool:
        name = words[0]
        if len(words) - 1 != takes:
            self._wrong(number, f"{name} takes {takes or 'no'} word{'s' * (takes != 1)}")
            return False
        line, first = self._seen.setdefault(name, (number, words))
        if first != words:
            self._wrong(number, f"{name} is there already, in line {line}, with another value", "keep one of them")
        return True

    def _one(self, number: int, words: tuple[str, ...], read: Callable[[str], T]) -> T | None:
        """The value of a directive that takes one word."""
        try:
            if len(words) != 2:  # noqa: PLR2004 - name and value
                raise ValueError("it takes one word")
            return read(words[1])
        except ValueError as error:
            self._wrong(number, f"{words[0]}: {error}")
            return None

    def _read_remote(self, number: int, given: tuple[str, ...]) -> _Remote | None:
        try:
            if not 1 <= len(given) <= 3:  # noqa: PLR2004 - host, port, protocol
                raise ValueError("not HOST [PORT [PROTOCOL]]")
            return _Remote(
                options.host(given[0]),
                options.port(given[1]) if given[1:] else None,
                options.protocol(given[2]) if given[2:] else None,
            )
        except ValueError as error:
            self._wrong(number, f"remote: {error}")
            return None

    def _external(self, number: int, name: str, given: tuple[str, ...]) -> None:
        """A block's name as a directive: it would name a file, or says of old that the block follows."""
        if given[:1] == ("[inline]",):
            if name == "tls-auth" and given[1:]:
                self._read(number, "key-direction", given[1:])
            return
        hint = f"put the file inline: <{name}>, its text, </{name}>, each on lines of their own"
        self._wrong(number, f"{name} names a file", hint)

    def _refuse(self, number: int, name: str, otherwise: str) -> None:
        if name in directives.REFUSED:
            why, hint = directives.REFUSED[name]
            self._wrong(number, f"{name} {why}", hint)
        elif name in directives.KNOWN:
            self._wrong(number, f"{name} {otherwise}", "remove the line")
        else:
            near = difflib.get_close_matches(name, sorted(directives.ACCEPTED), n=1, cutoff=0.8)
            suggested = near if len(name) <= _MOST_SUGGESTED else []
            self._wrong(
                number, "unknown directive", f"did you mean {suggested[0]}?" if suggested else "remove the line"
            )

    def _wrong(self, number: int, what: str, hint: str = "") -> None:
        self._mistakes.append((number, Mistake(f"{self._name}:{number}", what, hint or _ANEW)))


_ANEW = "download the file anew from your provider"
_PASSWORD_HINT = "write auth-user-pass alone, and set tunnel.username and tunnel.password in vpnpf's configuration"  # noqa: S105
