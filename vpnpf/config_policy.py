"""What the entries of a profile's port policy mean together."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from vpnpf.config_schema import AllowTable, Key, PolicyTable
from vpnpf.core.entries import ports_of
from vpnpf.interfaces import Clock
from vpnpf.model import Opening, PolicyMode, PortPolicy
from vpnpf.openings import EndedError, EntryError, Services, Timed, check_list, duration, openings_of, read_entry

FORWARDED = "forwarded"
Wrong = Callable[[Key, str, str], None]
"""Takes a mistake: key, what is wrong there, hint."""


class PolicyChecker:
    """Reads policies; what is wrong in them goes to `wrong`."""

    def __init__(self, wrong: Wrong, clock: Clock, *, ended: bool = False) -> None:
        self._wrong = wrong
        self._ended = ended
        self._now = clock.wall()
        self._boot_offset = clock.now() - self._now

    @cached_property
    def services(self) -> Services:
        """All that have a name here, read when the first one is met."""
        return Services.load()

    def policy(self, at: Key, table: PolicyTable) -> tuple[PortPolicy, tuple[Timed, ...]]:
        """A policy, and those of its entries whose end counts from when it is first put in force."""
        mode = PolicyMode(table.mode)
        if table.allow is not None and mode is not PolicyMode.ALLOW_LIST:
            self._wrong((*at, "allow"), f"it means nothing with {mode}", f'use mode = "{PolicyMode.ALLOW_LIST}"')
        forwarded, openings, timed = self._entries((*at, "allow"), [FORWARDED] if table.allow is None else table.allow)
        policy = PortPolicy(
            mode, forwarded, tuple(sorted(openings, key=_order)), self._unused(at, table), table.close_unused
        )
        return policy, timed

    def _entries(self, at: Key, entries: list[str | AllowTable]) -> tuple[bool, list[Opening], tuple[Timed, ...]]:
        forwarded = False
        openings: list[Opening] = []
        places: list[int] = []
        timed: list[Timed] = []
        for place, raw in enumerate(entries):
            if isinstance(raw, str) and raw.strip().lower() == FORWARDED:
                if forwarded:
                    self._wrong((*at, place), f'"{FORWARDED}" is there twice', "remove one of them")
                forwarded = True
                continue
            try:
                entry = read_entry(raw if isinstance(raw, str) else raw.as_written())
                found = openings_of(
                    entry,
                    now=self._now,
                    boot_offset=self._boot_offset,
                    # A file without names has no use for the machine's.
                    services=Services() if ports_of(entry.what) else self.services,
                )
            except EntryError as error:
                if self._ended and isinstance(error, EndedError):
                    continue
                key: Key = (*at, place, error.part) if error.part and not isinstance(raw, str) else (*at, place)
                self._wrong(key, error.what, error.hint)
                continue
            openings += found
            places += [place] * len(found)
            if entry.lasts is not None:
                timed.append(Timed(entry.key, entry.lasts, found))
        for index, what, hint in check_list(openings):
            self._wrong((*at, places[index]), what, hint)
        return forwarded, openings, tuple(timed)

    def _unused(self, at: Key, table: PolicyTable) -> float | None:
        if table.report_unused is None:
            if table.close_unused:
                what = "nothing says after which time without a packet"
                self._wrong((*at, "close_unused"), what, 'add report_unused = "7d"')
            return None
        try:
            return float(duration(table.report_unused))
        except EntryError as error:
            self._wrong((*at, "report_unused"), error.what, error.hint)
            return None


def _order(opening: Opening) -> tuple[int, int, str, tuple[str, ...]]:
    """Openings that do not overlap are told apart by these."""
    return opening.first, opening.last, opening.protocol, opening.sources
