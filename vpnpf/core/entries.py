"""An entry of the allow-list as people write it: one line of text or a table in, an `Entry` out, and back. Pure.

    PORT[-PORT]/PROTOCOL | SERVICE[/PROTOCOL] | preset:NAME
        [from PREFIX[, PREFIX]...] [for DURATION | until MOMENT] [# COMMENT]

A table has the same as keys: `port` or `service`, `from`, `for` or `until`, `comment`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import datetime

from msgspec import Struct

from vpnpf.core.entry_parts import EntryError, duration, length, read_comment, read_moment, read_sources, shown
from vpnpf.core.services import LAST_PORT, Ports
from vpnpf.model import Protocol

_MOST = 8192
"""Characters of an entry; nobody writes so much."""
_RANGE = re.compile(r"([0-9]+)(?:-([0-9]+))?/(tcp|udp)", re.IGNORECASE | re.ASCII)
_NAMED = re.compile(r"((?:preset:)?[a-z0-9][a-z0-9+._-]*)(?:/(tcp|udp))?", re.IGNORECASE | re.ASCII)
_KEYS = ("port", "service", "from", "for", "until", "comment")
_WORDS = ("from", "for", "until")
_HOW = 'write it as "22/tcp", "8000-8010/udp" or a service such as "ssh"'


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
        read_comment(comment),
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
