"""The configuration as text, for the answers that were given. Pure.

A profile is written as tables of their own, so that they can stand at the end of any configuration.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

from vpnpf.setup.answers import Answers
from vpnpf.setup.checking import FORWARD
from vpnpf.setup.found import Standing
from vpnpf.setup.questions import NONE

_HEAD = """\
# Written by `vpnpf init`. Change it as you like: `vpnpf check-config` says what it means, and all that is wrong with it.
"""
_WIDTH = 40
"""Columns before a comment."""
_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r"}


class Names(Struct, frozen=True):
    """What things are called beside the configuration."""

    files: tuple[str, ...] = ()
    """The provider's, relative to the configuration or absolute."""
    client: str = ""
    """Under [clients]."""
    client_place: str = ""
    """File, or name in the keyring."""
    tunnel_place: str = ""


def client_name(answers: Answers, standing: Standing | None) -> str:
    """What a new client is called, or the known one; empty: there is none."""
    if answers.client_known or not answers.client_type:
        return answers.client_known
    taken = standing.clients if standing else {}
    names = (answers.client_type, *(f"{answers.client_type}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


def configuration(answers: Answers, names: Names) -> str:
    """The whole text of a first configuration."""
    return _HEAD + "\n" + tables(answers, names)


def extended(before: str, answers: Answers, names: Names) -> str:
    """A configuration with another profile at its end; what is there stays as it is, byte for byte."""
    gap = "" if not before or before.endswith("\n") else "\n"
    return f"{before}{gap}\n{tables(answers, names)}"


def tables(answers: Answers, names: Names) -> str:
    """One profile, and its client if that is new."""
    return "\n".join(_lines(answers, names)) + "\n"


def _lines(answers: Answers, names: Names) -> Iterator[str]:
    at = f"profiles.{_key(answers.name or '')}"
    yield f"[{at}]"
    yield _pair("provider", answers.provider or "", "`vpnpf providers` lists them")
    options = {**answers.options, **({"region": answers.region} if answers.region else {})}
    if options:
        yield from ("", f"[{at}.options]")
        yield from (_pair(key, value) for key, value in options.items())
    yield from ("", f"[{at}.tunnel]")
    yield from _tunnel(answers, names)
    if answers.policy:
        yield from ("", f"[{at}.policy]")
        yield _pair("mode", answers.policy, "what may come in: allow-list, block-all or open-all")
        if answers.policy == "allow-list":
            yield _pair("allow", ["forwarded"], 'the forwarded port; add "22/tcp", "ssh from 203.0.113.0/24"')
    yield from ("", f"[{at}.forwards.{FORWARD}]")
    if names.client:
        yield _pair("client", names.client, "it is told the port whenever that changes")
    else:
        yield "# No torrent client: the port is said by `vpnpf status`, and by events."
    if names.client and not answers.client_known:
        yield from ("", f"[clients.{_key(names.client)}]")
        yield from _client(answers, names)


def _tunnel(answers: Answers, names: Names) -> Iterator[str]:
    yield _pair("type", answers.tunnel or NONE)
    if names.files:
        several = len(names.files) > 1
        said = "the provider's files, one a server" if several else "the provider's file"
        yield _pair("config", list(names.files) if several else names.files[0], said)
    if answers.tunnel_user:
        yield _pair("username", answers.tunnel_user)
    if answers.tunnel_secret:
        yield _secret(answers, names.tunnel_place)


def _client(answers: Answers, names: Names) -> Iterator[str]:
    yield _pair("type", answers.client_type or "")
    yield _pair("url", answers.client_url or "")
    if answers.client_user:
        yield _pair("username", answers.client_user)
    if answers.client_secret:
        yield _secret(answers, names.client_place)


def _secret(answers: Answers, name: str) -> str:
    if answers.keep == "keyring":
        return _pair("password", {"keyring": name}, "in the keyring, service vpnpf")
    return _pair("password", {"file": name}, "mode 0600")


def _pair(key: str, value: object, comment: str = "") -> str:
    line = f"{_key(key)} = {toml(value)}"
    return f"{line:<{_WIDTH - 2}}  # {comment}" if comment else line


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("-", "a").replace("_", "a").isalnum()
    return name if bare else toml(name)


def toml(value: object) -> str:
    """A value as TOML (toml.io, v1.0.0). Raises TypeError for one that it has no form for."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str() | Path():
            return f'"{"".join(map(_character, str(value)))}"'
        case list() | tuple():
            return f"[{', '.join(map(toml, value))}]"
        case Mapping():
            return "{ " + ", ".join(f"{_key(str(key))} = {toml(each)}" for key, each in value.items()) + " }"
    raise TypeError(type(value).__name__)


def _character(one: str) -> str:
    if one in _ESCAPES:
        return _ESCAPES[one]
    # DEL and control characters must be escaped; a lone surrogate, as in a file name that is no UTF-8, has no form.
    return f"\\u{ord(one):04x}" if ord(one) < 0x20 or ord(one) == 0x7F else one  # noqa: PLR2004 - as TOML has it
