"""The kernel's packet filter by the program nft: one transaction to change it, one listing to know it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from types import MappingProxyType

from vpnpf.errors import Failure, PermissionDenied, Transient, Unsupported, VpnpfError
from vpnpf.firewall.elements import Used, held, hits_of_openings, used
from vpnpf.firewall.openings import opening_sets
from vpnpf.firewall.readback import (
    Fingerprint,
    Listing,
    Tally,
    carry,
    difference,
    fingerprint,
    leftovers,
    parse,
    summary,
    tally,
)
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import FAMILY_TABLE, OpeningSet, Ruleset, script
from vpnpf.io.clock import BootClock
from vpnpf.io.process import Completed, find, run
from vpnpf.model import FirewallPolicy, FirewallReading, Opening

APPLYING = "applying the firewall's rules"
READING = "reading the firewall's rules"
NOTHING: Tally = MappingProxyType({})
UNUSED: Used = MappingProxyType({})


class Nft:
    """Our table `inet vpnpf`; no other table is looked at or touched.

    `prefix` is put before nft: ("ip", "netns", "exec", NAME) for another network namespace. `clock`
    gives seconds on CLOCK_BOOTTIME.
    """

    def __init__(self, *, prefix: tuple[str, ...] = (), clock: Callable[[], float] | None = None) -> None:
        self._prefix = prefix
        self._clock = clock or BootClock().now
        self._lock = asyncio.Lock()
        self._wanted: Ruleset | None = None
        self._known: Fingerprint | None = None
        self._listing: Listing | None = None
        self._unread = ""
        self._openings: tuple[tuple[Opening, ...], tuple[OpeningSet, ...]] | None = None
        self._alike: tuple[OpeningSet, ...] = ()
        """Sets that were as they should be when they were looked at last."""
        self._listed_at = 0.0
        self._totals = self._raw = NOTHING
        self._used = self._raw_used = UNUSED

    async def apply(self, policy: FirewallPolicy, now: float) -> FirewallReading:
        """Swap the rule set in one transaction and read it back.

        Raises Misconfigured if the plan allows no safe rules, Unavailable without nft, PermissionDenied
        without CAP_NET_ADMIN, Unsupported if the kernel lacks a part, otherwise Transient. The old rules
        stand then, except that after a deadline it is open which do: `read` tells.
        """
        async with self._lock:
            ruleset = self._rendered(policy)
            first = self._wanted is None
            if first:
                await self._list()
            text = self._script(ruleset, now, first=first)
            done = await self._nft("-f", "-", stdin=text)
            if done.status != 0:
                # Somebody may have changed what is left of former rule sets since we looked last, or an element
                # ended by itself.
                await self._list()
                self._alike = ()
                for afresh in (False, True):
                    again = self._script(ruleset, now, first=first, afresh=afresh)
                    if done.status != 0 and again != text:
                        text, done = again, await self._nft("-f", "-", stdin=again)
            if done.status != 0:
                raise refusal(APPLYING, done.stderr, text)
            self._wanted, self._known, self._alike = ruleset, None, ()
            await self._list()
            reading = self._reading(now)
            if reading.intact and self._listing is not None:
                self._known = fingerprint(self._listing)
                self._alike = ruleset.openings
            return reading

    async def read(self) -> FirewallReading:
        """Compare the kernel's rules with what was applied last, and read the counters.

        Raises what `apply` raises, if nothing can be read.
        """
        async with self._lock:
            await self._list()
            reading = self._reading(self._clock())
            if not reading.intact:
                self._alike = ()
            return reading

    async def remove(self) -> None:
        """Take our table away. Raises PermissionDenied, Unavailable or Transient, never for what is gone already."""
        async with self._lock:
            text = f"add table {FAMILY_TABLE}\ndelete table {FAMILY_TABLE}\n"
            done = await self._nft("-f", "-", stdin=text)
            if done.status != 0:
                raise refusal("removing the firewall's rules", done.stderr, text)
            self._wanted = self._known = self._listing = None
            self._alike = ()
            self._totals = self._raw = NOTHING
            self._used = self._raw_used = UNUSED

    def _rendered(self, policy: FirewallPolicy) -> Ruleset:
        openings = policy.inbound.openings
        if self._openings is None or self._openings[0] is not openings:
            self._openings = (openings, opening_sets(openings))
        return render(policy, self._openings[1])

    def _script(self, ruleset: Ruleset, now: float, *, first: bool, afresh: bool = False) -> str:
        alike = self._alike
        if alike and ruleset.openings is alike and not afresh:
            return script(ruleset, now, leftovers(ruleset, self._listing, counters=first), alike=alike)
        there = {} if afresh or self._listing is None else held(self._listing.openings, self._listed_at, now)
        old = leftovers(ruleset, self._listing, counters=first)
        for each in old:
            there.pop(each.name, None)
        return script(ruleset, now, old, there)

    async def _list(self) -> None:
        self._listed_at = self._clock()
        done = await self._nft("-j", "list", "table", *FAMILY_TABLE.split())
        self._unread = ""
        if done.status == 0:
            try:
                self._listing = parse(done.stdout)
            except ValueError as error:
                # nft 1.0.6 writes broken JSON for a table with flags: what cannot be read is not what we made.
                self._listing, self._unread = None, f"nft's listing of the table cannot be read: {error}"
                return
        elif "No such file or directory" in done.stderr:
            self._listing = None
        else:
            raise refusal(READING, done.stderr, "")
        raw = tally(self._listing)
        self._totals, self._raw = carry(self._totals, self._raw, raw), raw
        raw_used = used(self._listing.openings) if self._listing else UNUSED
        self._used, self._raw_used = carry(self._used, self._raw_used, raw_used), raw_used

    def _reading(self, now: float) -> FirewallReading:
        if self._wanted is None:
            return FirewallReading(False, "no rules were applied yet")
        differs = self._unread or difference(self._wanted, self._listing, now, self._known)
        hits = tuple((name, protocol, hits) for (name, protocol), hits in sorted(self._totals.items()))
        openings = hits_of_openings(self._wanted, self._used) if self._listing else ()
        return FirewallReading(not differs, differs or summary(self._wanted), hits, openings)

    async def _nft(self, *arguments: str, stdin: str = "") -> Completed:
        return await run((*self._prefix, find("nft"), *arguments), stdin=stdin)


def refusal(doing: str, said: str, text: str) -> VpnpfError:
    """What nft's complaint about a transaction means. Pure."""
    if "Operation not permitted" in said:
        return PermissionDenied(
            doing, "the kernel does not allow it", "run as root or with the capability CAP_NET_ADMIN"
        )
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    cause = lines[0] if lines else "nft said nothing"
    place = re.match(r"\S+?:(\d+):(\d+)-(\d+): Error: (.*)", cause)
    if not place:
        return Transient(doing, cause[:200])
    number, start, end, cause = int(place[1]), int(place[2]), int(place[3]), place[4]
    commands = text.splitlines()
    command = commands[number - 1] if 0 < number <= len(commands) else ""
    # The kernel says ENOENT for a part it was built without; what our own commands name is there by then.
    missing = ("No such file or directory", "not supported")
    if command.startswith("add ") and "Could not process rule" in cause and any(each in cause for each in missing):
        part = command[start - 1 : end]
        hint = "the kernel was built without it: load the nf_tables modules or use another kernel"
        return Unsupported(doing, f"the kernel does not know: {part} (in: {command[:120]})", hint)
    failure: Failure = Transient(doing, f"{cause} (in: {command[:120]})" if command else cause)
    return failure
