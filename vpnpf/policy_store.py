"""The port policy that was set by hand: it outlives a restart, until it is taken back or the configuration's own changes.

`policy-PROFILE.json` in the state directory. Ends of timed entries are kept as wall-clock times; what is left of one never
grows, whatever the clock says after a boot.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.core.policy_codec import PolicyError, digest, policy_from, policy_json, without_ended
from vpnpf.interfaces import Store
from vpnpf.model import PortPolicy

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

    def __init__(self, store: Store, profile: str, configured: PortPolicy) -> None:
        self._store = store
        self._name = PREFIX + profile
        self.configured = configured
        """The configuration's own policy, as it was at the start."""
        self.by_hand: ByHand | None = None
        """What is in its place, if anything."""
        self.trouble = ""
        """Why what was kept is not used, if that is no wish of the person's."""

    def load(self, now: float, offset: float) -> PortPolicy:
        """The policy to start with; `now` on CLOCK_BOOTTIME, `offset` is wall-clock time minus that. Never raises."""
        self.by_hand, self.trouble = None, ""
        kept = self._store.load(self._name)
        if kept is not None and kept.get("configured") == digest(self.configured):
            try:
                self.by_hand = _read(kept, now, offset)
            except PolicyError as error:
                self.trouble = f"the port policy set by hand cannot be read, the configuration's is used: {error}"
        return self.by_hand.policy if self.by_hand else self.configured

    def keep(self, policy: PortPolicy, wall: float, offset: float) -> None:
        """Keep a policy that was set at `wall` (seconds since 1970). Raises Unavailable if the disk says no."""
        self.by_hand = ByHand(policy, wall)
        document = {
            "version": VERSION,
            "configured": digest(self.configured),
            "set_at": wall,
            "policy": policy_json(policy, offset),
        }
        self._store.save(self._name, document)

    def forget(self) -> None:
        """Go back to the configuration's own."""
        self.by_hand = None
        self._store.forget(self._name)


def _read(kept: Mapping[str, object], now: float, offset: float) -> ByHand:
    set_at = kept.get("set_at")
    if kept.get("version") != VERSION or not isinstance(set_at, int | float) or not math.isfinite(set_at):
        raise PolicyError("it is of another version")
    policy = policy_from(kept.get("policy"), offset)
    openings = tuple(
        # A clock that went back must not keep a port open for longer than it was to be.
        each if each.ends_at is None else replace(each, ends_at=min(each.ends_at, now + each.ends_at + offset - set_at))
        for each in policy.openings
    )
    return ByHand(without_ended(replace(policy, openings=openings), now), float(set_at))
