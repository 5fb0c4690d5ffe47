"""The rule sets, and what is read back of them."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from vpnpf.model.kinds import Protocol
from vpnpf.model.tunnel import TunnelPlan
from vpnpf.model.wanted import LockMode, PortPolicy


class ForwardRule(Struct, frozen=True):
    """A forwarded port as the firewall sees it."""

    name: str
    protocols: tuple[Protocol, ...]
    arrives: int
    """Destination port of the packets as they leave the tunnel."""
    listen: int
    """Port that the local program listens on; where it differs from `arrives`, packets are redirected."""
    expires_at: float | None = None
    """When the kernel closes it by itself, or None."""
    target: str | None = None
    """Address of another host, private and beyond another device, that packets are rewritten to; None: this machine."""
    sources: tuple[str, ...] = ()
    """Prefixes that may come in on it; empty: anybody."""
    shut: bool = False
    """Whether nobody may come in on it, unless everything is open."""
    keep_source: bool = False
    """Whether the target sees who calls: only if its way back leads through this machine."""


class FirewallStage(StrEnum):
    """Which of the rule sets is meant; see docs/security.md for what each allows."""

    CONNECTING = "connecting"
    CONNECTED = "connected"
    BLOCKED = "blocked"
    LOCKED = "locked"
    """No vpnpf runs, and nothing is to leave all the same: mode "lockdown"."""


class FirewallPolicy(Struct, frozen=True):
    """A whole rule set as a value; equal values are equal rule sets."""

    stage: FirewallStage
    plan: TunnelPlan
    inbound: PortPolicy
    """What may come in through the tunnel; only looked at in stage CONNECTED."""
    forwards: tuple[ForwardRule, ...] = ()
    lock: LockMode = LockMode.ON


class Hits(Struct, frozen=True):
    """Packets and bytes counted on a rule since it exists."""

    packets: int = 0
    octets: int = 0


class FirewallReading(Struct, frozen=True):
    """What was read back from the kernel."""

    intact: bool
    """Whether it is what was applied last, rule by rule."""
    evidence: str
    """One line: what was seen, or what differs."""
    hits: tuple[tuple[str, Protocol, Hits], ...] = ()
    """(forward, protocol, inbound packets that opened a flow on its port)."""
    openings: tuple[tuple[str, Hits], ...] = ()
    """(`Opening.key`, inbound packets that opened a flow on it), of those whose counter can be read."""


class Use(Struct, frozen=True):
    """How an opening, or a forwarded port, has been used so far."""

    what: str
    """`Opening.key`, or "forward NAME"."""
    since: float
    """When it was first seen open."""
    last: float | None = None
    """When its counter was last seen to have risen, or None."""
    idle: float = 0.0
    """Seconds since then (or since it was opened) in which it was seen open and its counter stood still: what nobody
    looked at, while vpnpf was not running or the tunnel was down, is not among them."""
    reported: bool = False
    """Whether it was said that nobody uses it."""
    closed: bool = False
    """Whether it was closed for that."""
