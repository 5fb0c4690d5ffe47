"""A port policy changed by words, as people write them: modes and entries. Thousands of them take a second: in a thread."""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.core.policy_codec import ordered
from vpnpf.core.policy_words import FORWARDED
from vpnpf.errors import UsageError
from vpnpf.model import Opening, PolicyMode, PortPolicy, Protocol
from vpnpf.openings import EntryError, Services, check_list, parse_entry
from vpnpf.plugins import nearest

_MODES = tuple(str(mode) for mode in PolicyMode)
_JOINERS = frozenset({"from", "for", "until"})
"""Words inside an entry: one alone was taken apart by a shell."""
_SHOWN = 80
"""Characters of what was written that are repeated."""
_NAMED = 1000
"""Entries that the nearest one is looked for among."""


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
    openings = _entries(texts, times)
    return replace(before, mode=mode, forwarded=any(map(_forwarded, texts)), openings=_checked(openings))


def policy_opened(before: PortPolicy, words: Sequence[str], times: Times) -> PortPolicy:
    """The policy with more entries. Raises UsageError."""
    if before.mode is not PolicyMode.ALLOW_LIST:
        hint = f"set it first: vpnpf policy set PROFILE {PolicyMode.ALLOW_LIST} ENTRY..."
        raise UsageError("opening a port", f"the mode is {before.mode}, so entries mean nothing", hint)
    more = _entries(words, times)
    # Opened again, an entry counts from now, and has the comment that it is given now.
    keys = {opening.key for opening in more}
    kept = [opening for opening in before.openings if opening.key not in keys]
    forwarded = before.forwarded or any(map(_forwarded, words))
    return replace(before, forwarded=forwarded, openings=_checked([*kept, *more]))


def policy_closed(before: PortPolicy, words: Sequence[str], times: Times) -> PortPolicy:
    """The policy without some of its entries. Raises UsageError for one that is not there."""
    doing, forwarded, services = "closing a port", before.forwarded, Services.load()
    left: dict[tuple[int, int, Protocol], list[Opening]] = {}
    for each in before.openings:
        left.setdefault((each.first, each.last, each.protocol), []).append(each)
    for text in words:
        if _forwarded(text):
            if not forwarded:
                raise UsageError(doing, f'"{FORWARDED}" is not on the list', "look at: vpnpf policy show")
            forwarded = False
            continue
        found = False
        for wanted in _entry(text, times, services):
            there = left.get((wanted.first, wanted.last, wanted.protocol), [])
            # Without "from", an entry is meant whoever it is open to.
            stay = [each for each in there if wanted.sources not in ((), each.sources)]
            found |= len(stay) < len(there)
            left[wanted.first, wanted.last, wanted.protocol] = stay
        if not found:
            known = [each.name or each.key for some in left.values() for each in some][:_NAMED]
            hint = nearest(text, tuple(known)) if known else "the list has no entries"
            raise UsageError(doing, f'"{text[:_SHOWN]}" is not on the list', hint)
    openings = tuple(each for each in before.openings if each in left[each.first, each.last, each.protocol])
    return replace(before, forwarded=forwarded, openings=openings)


def _near_mode(text: str) -> bool:
    return any(part in _MODES_PARTS for part in text.split("-"))


_MODES_PARTS = frozenset(part for mode in _MODES for part in mode.split("-"))


def _forwarded(text: str) -> bool:
    return text.strip().lower() == FORWARDED


def _entries(texts: Sequence[str], times: Times) -> list[Opening]:
    services = Services.load()
    return [opening for text in texts if not _forwarded(text) for opening in _entry(text, times, services)]


def _entry(text: str, times: Times, services: Services) -> tuple[Opening, ...]:
    if text.strip().lower() in _JOINERS:
        cause = f'"{text.strip()}" is no entry by itself'
        raise UsageError("reading the entries", cause, 'put an entry of several words into quotes: "22/tcp for 2h"')
    try:
        return parse_entry(text, now=times.wall, boot_offset=-times.offset, services=services)
    except EntryError as error:
        raise UsageError(f'reading "{text[:_SHOWN]}"', error.what, error.hint) from error


def _checked(openings: Sequence[Opening]) -> tuple[Opening, ...]:
    for _, what, hint in check_list(openings):
        raise UsageError("reading the entries", what, hint)
    return ordered(openings)
