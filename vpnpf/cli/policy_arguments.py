"""What is written after `vpnpf policy`: modes and entries to policies, and a flow to explain."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.core.admission import address_of
from vpnpf.core.policy_codec import ordered
from vpnpf.core.policy_words import FORWARDED
from vpnpf.errors import UsageError
from vpnpf.model import Opening, PolicyMode, PortPolicy, Protocol
from vpnpf.openings import EntryError, Services, check_list, parse_entry
from vpnpf.plugins import nearest

_MODES = tuple(str(mode) for mode in PolicyMode)
_FLOW = re.compile(r"([0-9]{1,5})/(tcp|udp)", re.IGNORECASE | re.ASCII)
_LAST_PORT = 65535


class Times(Struct, frozen=True):
    """One moment on both clocks."""

    boot: float
    """Seconds on CLOCK_BOOTTIME."""
    wall: float
    """Seconds since 1970."""

    @property
    def offset(self) -> float:
        """Wall-clock time minus CLOCK_BOOTTIME."""
        return self.wall - self.boot


class Flow(Struct, frozen=True):
    """A new flow from the internet."""

    port: int
    protocol: Protocol
    source: IPv4Address | IPv6Address | None
    """None: anybody."""


def policy_set(before: PortPolicy, words: Sequence[str], times: Times) -> PortPolicy:
    """The policy of `policy set`: a mode, entries, or both; entries alone mean the allow-list.

    A mode alone leaves the entries as they are, so that they are back when the allow-list is. Raises UsageError.
    """
    doing = "reading the policy"
    if not words:
        raise UsageError(doing, "nothing is wanted", f"name a mode ({', '.join(_MODES)}) or entries")
    first = words[0].strip().lower()
    mode = PolicyMode(first) if first in _MODES else PolicyMode.ALLOW_LIST
    texts = words[1:] if first in _MODES else words
    if first not in _MODES and re.fullmatch(r"[a-z]+-[a-z]+", first) and _near_mode(first):
        raise UsageError(doing, f'there is no mode "{first}"', nearest(first, _MODES))
    if not texts:
        return replace(before, mode=mode)
    if mode is not PolicyMode.ALLOW_LIST:
        raise UsageError(
            doing, f"entries mean nothing with {mode}", f"leave them out, or write {PolicyMode.ALLOW_LIST}"
        )
    openings = [opening for text in texts if not _forwarded(text) for opening in _entry(text, times)]
    return replace(before, mode=mode, forwarded=any(map(_forwarded, texts)), openings=_checked(openings))


def policy_opened(before: PortPolicy, words: Sequence[str], times: Times) -> PortPolicy:
    """The policy with more entries. Raises UsageError."""
    if before.mode is not PolicyMode.ALLOW_LIST:
        hint = f"set it first: vpnpf policy set PROFILE {PolicyMode.ALLOW_LIST} ENTRY..."
        raise UsageError("opening a port", f"the mode is {before.mode}, so entries mean nothing", hint)
    more = [opening for text in words if not _forwarded(text) for opening in _entry(text, times)]
    # Opened again, an entry counts from now, and has the comment that it is given now.
    keys = {opening.key for opening in more}
    kept = [opening for opening in before.openings if opening.key not in keys]
    forwarded = before.forwarded or any(map(_forwarded, words))
    return replace(before, forwarded=forwarded, openings=_checked([*kept, *more]))


def policy_closed(before: PortPolicy, words: Sequence[str], times: Times) -> PortPolicy:
    """The policy without some of its entries. Raises UsageError for one that is not there."""
    doing, left, forwarded = "closing a port", list(before.openings), before.forwarded
    for text in words:
        if _forwarded(text):
            if not forwarded:
                raise UsageError(doing, f'"{FORWARDED}" is not on the list', "look at: vpnpf policy show")
            forwarded = False
            continue
        wanted = _entry(text, times)
        # Without "from", an entry is meant whoever it is open to.
        found = [each for each in left if any(_meant(each, other) for other in wanted)]
        if not found:
            known = [each.name or each.key for each in left]
            hint = nearest(text, tuple(known)) if known else "the list has no entries"
            raise UsageError(doing, f'"{text}" is not on the list', hint)
        left = [each for each in left if each not in found]
    return replace(before, forwarded=forwarded, openings=tuple(left))


def flow(words: Sequence[str]) -> Flow:
    """What `policy explain` is asked: 6881/tcp [from ADDRESS]. Raises UsageError."""
    doing, how = "reading what is to be explained", "write it as: 6881/tcp from 203.0.113.9"
    parts = " ".join(words).split()
    if len(parts) not in {1, 3} or (len(parts) == 3 and parts[1].lower() != "from"):  # noqa: PLR2004 - words of a flow
        raise UsageError(doing, "it is not a port and where the flow comes from", how)
    found = _FLOW.fullmatch(parts[0])
    if not found or not 0 < int(found[1]) <= _LAST_PORT:
        raise UsageError(doing, f'"{parts[0]}" is no port of TCP or UDP', how)
    try:
        source = address_of(parts[2]) if len(parts) > 1 else None
    except ValueError:
        raise UsageError(doing, f'"{parts[2]}" is not an address', how) from None
    return Flow(int(found[1]), Protocol(found[2].lower()), source)


def _near_mode(text: str) -> bool:
    return any(part in _MODES_PARTS for part in text.split("-"))


_MODES_PARTS = frozenset(part for mode in _MODES for part in mode.split("-"))


def _forwarded(text: str) -> bool:
    return text.strip().lower() == FORWARDED


def _entry(text: str, times: Times) -> tuple[Opening, ...]:
    try:
        return parse_entry(text, now=times.wall, boot_offset=-times.offset, services=Services.load())
    except EntryError as error:
        raise UsageError(f'reading "{text[:80]}"', error.what, error.hint) from error


def _checked(openings: Sequence[Opening]) -> tuple[Opening, ...]:
    for _, what, hint in check_list(openings):
        raise UsageError("reading the entries", what, hint)
    return ordered(openings)


def _meant(opening: Opening, wanted: Opening) -> bool:
    same = (opening.first, opening.last, opening.protocol) == (wanted.first, wanted.last, wanted.protocol)
    return same and wanted.sources in ((), opening.sources)
