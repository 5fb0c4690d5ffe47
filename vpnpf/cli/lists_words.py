"""Plug-ins as a table for a person, and as JSON for a script. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from vpnpf.interfaces import Manifest, Option
from vpnpf.plugins import Group

_VERIFIED = {
    "none": "nothing yet",
    "mock": "a mock, not the real service",
    "real daemon": "a real daemon",
    "real service": "the real service",
    "not needed": "nothing to prove",
}
_TYPES = {str: "text", int: "whole number", bool: "true or false", list: "list"}
_ENDED = "Known, but without ports to give:"
_ID, _NAME, _GAP = 12, 20, 2
"""The narrowest columns, and what is between them."""


def overview(group: Group, manifests: Iterable[Manifest], width: int) -> list[str]:
    """A table of all, those that have ended last."""
    all_ = tuple(manifests)
    living = [manifest for manifest in all_ if not manifest.ended]
    first = max((len(manifest.id) for manifest in all_), default=0)
    first = max(first, _ID) + _GAP
    second = max([_NAME, *(len(manifest.name) for manifest in living)]) + _GAP
    lines = [f"{'ID':<{first}}{'NAME':<{second}}PROVEN AGAINST"]
    for manifest in living:
        lines += [f"{manifest.id:<{first}}{manifest.name:<{second}}{_words(manifest)}"]
        lines += _wrapped(manifest.summary, width, " " * first)
        lines += _wrapped("; ".join(_needs(manifest)), width, " " * first)
    ended = [manifest for manifest in all_ if manifest.ended]
    if ended:
        lines += ["", _ENDED]
    for manifest in ended:
        lines += _wrapped(manifest.ended, width, f"{manifest.id:<{first}}", " " * first)
    if group is Group.CLIENTS:
        return [*lines, "", "`vpnpf clients ID` says what to do for one."]
    return [*lines, "", "`vpnpf providers ID` says what to do for one, and explains its options."]


def details(group: Group, manifest: Manifest, width: int) -> list[str]:
    """All that one says of itself."""
    key = "provider" if group is Group.PROVIDERS else "type"
    lines = [f'{manifest.name}: {key} = "{manifest.id}"', *_wrapped(manifest.summary, width, "  ")]
    if manifest.ended:
        return [
            *lines,
            "",
            *_wrapped(manifest.ended, width, "  "),
            "",
            "`vpnpf providers` lists those that have ports.",
        ]
    if manifest.help:
        lines += ["", "What you do:", *_wrapped(manifest.help, width, "  ")]
    detail = f" ({manifest.verified_with})" if manifest.verified_with else ""
    facts = [("proven against", f"{_words(manifest)}{detail}")]
    if group is Group.PROVIDERS:
        facts += _facts(manifest)
    else:
        facts += [("keys", 'url, username and password, in [clients.NAME]; a forward names it with client = "NAME"')]
    lines += [""]
    for name, said in facts:
        lines += _wrapped(said, width, f"{name + ':':<16}", " " * 16)
    if manifest.options:
        lines += ["", "Options, below [profiles.NAME.options]:"]
    for option in manifest.options:
        lines += [f"  {_option(option)}", *_wrapped(option.help, width, " " * 6)]
    return lines


def as_json(manifest: Manifest) -> dict[str, object]:
    """All that one says of itself. Fields are added, never changed."""
    return {
        "id": manifest.id,
        "name": manifest.name,
        "summary": manifest.summary,
        "verified": manifest.verified,
        "verified_with": manifest.verified_with,
        "max_forwards": manifest.max_forwards,
        "account": manifest.account,
        "supplies": list(manifest.supplies),
        "help": manifest.help,
        "ended": manifest.ended,
        "port_switch": manifest.port_switch,
        "direct": manifest.direct,
        "username_suffix": manifest.username_suffix,
        "sets_device": manifest.sets_device,
        "tests_port": manifest.tests_port,
        "options": [
            {"name": o.name, "type": o.type.__name__, "help": o.help, "required": o.required} for o in manifest.options
        ],
    }


def _facts(manifest: Manifest) -> Iterator[tuple[str, str]]:
    """What a provider needs and gives."""
    yield "login", f"`vpnpf login {manifest.id}` asks for the account" if manifest.account else "none"
    if manifest.direct:
        yield "tunnel", "none: it works without a VPN"
    elif manifest.supplies:
        kinds = " or ".join(f'"{kind}"' for kind in manifest.supplies)
        yield "tunnel", f"it makes it itself: type = {kinds} is all to be written in [profiles.NAME.tunnel]"
    else:
        yield "tunnel", "from the configuration file that you download"
    if manifest.username_suffix:
        yield "user name", f"{manifest.username_suffix} is put at its end for OpenVPN"
    yield "forwards", "one" if manifest.max_forwards == 1 else f"up to {manifest.max_forwards}"
    if manifest.port_switch:
        yield "port switch", "its account has a port policy of its own, which is set too"


def _needs(manifest: Manifest) -> Iterator[str]:
    """What the table says beside the summary."""
    if manifest.account:
        yield "needs a login"
    if manifest.supplies:
        yield f"makes the tunnel ({' or '.join(manifest.supplies)})"
    if manifest.direct:
        yield "without a tunnel"
    if manifest.options:
        yield "options: " + ", ".join(option.name for option in manifest.options)


def _words(manifest: Manifest) -> str:
    """How far it was proven; what somebody else's plug-in may say instead is shown as it is."""
    return _VERIFIED.get(manifest.verified, manifest.verified)


def _option(option: Option) -> str:
    kind = _TYPES.get(option.type, option.type.__name__)
    return f"{option.name} ({kind}{', needed' if option.required else ''})"


def _wrapped(text: str, width: int, first: str, rest: str | None = None) -> list[str]:
    room = max(width, len(first) + 20)
    indent = first if rest is None else rest
    return textwrap.wrap(
        text, room, initial_indent=first, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
