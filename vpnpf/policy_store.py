"""The port policy that was set by hand: it outlives a restart, until it is taken back or the configuration's own changes.

`policy-PROFILE.json` in the state directory; it has the ends of the configuration's timed entries too, since these
count from when they were first put in force. Ends are kept as wall-clock times; what is left of one never grows,
whatever the clock says after a boot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeGuard

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.core.policy_codec import PolicyError, policy_from, policy_json, without_ended
from vpnpf.errors import Unavailable
from vpnpf.interfaces import Store
from vpnpf.model import PortPolicy
from vpnpf.openings import Timed, settle

VERSION = 1
PREFIX = "policy-"


class ByHand(Struct, frozen=True):
    """A policy that was set by hand."""

    policy: PortPolicy
    set_at: float
    """Seconds since 1970."""


class PolicyStore:
    """What policy a profile starts with, and what is kept of one that was set while it ran.

    Does I/O: with a disk that may be stuck, `keep` and `forget` belong into a thread.
    """

    def __init__(self, store: Store, profile: str, written: PortPolicy, timed: tuple[Timed, ...] = ()) -> None:
        self._store = store
        self._name = PREFIX + profile
        self._written = written
        self._timed = timed
        self._said: dict[str, object] = {}
        """What the configuration says, as it is written down."""
        self._ends: dict[str, float] = {}
        """Of the configuration's timed entries, on CLOCK_BOOTTIME."""
        self.configured = written
        """The configuration's own policy, as it was at the start, with the ends that its timed entries have."""
        self.by_hand: ByHand | None = None
        """What is in its place, if anything."""
        self.trouble = ""
        """What could not be read or kept, if anything."""

    def load(self, now: float, offset: float, *, only_look: bool = False) -> PortPolicy:
        """The policy to start with; `now` on CLOCK_BOOTTIME, `offset` is wall-clock time minus that. Never raises.

        What counts from now on is written down, except with `only_look`.
        """
        self.by_hand, self.trouble = None, ""
        self._said = said(self._written, self._timed, offset)
        kept = self._store.load(self._name) or {}
        known = _ends(kept, now, offset)
        self.configured, ends = settle(self._written, self._timed, known, now)
        self._ends = {key: end for key, end in ends.items() if key in known or not only_look}
        if "policy" in kept and same(kept.get("configured"), self._said, now + offset):
            try:
                self.by_hand = _read(kept, now, offset)
            except PolicyError as error:
                self.trouble = f"the port policy set by hand cannot be read, the configuration's is used: {error}"
        if not only_look and self._ends.keys() != known.keys():
            try:
                self._save(now + offset, offset)
            except Unavailable as error:
                self.trouble = f"the ends of timed entries cannot be kept, they count anew after a restart: {error}"
        return self.by_hand.policy if self.by_hand else self.configured

    def keep(self, policy: PortPolicy, wall: float, offset: float) -> None:
        """Keep a policy that was set at `wall` (seconds since 1970). Raises Unavailable if the disk says no."""
        self.by_hand = ByHand(policy, wall)
        self._save(wall, offset)

    def forget(self, wall: float, offset: float) -> None:
        """Go back to the configuration's own. Raises Unavailable if the disk says no."""
        self.by_hand = None
        if self._ends:
            self._save(wall, offset)
        else:
            self._store.forget(self._name)

    def _save(self, wall: float, offset: float) -> None:
        ends = {key: [wall, end + offset] for key, end in self._ends.items()}
        document: dict[str, object] = {"version": VERSION, "configured": self._said, "ends": ends}
        if self.by_hand is not None:
            document |= {"set_at": self.by_hand.set_at, "policy": policy_json(self.by_hand.policy, offset)}
        self._store.save(self._name, document)


def said(written: PortPolicy, timed: tuple[Timed, ...], offset: float) -> dict[str, object]:
    """What a configuration says, however late it is read: of a timed entry how long it lasts, not until when."""
    counted = {opening for each in timed for opening in each.openings}
    openings = tuple(each for each in written.openings if each not in counted)
    return {
        **policy_json(replace(written, openings=openings), offset),
        "timed": sorted(each.key for each in timed),
    }


def same(one: object, other: Mapping[str, object], wall: float) -> bool:
    """Whether two configurations said the same; what has ended by now (seconds since 1970) is no difference."""
    return isinstance(one, dict) and _standing(one, wall) == _standing(other, wall)


def _standing(value: Mapping[str, object], wall: float) -> dict[str, object]:
    openings = value.get("openings")
    left = []
    for each in openings if isinstance(openings, list) else ():
        end = each.get("ends_at") if isinstance(each, dict) else None
        if not _is_time(end):
            left.append(each)
        elif end > wall:
            # Through another clock it may differ by a little.
            left.append({**each, "ends_at": round(end)})
    return {**value, "openings": left}


def _read(kept: Mapping[str, object], now: float, offset: float) -> ByHand:
    set_at = kept.get("set_at")
    if kept.get("version") != VERSION or not _is_time(set_at):
        raise PolicyError("it is of another version")
    policy = policy_from(kept.get("policy"), offset)
    openings = tuple(
        each
        if each.ends_at is None
        else replace(each, ends_at=_left(each.ends_at + offset, since=set_at, now=now, offset=offset))
        for each in policy.openings
    )
    return ByHand(without_ended(replace(policy, openings=openings), now), float(set_at))


def _ends(kept: Mapping[str, object], now: float, offset: float) -> dict[str, float]:
    """The ends that were kept, by entry; what cannot be read is left out, and counts anew."""
    value = kept.get("ends")
    found = {}
    for key, pair in value.items() if isinstance(value, dict) and kept.get("version") == VERSION else ():
        if isinstance(pair, list) and len(pair) == 2 and all(map(_is_time, pair)):  # noqa: PLR2004 - a pair
            found[str(key)] = _left(pair[1], since=pair[0], now=now, offset=offset)
    return found


def _left(end: float, *, since: float, now: float, offset: float) -> float:
    """When something ends, on CLOCK_BOOTTIME; a clock that went back must not keep a port open for longer."""
    return min(end - offset, now + max(0.0, end - since))


def _is_time(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value >= 0
