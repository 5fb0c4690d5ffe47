"""What `vpnpf run` says: talk for people on stderr, one JSON object per event on stdout."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

from vpnpf.core.policy_words import changed
from vpnpf.core.serialise import notice_event, state_event, time_of
from vpnpf.core.switch import words
from vpnpf.core.timeline import wish_words
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
from vpnpf.hub import Hub
from vpnpf.interfaces import Clock
from vpnpf.model import FailureKind, LockMode, Phase, Problem, Remedy, State

Put = Callable[[str], None]

_PHASES = {
    Phase.CONNECTING: "connecting: nothing leaves but the tunnel's own packets",
    Phase.LEASING: "the tunnel is up, asking for the port",
    Phase.READY: "READY: every forward is leased, open and followed",
    Phase.BLOCKED: "BLOCKED: the tunnel is lost, nothing leaves until it is back",
    Phase.FAILED: "FAILED: this needs you; the rules in force stay as they are",
    Phase.STOPPING: "stopping: giving the port back, taking the tunnel down",
    Phase.STOPPED: "stopped: everything is as it was before",
}
_PHASES_BY_LOCK = {
    (LockMode.OFF, Phase.CONNECTING): "connecting: nothing is blocked meanwhile (lock = off)",
    (LockMode.OFF, Phase.BLOCKED): "the tunnel is lost: traffic goes its usual way until it is back (lock = off)",
    (LockMode.LOCKDOWN, Phase.STOPPED): "stopped, and locked: nothing leaves until vpnpf runs again, or `vpnpf unlock`",
}
_JUST_NOW = 10.0
"""Seconds for which a problem that was told is not told again as the cause of what follows."""
_NO_LONGER_READY = "not READY for now"
_LEFT_BEHIND = "stopped, but not everything could be put back"


_REMEDIES = {
    Remedy.RETRY: "trying the same again",
    Remedy.REMAP: "asking for the port as if none were held",
    Remedy.REKEY: "shaking hands anew, in place",
    Remedy.RESTART: "taking the tunnel down and up",
    Remedy.NEXT_SERVER: "going to the next server",
    Remedy.TELL: "nothing is left to be tried but the same, slowly: this needs you",
}


async def write_events(hub: Hub, clock: Clock, put: Put) -> None:
    """One JSON object per line: every notice, and every new state."""
    with hub.subscribe() as reader:
        async for update in reader.updates():
            offset = clock.wall() - clock.now()
            if update.missed:
                put(_dump({"event": "missed", "count": update.missed}))
            for moment in update.moments:
                put(_dump(notice_event(moment.notice, moment.at, update.state.profile, offset)))
            put(_dump(state_event(update.state, clock.now(), offset)))


async def write_talk(hub: Hub, clock: Clock, put: Put, *, verbose: bool = False) -> None:
    """A few lines that a person wants to read."""
    proven: dict[str, int] = {}
    place, trouble, trouble_at = "", "", -math.inf
    with hub.subscribe() as reader:
        async for update in reader.updates():
            offset = clock.wall() - clock.now()
            if update.missed:
                put(f"{_hour(clock.now(), offset)} {update.missed} notices were lost: this log was not written in time")
            for moment in update.moments:
                said_already = trouble if moment.at - trouble_at < _JUST_NOW else ""
                for line in talk(moment.notice, verbose=verbose):
                    put(f"{_hour(moment.at, offset)} {line.removesuffix(said_already)}")
                if isinstance(moment.notice, ProblemNoticed):
                    # What is done about a problem has it as its cause, and follows at once.
                    trouble, trouble_at = f" ({_of(moment.notice.problem)})", moment.at
            if update.state.tunnel is not None and update.state.tunnel.plan.place not in {"", place}:
                place = update.state.tunnel.plan.place
                put(f"{_hour(clock.now(), offset)} the tunnel goes to {place}")
            for line in _reached(update.state, proven):
                put(f"{_hour(clock.now(), offset)} {line}")


def talk(notice: Notice, *, verbose: bool = False) -> list[str]:  # noqa: C901, PLR0911 - one line a notice
    """A notice in words."""
    match notice:
        case PhaseChanged():
            return [_phase(notice)]
        case PortGranted(forward=name, lease=lease, before=before):
            if before is None:
                return [f"{name}: the gateway gave external port {lease.external_port} {lease.length}"]
            return [
                f"{name}: the gateway changed the port from {before} to {lease.external_port}; opening the new one first"
            ]
        case LeaseRenewed(forward=name, lease=lease):
            return [f"{name}: port {lease.external_port} renewed"] if verbose else []
        case PortAnnounced(forward=name, lease=lease, before=before):
            inside = f" ({notice.inside})" if notice.inside else ""
            was = f", it was {before}" if before else ""
            return [f"{name}: the internet reaches you at {lease.place}{inside}{was}"]
        case PortLost(forward=name, external_port=port, cause=cause):
            return [f"{name}: port {port} is lost: {cause}"]
        case RemedyTaken(remedy=remedy, cause=cause, forward=name):
            return [f"{name + ': ' if name else ''}{_REMEDIES[remedy]} ({cause})"]
        case WishTaken(forward=name):
            return [f"{name + ': ' if name else ''}{wish_words(notice)} (asked for)"]
        case PolicyChanged(before=old, after=new):
            return [changed(old, new)]
        case SwitchSeen(after=said):
            return [f"the provider says that it {words(said)}"] if verbose else []
        case Disagrees(how=how):
            return [
                f"the provider {how}: that is not what is wanted here" if how else "the provider lets in what is wanted"
            ]
        case OpeningUnused():
            return [unused_words(notice)]
        case MtuLowered(before=before, after=after):
            return [f"packets of more than {after} bytes do not get through the tunnel: MTU {after}, not {before}"]
        case GatewayReset(cause=cause):
            return [f"the gateway lost its mappings, they are asked for again ({cause})"]
        case ExitDiffers(gateway=gateway, seen=seen):
            return [
                f"problem: the gateway says {gateway}, but the internet sees {seen}: ports may be closed from outside"
            ]
        case ProblemNoticed(problem=problem):
            return _trouble(problem)
        case ProblemOver(problem=problem):
            return [f"over after {problem.times}: {problem.doing}"]


def _phase(notice: PhaseChanged) -> str:
    said = _PHASES_BY_LOCK.get((notice.lock, notice.after)) or _PHASES.get(notice.after, str(notice.after))
    if (notice.before, notice.after) == (Phase.READY, Phase.LEASING):
        said = _NO_LONGER_READY
    elif notice.after is Phase.STOPPED and notice.cause:
        said = _LEFT_BEHIND
    return said + (f" ({notice.cause})" if notice.cause else "")


def _trouble(problem: Problem) -> list[str]:
    again = "" if problem.retry_at is not None else "; it is not tried again"
    if problem.retry_at is not None and problem.kind in {FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED}:
        again = "; it goes on by itself once that is mended"
    lines = [f"problem: {_of(problem)}{again}"]
    return [*lines, f"  hint: {problem.hint}"] if problem.hint else lines


def _of(problem: Problem) -> str:
    return f"{problem.doing}: {problem.message}"


def _reached(state: State, proven: dict[str, int]) -> list[str]:
    """The last link of the chain is seen, not decided, so it has no notice of its own."""
    lines = []
    for forward in state.forwards:
        if forward.lease is None or not forward.proofs.reachable.ok:
            continue
        if proven.get(forward.spec.name) != forward.lease.external_port:
            proven[forward.spec.name] = forward.lease.external_port
            lines.append(f"{forward.spec.name}: proven from outside: {forward.proofs.reachable.evidence}")
    return lines


def _hour(at: float, offset: float) -> str:
    return (time_of(at, offset) or "")[11:19]


def _dump(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
