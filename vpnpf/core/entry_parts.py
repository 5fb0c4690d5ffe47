"""The parts of an entry of the allow-list, each from whatever was written to its one form. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network

from vpnpf.core.networks import Network
from vpnpf.errors import UsageError

LONGEST = 10 * 365 * 86400
"""Seconds that an opening may last if it is to end at all."""
_MOST_COMMENT = 120
_SHOWN = 60
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", re.IGNORECASE | re.ASCII
)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?",
    re.IGNORECASE | re.ASCII,
)
_UNITS = (86400, 3600, 60, 1)
_HOW_LONG = 'write it as "30s", "90m", "2h", "7d" or "1h30m"'
_HOW_LATE = 'write it as "2026-12-01T10:00", with "Z" or "+01:00" at its end for another time zone'
_HOW_FAR = 'write an address or a prefix: "203.0.113.9", "203.0.113.0/24", "2001:db8::/32"'


class EntryError(UsageError):
    """An entry that cannot be: what is wrong, the next step, and in which key of a table."""

    def __init__(self, what: str, hint: str = "", part: str = "") -> None:
        super().__init__("reading an entry of the allow-list", what, hint)
        self.what = what
        self.part = part
        """The key of its table, or empty: the whole entry."""


class EndedError(EntryError):
    """An entry that has ended already: it could be, and opens nothing any more."""

    def __init__(self) -> None:
        super().__init__("its end is past", "write a later one, or remove the entry", "until")


def read_sources(raw: object) -> tuple[str, ...]:
    """Prefixes in their canonical form, sorted, of one text or a list of such. Raises EntryError."""
    texts = [raw] if isinstance(raw, str) else raw
    if not isinstance(texts, (list, tuple)) or not all(isinstance(text, str) for text in texts):
        raise EntryError("it is neither text in quotes nor a list of such", _HOW_FAR, "from")
    if not texts:
        raise EntryError("it is empty, so nobody could come in", "leave it out to let anybody in", "from")
    found: list[Network] = []
    for text in texts:
        network = _prefix(text)
        for other in found:
            if network.version == other.version and network.overlaps(other):
                inner, outer = (network, other) if network.prefixlen >= other.prefixlen else (other, network)
                what = f"{inner} is there twice" if inner == outer else f"{inner} is within {outer}"
                raise EntryError(what, "leave it out", "from")
        found.append(network)
    return tuple(sorted(map(str, found)))


def _prefix(raw: str) -> Network:
    text = raw.strip()
    try:
        if "%" in text or len(text) > _MOST_COMMENT:
            raise ValueError
        network = ip_network(text, strict=False)
        address = ip_address(text.partition("/")[0])
    except ValueError:
        raise EntryError(f"{shown(raw)} is neither an address nor a prefix", _HOW_FAR, "from") from None
    if address != network.network_address:
        bits = network.max_prefixlen - network.prefixlen
        raise EntryError(
            f'"{text}" is one address and the length of a prefix: {bits} bits behind that are not 0',
            f'write "{address}" for that one, or "{network}" for all {2**bits} of them',
            "from",
        )
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        raise EntryError(f"{network} is IPv4 in the clothes of IPv6", f'write "{address.ipv4_mapped}"', "from")
    if network.is_multicast:
        raise EntryError(f"{network} is multicast, and no packet comes from there", _HOW_FAR, "from")
    return network


def duration(raw: object) -> int:
    """The seconds of "2h", "90m", "7d", "30s" or "1h30m": 1 to ten years. Raises EntryError."""
    found = _DURATION.fullmatch(raw.strip()) if isinstance(raw, str) and raw.strip() else None
    if not found:
        raise EntryError("it is not a duration", _HOW_LONG, "for")
    seconds = sum(int(number) * unit for number, unit in zip(found.groups("0"), _UNITS, strict=True))
    if seconds == 0:
        raise EntryError("it is over at once", "write a longer one, or leave the entry out", "for")
    if seconds > LONGEST:
        raise EntryError("it is longer than ten years", "leave it out: then it has no end", "for")
    return seconds


def length(seconds: int) -> str:
    """A duration as `duration` reads it: "1h30m"."""
    parts: list[str] = []
    for unit, letter in zip(_UNITS, "dhms", strict=True):
        number, seconds = divmod(seconds, unit)
        if number:
            parts.append(f"{number}{letter}")
    return "".join(parts)


def read_moment(raw: object) -> datetime:
    """The moment of a text (RFC 3339, seconds and time zone may be left out) or of TOML. Raises EntryError."""
    text = raw.strip() if isinstance(raw, str) else ""
    if not isinstance(raw, datetime) and not _MOMENT.fullmatch(text):
        raise EntryError("it is not a moment", _HOW_LATE, "until")
    try:
        found = raw if isinstance(raw, datetime) else datetime.fromisoformat(text.upper())
        return found.astimezone(UTC) if found.tzinfo is not None else found
    except (ValueError, OverflowError) as error:
        raise EntryError(f"there is no such moment: {error}", _HOW_LATE, "until") from None


def read_comment(raw: object) -> str:
    """A comment, of one line. Raises EntryError."""
    if not isinstance(raw, str):
        raise EntryError("it is not text in quotes", "write what the entry is for", "comment")
    text = raw.strip()
    if len(text) > _MOST_COMMENT or not text.isprintable():
        raise EntryError(
            f"it is longer than {_MOST_COMMENT} characters, or not in one line", "write a shorter one", "comment"
        )
    return text


def shown(text: object, *, quotes: bool = True) -> str:
    """Something that was written, fit for a terminal."""
    whole = "".join(letter if letter.isprintable() else "?" for letter in str(text)[: _SHOWN + 1])
    cut = whole if len(whole) <= _SHOWN else whole[:_SHOWN] + "…"
    return f'"{cut}"' if quotes else cut
