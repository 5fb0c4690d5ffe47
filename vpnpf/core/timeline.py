"""The last transitions of a profile with their causes: what a person asks for after a bad night.

Pure. Times are seconds on CLOCK_BOOTTIME.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable

from msgspec.structs import replace

from vpnpf.core.policy_words import changed
from vpnpf.core.readiness import ready_words
from vpnpf.core.switch import words
from vpnpf.core.unused import unused_words
from vpnpf.events import (
    Disagrees,
    ExitDiffers,
    GatewayReset,
    LeaseRenewed,
    MtuLowered,
    Notice,
    OpeningUnused,
    PhaseChanged,
    PolicyChanged,
    PortAnnounced,
    PortGranted,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    RemedyTaken,
    SwitchSeen,
    WishTaken,
)
from vpnpf.model import Entry, Lease, LockMode, Phase, Remedy, Wish

KEPT = 100
"""Entries kept; the oldest go first."""
NEAR = 4
"""How many entries back the same one is looked for: what goes to and fro is a cycle of a few."""
SOON = 600.0
"""Seconds within which an entry that comes back after others is folded into the earlier one."""
LONGEST = 300
"""Characters of a text or cause."""

_COUNTED = re.compile(r"(.*) \((\d{1,9}) times\)", re.DOTALL)
_PHASES = {
    Phase.STARTING: "starting",
    Phase.CONNECTING: "connecting",
    Phase.LEASING: "the tunnel is up, the port is asked for",
    Phase.BLOCKED: "blocked: the tunnel is lost, nothing leaves",
    Phase.FAILED: "failed: this needs a person",
    Phase.STOPPING: "stopping",
    Phase.STOPPED: "stopped",
}
_REMEDIES = {
    Remedy.RETRY: "the same is tried again",
    Remedy.REMAP: "the port is asked for as if none were held",
    Remedy.REKEY: "the tunnel shakes hands anew",
    Remedy.RESTART: "the tunnel goes down and up",
    Remedy.NEXT_SERVER: "the tunnel goes to the next server",
    Remedy.TELL: "nothing else is left to be tried: this needs a person",
}


def entry_of(notice: Notice, at: float) -> Entry | None:  # noqa: C901, PLR0911 - one line a notice
    """What is worth keeping of a notice made at `at`; None for a plain renewal."""
    match notice:
        case PhaseChanged(cause=cause):
            return _entry(at, "phase", _phase(notice), cause)
        case PortGranted(forward=name, lease=lease, before=before):
            return _entry(at, "granted", _granted(lease, before), forward=name)
        case LeaseRenewed():
            return None
        case PortAnnounced(forward=name):
            return _entry(at, "port", _announced(notice), forward=name)
        case PortLost(forward=name, external_port=port, cause=cause):
            return _entry(at, "port-lost", f"port {port} is lost", cause, name)
        case RemedyTaken(remedy=remedy, cause=cause, forward=name):
            return _entry(at, "remedy", _REMEDIES[remedy], cause, name)
        case WishTaken(forward=name):
            return _entry(at, "wish", wish_words(notice), "by hand", name)
        case PolicyChanged(before=old, after=new):
            return _entry(at, "policy", changed(old, new))
        case SwitchSeen(after=said):
            return _entry(at, "switch", f"the provider {words(said)}")
        case Disagrees(how=how):
            text = f"the provider {how}, which is not what is wanted" if how else "the provider lets in what is wanted"
            return _entry(at, "disagrees" if how else "agrees", text)
        case OpeningUnused():
            return _entry(at, "unused", unused_words(notice))
        case MtuLowered(before=before, after=after):
            return _entry(
                at, "mtu", f"packets of more than {after} bytes do not get through: MTU {after}, not {before}"
            )
        case GatewayReset(cause=cause):
            return _entry(at, "gateway-reset", "the gateway lost its mappings, they are asked for again", cause)
        case ExitDiffers(gateway=gateway, seen=seen):
            return _entry(at, "exit-differs", f"the gateway says {gateway}, but the internet sees {seen}")
        case ProblemNoticed(problem=problem):
            return _entry(at, "problem", f"problem with {problem.doing}", problem.message)
        case ProblemOver(problem=problem):
            return _entry(at, "problem-over", f"no more problem with {problem.doing}", f"after {problem.times}")


def wish_words(notice: WishTaken) -> str:
    """What is being done for a person."""
    match notice.wish:
        case Wish.RENEW:
            return "renewing the port"
        case Wish.NEW_PORT:
            return "asking for a new port"
        case Wish.SERVER:
            return f"going to server {notice.server}"


def _phase(notice: PhaseChanged) -> str:
    if (notice.before, notice.after) == (Phase.READY, Phase.LEASING):
        return "not ready for the moment"
    return phase_words(notice.after, notice.lock, notice.ports)


def phase_words(phase: Phase, lock: LockMode = LockMode.ON, ports: Collection[bool] = (True,)) -> str:
    """What a phase means, in a few words; `ports`: as `ready_words`."""
    if phase is Phase.READY:
        return f"ready: {ready_words(ports)}"
    if (lock, phase) == (LockMode.OFF, Phase.BLOCKED):
        return "the tunnel is lost, traffic goes its usual way"
    return _PHASES[phase]


def extended(timeline: tuple[Entry, ...], entries: Iterable[Entry]) -> tuple[Entry, ...]:
    """The timeline with these entries: at most KEPT, ordered by time.

    An entry that repeats the last one, or one of the last NEAR within SOON, takes its place at the end, with a
    count in its text and the later time. A time before that of the last entry becomes that one.
    """
    kept = list(timeline)
    for entry in sorted(entries, key=lambda each: each.at):
        later = replace(entry, at=max(entry.at, kept[-1].at)) if kept else entry
        kept.append(_folded(kept, later))
    return tuple(kept[-KEPT:])


def _folded(kept: list[Entry], entry: Entry) -> Entry:
    """The entry to append; an earlier one that it repeats is taken out of `kept`."""
    text, more = _count(entry)
    for back in range(1, min(NEAR, len(kept)) + 1):
        earlier = kept[-back]
        said, times = _count(earlier)
        same = (earlier.kind, said, earlier.cause, earlier.forward) == (entry.kind, text, entry.cause, entry.forward)
        if same and (back == 1 or entry.at - earlier.at <= SOON):
            del kept[-back]
            return replace(entry, text=f"{text} ({times + more} times)")
    return entry


def _count(entry: Entry) -> tuple[str, int]:
    found = _COUNTED.fullmatch(entry.text)
    return (found[1], int(found[2])) if found else (entry.text, 1)


def _granted(lease: Lease, before: int | None) -> str:
    if before is not None and before != lease.external_port:
        return f"the gateway changed the port from {before} to {lease.external_port}"
    return f"the gateway gave port {lease.external_port} {lease.length}"


def _announced(notice: PortAnnounced) -> str:
    inside = f" ({notice.inside})" if notice.inside else ""
    was = f", it was {notice.before}" if notice.before is not None else ""
    return f"port {notice.lease.external_port} is open to the internet{inside}{was}"


def _entry(at: float, kind: str, text: str, cause: str = "", forward: str = "") -> Entry:
    return Entry(at, kind, _line(text), _line(cause), forward)


def _line(text: str) -> str:
    """On one line, and not without end: causes come from daemons and gateways."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"
