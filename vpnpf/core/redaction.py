"""A text without what names a person, a machine or an account, or opens a door: for what is posted in public.

Pure. Every rule marks a stretch of the original text, stretches that touch become one, and each is replaced
whole: no rule can cut a secret so that another misses the rest. In doubt it is hidden: a version with four
numbers is taken for an address. Ports, times, results and private IPv4 addresses stay readable.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from urllib.parse import quote, quote_plus

from msgspec import Struct

SECRET = "<secret>"  # noqa: S105 - what stands for one
KEY = "<key>"
TOKEN = "<token>"  # noqa: S105 - likewise
NUMBER = "<number>"
USER = "<user>"
HOST = "<host>"
EMAIL = "<e-mail>"
ADDRESS = "<address>"
_SHORT = 4
"""A known secret with fewer characters is only looked for as a whole word."""
_ENOUGH_COLONS = 5
"""More than a time has, and what a MAC or a whole IPv6 address has at least."""

_KEPT = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/32",
            "10.0.0.0/8",
            "100.64.0.0/10",
            "127.0.0.0/8",
            "169.254.0.0/16",
            "172.16.0.0/12",
            "192.168.0.0/16",
            "224.0.0.0/4",
            "255.255.255.255/32",
            # Of IPv6 only what is everybody's: unique local prefixes are unique, link-local addresses may hold a MAC.
            "::/127",
            "fc00::/128",
            "fd00::/128",
            "fe80::/128",
            "ff00::/8",
        ),
    )
)
"""Networks whose addresses may stay."""

_WORDS = (
    r"pass(?:word|wd|phrase)?|pwd|secret|token|api[_ -]?key|(?:private|preshared|pre-shared|public)[_ -]?key|"
    r"authorization|cookie|credential"
)
_NAMES = r"user(?:[_ -]?name)?|login|account(?:[_ -]?(?:number|id))?|auth|sid|session(?:[_ -]?id)?|bearer"
_QUOTED = r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'"
_VALUE = rf"(?:{_QUOTED}|(?:(?:Bearer|Basic|Digest)[ ]+)?[^\s,;&}}\])]+)"
_ASSIGNED = (
    # In prose a colon after "login" or "account" begins a cause; after "password" it is taken for its value.
    re.compile(rf"(?:{_WORDS})[\"']?[ ]*[:=][ ]*({_VALUE})", re.IGNORECASE),
    re.compile(rf"(?:{_NAMES})(?:[\"'][ ]*[:=]|[ ]*=)[ ]*({_VALUE})", re.IGNORECASE),
    re.compile(rf"--?(?:{_WORDS}|{_NAMES})[ =]({_VALUE})", re.IGNORECASE),
    re.compile(r"\b(?:Bearer|Basic)[ ]+([^\s,;\"']{6,})", re.IGNORECASE),
)
# What begins only at the start of a run is tried once for each run: the time stays proportional to the text.
_PLAIN = (
    (USER, re.compile(r"(?<=://)(?:[^\s\"]|\\\"){0,400}(?=@)")),
    (USER, re.compile(r"(?<![^\s\"'/=(<,])[^\s\"'/@:]{1,100}:(?!//)[^\s\"'@]{1,200}(?=@)")),
    (EMAIL, re.compile(r"[\w.+%-]{1,100}@(?!\d+\.\d)[\w-][\w.-]{0,200}")),
    (USER, re.compile(r"[\w.+%-]{1,100}(?=@\d+\.\d)")),
    # Of an account at a provider: a letter and digits, as some number their customers.
    (USER, re.compile(r"(?<![\w.-])[pxv]\d{7,10}(?![\w.-]|:\d)")),
    (KEY, re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{43,}=")),
    (TOKEN, re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)),
    (NUMBER, re.compile(r"\d{16,}|\d{4}(?:[ -]?\d{4}){3,}\d*")),
    (TOKEN, re.compile(r"[0-9a-f]{16,}", re.IGNORECASE)),
)
_LONG_WORD = re.compile(r"[A-Za-z0-9]{20,}")
_LONG_RUN = re.compile(r"(?:[A-Za-z0-9+/_-]|%[0-9A-Fa-f]{2}){32,}(?:=|%3D){0,2}")
_MAC = re.compile(
    r"(?:[0-9a-f]{2}([:-]))(?:[0-9a-f]{2}\1){4,}[0-9a-f]{2}|(?<![0-9a-f])(?:[0-9a-f]{4}\.){2}[0-9a-f]{4}(?![0-9a-f])",
    re.IGNORECASE,
)
_V4 = re.compile(r"(?<!\d)\d+(?:\.\d+){3,}|(?<!\d)\d{1,3}(?:-\d{1,3}){3}(?!\d)")
_V6 = re.compile(r"(?<![0-9a-f])[0-9a-f]*(?::[0-9a-f]*){2,}(?:(?:\.\d+){3,})?", re.IGNORECASE)
_HOME = re.compile(r"(?<=/home/)[^/\s\"':,;)]+|(?<=/Users/)[^/\s\"':,;)]+", re.IGNORECASE)


class _Mark(Struct, frozen=True, order=True):
    start: int
    end: int
    label: str
    what: str = ""
    """For a label with a number: what has to have the same number everywhere."""


def redacted(text: str, known: Mapping[str, str] | None = None) -> str:
    """The text with everything hidden that the rules or `known` find.

    `known` has what cannot be told from its form (host name, user name, passwords) with the placeholder for it;
    it is also found as JSON and URLs write it. Never raises.
    """
    numbers: dict[tuple[str, str], int] = {}
    out, at = [], 0
    for mark in _joined(_marks(text, known or {})):
        out += [text[at : mark.start], _placeholder(mark, numbers)]
        at = mark.end
    return "".join([*out, text[at:]])


def _placeholder(mark: _Mark, numbers: dict[tuple[str, str], int]) -> str:
    if not mark.what:
        return mark.label
    of_this = sum(label == mark.label for label, _ in numbers)
    return f"<{mark.label} {numbers.setdefault((mark.label, mark.what), of_this + 1)}>"


def _joined(marks: Iterable[_Mark]) -> Iterator[_Mark]:
    """Overlapping marks as one that covers all of them; the largest gives the label."""
    current: _Mark | None = None
    largest = 0
    for mark in sorted(marks, key=lambda each: (each.start, -each.end)):
        if current is None or mark.start >= current.end:
            if current is not None:
                yield current
            current, largest = mark, mark.end - mark.start
            continue
        end = max(current.end, mark.end)
        chosen = mark if mark.end - mark.start > largest else current
        largest = max(largest, mark.end - mark.start)
        grown = end > current.end
        # An address with something else at its side is no address that could come again.
        what = "" if grown else current.what
        label = f"<{chosen.label}>" if chosen.what and not what else chosen.label
        current = _Mark(current.start, end, label, what)
    if current is not None:
        yield current


def _marks(text: str, known: Mapping[str, str]) -> Iterator[_Mark]:
    for secret, label in known.items():
        yield from _literal(text, secret, label)
    for rule in _ASSIGNED:
        yield from (_Mark(found.start(1), found.end(1), SECRET) for found in rule.finditer(text))
    for label, rule in _PLAIN:
        yield from (_Mark(found.start(), found.end(), label) for found in rule.finditer(text) if found[0])
    yield from _mixed(text)
    for found in _MAC.finditer(text):
        yield _Mark(found.start(), found.end(), "MAC", re.sub(r"[:.-]", "", found[0]).lower())
    for found in _V4.finditer(text):
        what = _v4(found[0])
        if what:
            yield _Mark(found.start(), found.end(), "address", what)
    yield from _sixes(text)
    yield from (_Mark(found.start(), found.end(), USER) for found in _HOME.finditer(text))


def _literal(text: str, secret: str, label: str) -> Iterator[_Mark]:
    if not secret.strip():
        return
    name = label in {USER, HOST} or len(secret) < _SHORT
    before, after = (r"(?<![A-Za-z0-9])", r"(?![A-Za-z0-9])") if name else ("", "")
    ways = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1], repr(secret)[1:-1]}
    ways |= {quote(secret, safe="", errors="replace"), quote_plus(secret, errors="replace")}
    for way in ways:
        for found in re.finditer(f"{before}{re.escape(way)}{after}", text, re.IGNORECASE):
            yield _Mark(found.start(), found.end(), label)


def _mixed(text: str) -> Iterator[_Mark]:
    """What no person writes: long, and letters mixed with digits."""
    for found in _LONG_WORD.finditer(text):
        if re.search(r"\d", found[0]) and re.search("[A-Za-z]", found[0]):
            yield _Mark(found.start(), found.end(), TOKEN)
    for found in _LONG_RUN.finditer(text):
        if all(re.search(kind, found[0]) for kind in (r"\d", "[a-z]", "[A-Z]")):
            yield _Mark(found.start(), found.end(), KEY)


def _v4(written: str) -> str:
    """What names the address everywhere; empty: it may stay."""
    dotted = written.replace("-", ".")
    try:
        address = ipaddress.IPv4Address(dotted)
    except ValueError:
        return dotted
    return "" if _stays(address) else str(address)


def _sixes(text: str) -> Iterator[_Mark]:
    for found in _V6.finditer(text):
        written = found[0]
        if written.endswith(":") and not written.endswith("::"):
            written = written[:-1]
        if not written.strip(":"):
            continue
        try:
            address = ipaddress.IPv6Address(written)
        except ValueError:
            if "::" in written or written.count(":") >= _ENOUGH_COLONS:
                yield _Mark(found.start(), found.start() + len(written), ADDRESS)
            continue
        inner = address.ipv4_mapped
        if not _stays(inner or address):
            yield _Mark(found.start(), found.start() + len(written), "address", str(inner or address))


def _stays(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return any(address in network for network in _KEPT if network.version == address.version)
