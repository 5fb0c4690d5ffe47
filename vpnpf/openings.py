"""What people write in an allow-list, in the configuration and on the command line alike: text or a table to openings.

The grammar is in `vpnpf.core.entries`. Here names become ports, and durations and moments become ends on CLOCK_BOOTTIME.

A `for` counts from the moment the entry was first put in force, not from each start: whoever keeps a policy over
restarts keeps the end of each `Timed` under its key, and has `settle` put them in.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.core.entries import Entry, ports_of, read_entry
from vpnpf.core.entry_parts import LONGEST, EndedError, EntryError, duration, read_moment, read_sources, shown
from vpnpf.core.overlaps import check_list
from vpnpf.core.presets import PREFIX, PRESETS
from vpnpf.core.services import Ports, Service
from vpnpf.model import Opening, PortPolicy, Protocol
from vpnpf.services import Services

__all__ = [
    "EndedError",
    "Entry",
    "EntryError",
    "Services",
    "Timed",
    "check_list",
    "duration",
    "key_of",
    "moment",
    "openings_of",
    "parse_entry",
    "read_entry",
    "read_sources",
    "service_of",
    "settle",
]


class Timed(Struct, frozen=True):
    """The openings of an entry whose end counts from when it was first put in force."""

    key: str
    """What it opens and for how long, `key_of` the entry: another duration begins anew, another comment does not."""
    lasts: int
    """Seconds."""
    openings: tuple[Opening, ...]


def parse_entry(
    raw: str | Mapping[str, object], *, now: float, boot_offset: float, services: Services
) -> tuple[Opening, ...]:
    """The openings of an entry: one for each protocol and range.

    `now` is in seconds since 1970, and `boot_offset` is CLOCK_BOOTTIME minus that. Raises EntryError, and nothing else.
    """
    return openings_of(read_entry(raw), now=now, boot_offset=boot_offset, services=services)


def openings_of(entry: Entry, *, now: float, boot_offset: float, services: Services) -> tuple[Opening, ...]:
    """The openings of an entry that was read. Raises EntryError, and EndedError of these if its end is past."""
    ports = ports_of(entry.what)
    all_ports = (ports,) if ports else _named(entry.what, services)
    ends = _end(entry, now)
    return tuple(
        Opening(
            first,
            last,
            protocol,
            entry.sources,
            "" if ports else entry.what,
            entry.comment,
            None if ends is None else ends + boot_offset,
        )
        for first, last, protocol in all_ports
    )


def key_of(raw: str | Mapping[str, object]) -> str:
    """What an entry opens and for how long, in one form however it was written, without its comment.

    Raises EntryError.
    """
    return read_entry(raw).key


def settle(
    policy: PortPolicy, timed: tuple[Timed, ...], ends: Mapping[str, float], now: float
) -> tuple[PortPolicy, dict[str, float]]:
    """A policy as it is put in force, and the ends to keep: those that were kept, and for new entries new ones.

    All times are on CLOCK_BOOTTIME. What has ended by now is left out, and stays so for as long as its end is kept.
    """
    kept = {each.key: ends.get(each.key, now + each.lasts) for each in timed}
    counted = {opening: each.key for each in timed for opening in each.openings}
    openings = [
        opening if opening not in counted else replace(opening, ends_at=kept[counted[opening]])
        for opening in policy.openings
    ]
    standing = tuple(opening for opening in openings if opening.ends_at is None or opening.ends_at > now)
    return replace(policy, openings=standing), kept


def moment(raw: object) -> float:
    """Seconds since 1970 of "2026-12-01T10:00[:00][Z|+01:00]" or a moment of TOML; otherwise it is the machine's zone.

    Raises EntryError.
    """
    return _seconds(read_moment(raw))


def service_of(name: str, services: Services) -> Service:
    """The service, or preset, of a name. Raises EntryError with the nearest name that is known."""
    text = name.strip().lower()
    if text.startswith(PREFIX):
        preset = PRESETS.get(text.removeprefix(PREFIX))
        if preset is None:
            close = difflib.get_close_matches(text.removeprefix(PREFIX), PRESETS, n=1, cutoff=0.6)
            hint = f'did you mean "{PREFIX}{close[0]}"?' if close else f"known: {', '.join(_presets())}"
            raise EntryError(f"there is no preset {shown(text.removeprefix(PREFIX))}", hint)
        if preset.refused:
            raise EntryError(preset.refused, preset.instead)
        return Service(preset.ports, preset.source)
    found = services.find(text)
    if found is None:
        raise EntryError(f"there is no service {shown(name)}", _nearest(text, (*services.known, *_presets())))
    return found


def _named(what: str, services: Services) -> tuple[Ports, ...]:
    name, _, protocol = what.partition("/")
    found = service_of(name, services).ports
    chosen = tuple(each for each in found if not protocol or each[2] == protocol)
    if not chosen:
        other = next(each for each in Protocol if each != protocol)
        raise EntryError(f"{name} is not on {protocol}", f'write "{name}/{other}", or the port itself')
    return chosen


def _presets() -> tuple[str, ...]:
    return tuple(PREFIX + name for name in PRESETS)


def _nearest(name: str, known: tuple[str, ...]) -> str:
    if PREFIX + name in known:
        return f'did you mean "{PREFIX}{name}"?'
    close = difflib.get_close_matches(name[:64], known, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return "write the port itself, as 22/tcp; /etc/services lists names"


def _end(entry: Entry, now: float) -> float | None:
    """When it ends, in seconds since 1970."""
    if entry.lasts is not None:
        return now + entry.lasts
    if entry.until is None:
        return None
    ends = _seconds(entry.until)
    if ends <= now:
        raise EndedError
    if ends > now + LONGEST:
        raise EntryError("its end is more than ten years away", "leave it out: then it has no end", "until")
    return ends


def _seconds(when: datetime) -> float:
    try:
        return when.timestamp()
    except (ValueError, OverflowError, OSError):
        raise EntryError("there is no such moment here", "write a year between 1970 and 3000", "until") from None
