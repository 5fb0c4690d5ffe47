"""An entry of the allow-list as people write it: one line of text or a table in, an `Entry` out, and back. Pure.

    PORT[-PORT]/PROTOCOL | SERVICE[/PROTOCOL] | preset:NAME
        [from PREFIX[, PREFIX]...] [for DURATION | until MOMENT] [# COMMENT]

A table has the same as keys: `port` or `service`, `from`, `for` or `until`, `comment`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_address, ip_network

from msgspec import Struct

from vpnpf.core.networks import Network
from vpnpf.core.services import LAST_PORT, Ports
from vpnpf.errors import UsageError
from vpnpf.model import Protocol

LONGEST = 10 * 365 * 86400
"""Seconds that an opening may last if it is to end at all."""
_MOST = 8192
"""Characters of an entry; nobody writes so much."""
_MOST_COMMENT = 120
_SHOWN = 60
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?/(tcp|udp)", re.IGNORECASE | re.ASCII)
_NAMED = re.compile(r"((?:preset:)?[a-z0-9][a-z0-9+._-]*)(?:/(tcp|udp))?", re.IGNORECASE | re.ASCII)
_DURATION = re.compile(
    r"(?:([0-9]{1,9})d)?(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9})s)?", re.IGNORECASE | re.ASCII
)
_MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})?",
    re.IGNORECASE | re.ASCII,
)
_UNITS = (86400, 3600, 60, 1)
_KEYS = ("port", "service", "from", "for", "until", "comment")
_WORDS = ("from", "for", "until")
_HOW = 'write it as "22/tcp", "8000-8010/udp" or a service such as "ssh"'
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


class Entry(Struct, frozen=True):
    """An entry as it was written, each thing in its one form."""

    what: str
    """Ports or a name, in small letters: "8000-8010/udp", "minecraft", "https/udp", "preset:openvpn"."""
    sources: tuple[str, ...] = ()
    """Prefixes in their canonical form, sorted; empty: anybody."""
    lasts: int | None = None
    """Seconds from the moment it is first put in force, or None."""
    until: datetime | None = None
    """When it ends, or None; without a time zone, it is the machine's."""
    comment: str = ""

    def __str__(self) -> str:
        until = self.until.isoformat() if self.until is not None else ""
        words = (
            (self.what, ""),
            (", ".join(self.sources), "from "),
            (length(self.lasts) if self.lasts is not None else "", "for "),
            (until, "until "),
            (self.comment, "# "),
        )
        return " ".join(word + text for text, word in words if text)

    @property
    def key(self) -> str:
        """What it opens and for how long; with another comment it is the same."""
        return str(Entry(self.what, self.sources, self.lasts, self.until))


def read_entry(raw: object) -> Entry:
    """What was written, a text or a mapping. Raises EntryError, and nothing else whatever it is given."""
    if isinstance(raw, str):
        return _from_text(raw)
    if isinstance(raw, Mapping):
        return _from_table(raw)
    raise EntryError("it is neither text in quotes nor a table", _HOW)


def _from_text(raw: str) -> Entry:
    if len(raw) > _MOST:
        raise EntryError("it is too long", f"an entry has at most {_MOST} characters")
    text, _, comment = raw.partition("#")
    words = text.split()
    if not words:
        raise EntryError("it is empty", _HOW)
    sections: dict[str, list[str]] = {}
    section: list[str] | None = None
    for word in words[1:]:
        if word.lower() in _WORDS:
            if word.lower() in sections:
                raise EntryError(f'"{word.lower()}" is there twice', "write it once")
            section = sections[word.lower()] = []
        elif section is None:
            raise EntryError(
                f"{shown(word)} after {shown(words[0])} means nothing", "from, for and until can follow, in any order"
            )
        else:
            section.append(word)
    for word, found in sections.items():
        if not found:
            raise EntryError(f'nothing follows "{word}"', "write what is to follow, or leave it out", word)
    return _entry(
        _what(words[0]),
        " ".join(sections["from"]).replace(",", " ").split() if "from" in sections else None,
        " ".join(sections["for"]) if "for" in sections else None,
        " ".join(sections["until"]) if "until" in sections else None,
        comment,
    )


def _from_table(raw: Mapping[object, object]) -> Entry:
    for key in raw:
        if key not in _KEYS:
            raise EntryError(f"unknown key {shown(key)}", f"known: {', '.join(_KEYS)}")
    given = {str(key): value for key, value in raw.items() if value is not None}
    names = [key for key in ("port", "service") if key in given]
    if len(names) != 1:
        raise EntryError("exactly one of port and service is needed", 'write port = "22/tcp", or service = "ssh"')
    (name,) = names
    value = given[name]
    if type(value) is int and name == "port":
        _say("port", _number, str(value))
        raise EntryError("it names no protocol", f'write port = "{value}/tcp" or port = "{value}/udp"', name)
    if not isinstance(value, str) or len(value) > _MOST:
        raise EntryError("it is not text in quotes", _HOW, name)
    if name == "port" and not _RANGE.fullmatch(value.strip()):
        _say("port", _what, value)  # says what is wrong with numbers
        raise EntryError(f"{shown(value)} is no port", 'write port = "22/tcp", or service = "ssh"', name)
    what = _say(name, _what, value)
    if name == "service" and _RANGE.fullmatch(what):
        raise EntryError("it is a port", f'write port = "{what}"', name)
    return _entry(what, given.get("from"), given.get("for"), given.get("until"), given.get("comment", ""))


def _entry(what: str, sources: object, lasts: object, until: object, comment: object) -> Entry:
    if lasts is not None and until is not None:
        raise EntryError("it has both for and until", "leave one out", "until")
    return Entry(
        what,
        read_sources(sources) if sources is not None else (),
        duration(lasts) if lasts is not None else None,
        read_moment(until) if until is not None else None,
        _comment(comment),
    )


def _say(part: str, read: Callable[[str], str], raw: str) -> str:
    try:
        return read(raw)
    except EntryError as error:
        raise EntryError(error.what, error.hint, part) from None


# -- the port, or the name --------------------------------------------------------------------------


def _what(raw: str) -> str:
    text = raw.strip().lower()
    if found := _RANGE.fullmatch(text):
        ports = f"{_number(found[1])}-{_number(found[2])}" if found[2] else _number(found[1])
        first, _, last = ports.partition("-")
        if last and int(last) < int(first):
            raise EntryError(f'the range "{ports}" runs backwards', f'write "{last}-{first}/{found[3]}"')
        return f"{first if last in ('', first) else ports}/{found[3]}"
    if re.search("[a-z]", text.removesuffix("/tcp").removesuffix("/udp")) and _NAMED.fullmatch(text):
        _mistaken(text)
        return text
    raise _no_port(text, raw)


def _mistaken(text: str) -> None:
    """Say it where something of the right shape is meant as a port."""
    if found := re.fullmatch(r"([0-9]+(?:-[0-9]+)?)[-._]?(tcp|udp)|(tcp|udp)[-._]?([0-9]+(?:-[0-9]+)?)", text):
        raise EntryError(f"{shown(text)} is no port", f'write "{found[1] or found[4]}/{found[2] or found[3]}"')
    if text == "forwarded":
        raise EntryError(
            '"forwarded" stands alone, for every port of a forward',
            "from and open are keys of the forward; its lease decides when it ends",
        )


def _no_port(text: str, raw: str) -> EntryError:
    """What is wrong with what looks like neither a port nor a name."""
    if re.fullmatch(r"[0-9]+(?:-[0-9]+)?", text):
        for number in text.split("-"):
            _number(number)
        return EntryError(f'"{text}" names no protocol', f'write "{text}/tcp" or "{text}/udp", or both')
    before, slash, after = text.partition("/")
    if slash and re.fullmatch(r"[0-9]+(?:-[0-9]+)?", before):
        what = f"{shown(after)} is no protocol that has forwarded ports"
        return EntryError(what, f'write "{before}/tcp" or "{before}/udp"')
    if slash and before in ("tcp", "udp") and re.fullmatch(r"[0-9]+(?:-[0-9]+)?", after):
        return EntryError(f"{shown(raw)} is no port", f'write "{after}/{before}"')
    if found := re.fullmatch(r"([0-9]+)(?::|\.\.|-+)([0-9]+)/(tcp|udp)", text):
        return EntryError(f"{shown(raw)} is no port", f'write "{found[1]}-{found[2]}/{found[3]}"')
    return EntryError(f"{shown(raw)} is no port and no service", _HOW)


def _number(text: str) -> str:
    digits = text.lstrip("0") or "0"
    if digits == "0" or len(digits) > len(str(LAST_PORT)) or text.startswith("-") or int(digits) > LAST_PORT:
        raise EntryError(f"{shown(text, quotes=False)} is no port", f"ports go from 1 to {LAST_PORT}")
    return digits


def ports_of(what: str) -> Ports | None:
    """The ports of an `Entry.what` that names no service, or None."""
    found = _RANGE.fullmatch(what)
    return (int(found[1]), int(found[2] or found[1]), Protocol(found[3])) if found else None


# -- from, for, until, comment ------------------------------------------------------------------------


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


def _comment(raw: object) -> str:
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
