"""What happens, in the words of a person who reads along. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable

from vpnpf.core.policy_words import changed
from vpnpf.core.readiness import ready_words
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
from vpnpf.model import FailureKind, LockMode, Phase, Problem, Remedy

_JUST_NOW = 10.0
"""Seconds for which a problem that was told is not told again as the cause of what follows."""
_PHASES = {
    Phase.CONNECTING: "connecting: nothing leaves but the tunnel's own packets",
    Phase.LEASING: "the tunnel is up, asking for the port",
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
_NO_LONGER_READY = "not READY for the moment"
_LEFT_BEHIND = "stopped, but not everything could be put back"
_REMEDIES = {
    Remedy.RETRY: "trying the same again",
    Remedy.REMAP: "asking for the port as if none were held",
    Remedy.REKEY: "shaking hands anew, in place",
    Remedy.RESTART: "taking the tunnel down and up",
    Remedy.NEXT_SERVER: "going to the next server",
    Remedy.TELL: "nothing is left to be tried but the same, slowly: this needs you",
}


class Telling:
    """What was told to one reader, so that nothing is told twice. Times are in seconds, on any clock."""

    def __init__(self) -> None:
        self._proven: dict[str, int] = {}
        self._place = ""
        self._trouble, self._trouble_at = "", -math.inf

    def notice(self, lines: Iterable[str], at: float, problem: str | None = None) -> list[str]:
        """A notice's lines without the cause that was just told; `problem`: what it tells of, if that is a problem."""
        said_already = self._trouble if at - self._trouble_at < _JUST_NOW else ""
        found = [line.removesuffix(said_already) for line in lines]
        if problem is not None:
            # What is done about a problem has it as its cause, and follows at once.
            self._trouble, self._trouble_at = f" ({problem})", at
        return found

    def place(self, place: str) -> list[str]:
        """Where the tunnel goes, if that is news."""
        if place in {"", self._place}:
            return []
        self._place = place
        return [f"the tunnel goes to {place}"]

    def reached(self, forward: str, port: int, evidence: str) -> list[str]:
        """That somebody came in by a port, once: it is seen, not decided, so it has no notice of its own."""
        if self._proven.get(forward) == port:
            return []
        self._proven[forward] = port
        return [f"{forward}: proven from outside: {evidence}"]


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
            return [f"{name + ': ' if name else ''}{wish_words(notice)} (by hand)"]
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
    elif notice.after is Phase.READY:
        said = f"READY: {ready_words(notice.ports)}"
    elif notice.after is Phase.STOPPED and notice.cause:
        said = _LEFT_BEHIND
    return said + (f" ({notice.cause})" if notice.cause else "")


def _trouble(problem: Problem) -> list[str]:
    again = "" if problem.retry_at is not None else "; it is not tried again"
    if problem.retry_at is not None and problem.kind in {FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED}:
        again = "; it goes on by itself once that is mended"
    lines = [f"problem: {of_problem(problem)}{again}"]
    return [*lines, f"  hint: {problem.hint}"] if problem.hint else lines


def of_problem(problem: Problem) -> str:
    """What it is about, as it stands in the causes of what is done about it."""
    return f"{problem.doing}: {problem.message}"
