"""What PIA's services answer: JSON objects with a status and a message, if all is well with them. Pure."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from urllib.parse import quote

from vpnpf.api import HttpResponse, Transient, Untrusted

OK = 200
UNAUTHORIZED = 401
SERVER_NAME = re.compile(r"[a-z0-9-]{1,63}", re.ASCII)
"""The name in a server's certificate: "oslo417"."""
DISTRUSTED = 300.0
"""Seconds until a machine is asked again whose certificate was another's."""
NOTHING_TOLD = (
    "the server list may be old, or somebody stands in between, like a network with a login page; nothing was told to it, "
    "and it is looked at again"
)
_LAST_PORT = 65535
_LONGEST_QUOTE = 80
_LONG = re.compile(r"[^\s\"',:;<>(){}\[\]]{24,}")
_TAGS = re.compile(r"<[^<>]{0,200}>")


def fields_of(response: HttpResponse) -> Mapping[str, object]:
    """The object that was answered; empty if it is none."""
    try:
        found = json.loads(response.body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def is_good(response: HttpResponse) -> bool:
    """Whether the status is OK, of HTTP and in the object; messages may say anything."""
    return response.status == OK and fields_of(response).get("status") == "OK"


def message_of(response: HttpResponse) -> str:
    """The object's message in small letters; empty if there is none."""
    said = fields_of(response).get("message")
    return said.casefold() if isinstance(said, str) else ""


def said(response: HttpResponse, *secrets: str) -> str:
    """Status and a few words of an answer, for people: without what was sent along."""
    fields = fields_of(response)
    message = fields.get("message", "")
    text = message if isinstance(message, str) and message else ""
    if not fields:
        text = _TAGS.sub(" ", response.body[:2000].decode(errors="replace"))
    return f"HTTP {response.status}" + (f': "{shown(text, *secrets)}"' if text.strip() else "")


def shown(text: str, *secrets: str) -> str:
    """A text of somebody else's, made safe to show, and short."""
    for secret in filter(None, secrets):
        for spelling in (secret, quote(secret), quote(secret, safe="")):
            text = text.replace(spelling, "...")
    # What is long and in one piece is a key or a token, whoever's.
    text = _LONG.sub("...", "".join(each if each.isprintable() else " " for each in text))
    words = " ".join(text.split())
    return words if len(words) <= _LONGEST_QUOTE else words[: _LONGEST_QUOTE - 3] + "..."


def unexpected(doing: str, response: HttpResponse, *secrets: str) -> Transient:
    """The failure for an answer that nothing is known of."""
    hint = "it is tried again; if it goes on, PIA's service may be down"
    return Transient(doing, f"PIA answered {said(response, *secrets)}", hint)


def distrusted(doing: str, error: Untrusted, retry_after: float = DISTRUSTED) -> Untrusted:
    """The failure for a machine of the list that is not the one it should be: that may pass, so it is looked at again."""
    return Untrusted(doing, error.cause, NOTHING_TOLD, retry_after)


def port(value: object) -> int | None:
    """A port from 1 to 65535, or None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _LAST_PORT else None


def number(value: object) -> float | None:
    """A finite number, or None."""
    try:
        found = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def address(value: object) -> str | None:
    """An IPv4 address that can be a machine's, in its canonical form, or None."""
    if not isinstance(value, str):
        return None
    try:
        found = IPv4Address(value)
    except ValueError:
        return None
    nobodys = found.is_unspecified or found.is_loopback or found.is_multicast or found.is_reserved
    return None if nobodys or found.is_link_local else str(found)


def server_name(value: object) -> str | None:
    """The name of a server, or None."""
    return value if isinstance(value, str) and SERVER_NAME.fullmatch(value) else None
