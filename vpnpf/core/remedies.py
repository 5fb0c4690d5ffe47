"""The ladder: what is tried next against a failure that goes on, within budgets. Pure.

    retry -> re-map -> re-key in place -> next server -> restart the tunnel -> tell the person

One rung is taken for each further failure, so the waits between the tries (schedule.py) are the waits between the rungs.
While a lease is held nothing is done that could cost it: a failed renewal never takes a working tunnel down. Each
rung has a budget; when all are used up the circuit is open: the person was told, and for an hour nothing is done but
the same again, which is cheap and gives the port within a minute once the gateway is well.
A failure of login or of configuration is not tried again by any of this; another server may be another matter.
"""

from __future__ import annotations

from msgspec import Struct

from vpnpf.core.state import ForwardState, Machine, Taken, exit_problem
from vpnpf.model import FailureKind, Problem, Remedy

TRIES = 3
"""Failures in a row before anything but the same again is tried."""
STARTS = 2
"""Starts of a tunnel that may fail before the next server has its turn."""
BUDGET_TIME = 3600.0
"""Seconds after which what was tried may be tried again for the same trouble."""
_BUDGETS = {Remedy.REMAP: 1, Remedy.REKEY: 1, Remedy.RESTART: 1, Remedy.TELL: 1}
"""How often in that time; the next server: as many as there are others."""
_COSTLY = frozenset({Remedy.NEXT_SERVER, Remedy.RESTART})
"""Rungs that take a tunnel down."""
_GAPS = {Remedy.REKEY: 60.0}
"""Seconds between two of them, whatever they are for."""
HOPELESS = frozenset({FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED})
"""Kinds of failure that do not pass by themselves."""


class Step(Struct, frozen=True):
    """A rung to be taken now."""

    remedy: Remedy
    cause: str
    forward: str = ""


def for_lease(machine: Machine, forward: ForwardState, now: float, *, elsewhere: bool = True) -> Step | None:
    """What to do about a lease that could not be got or renewed just now; None: only try again when it is due.

    `elsewhere`: whether another server may be better, or anything else than to wait.
    """
    name = forward.spec.name
    job = machine.job(f"lease:{name}")
    problem = job.problem
    if problem is None or machine.tunnel is None or job.failed != "Acquire":
        return None
    if machine.rekey_due:
        return None  # nobody can answer before the server does, and what becomes of the tunnel is decided by that
    if not elsewhere:
        rungs: tuple[Remedy, ...] = (Remedy.TELL,) if forward.lease is None else ()
    elif forward.lease is None and problem.kind in HOPELESS:
        rungs = (Remedy.NEXT_SERVER, Remedy.TELL)
    elif job.failures < TRIES:
        return None
    elif forward.lease is not None:
        rungs = (Remedy.REKEY,)
    else:
        rungs = (Remedy.REMAP, Remedy.REKEY, Remedy.NEXT_SERVER, Remedy.RESTART, Remedy.TELL)
    if not machine.remaps:
        rungs = tuple(remedy for remedy in rungs if remedy is not Remedy.REMAP)
    if any(other.lease is not None for other in machine.forwards):
        # What one forward lacks must not cost another what it has.
        rungs = tuple(remedy for remedy in rungs if remedy not in _COSTLY)
    return _first(machine, rungs, problem, name, now)


def for_tunnel(machine: Machine, now: float, *, elsewhere: bool = True) -> Step | None:
    """What to do about a tunnel that did not come up just now; `elsewhere`: whether another server may be better."""
    job = machine.job("tunnel")
    problem = job.problem
    if problem is None or job.failed not in {"PlanTunnel", "StartTunnel"}:
        return None
    if problem.kind in HOPELESS:
        # Each of the others once: a login that is refused is not to be tried all day.
        return _first(machine, (Remedy.NEXT_SERVER, Remedy.TELL) if elsewhere else (Remedy.TELL,), problem, "", now)
    if elsewhere and machine.servers > 1 and job.failures % STARTS == 0:
        # Without end, since none of them costs anything that is held.
        return Step(Remedy.NEXT_SERVER, said(problem))
    if job.failures >= STARTS * machine.servers:
        return _first(machine, (Remedy.TELL,), problem, "", now)
    return None


def for_exit(machine: Machine, now: float) -> Step | None:
    """What to do if the internet sees another address than the gateway says: move on, if there is where to.

    Not if somebody has come in all the same: then the port is open where it was announced.
    """
    problem = exit_problem(machine)
    if problem is None or any(forward.proofs.reachable.ok for forward in machine.forwards):
        return None
    return _first(machine, (Remedy.NEXT_SERVER,), problem, "", now)


def said(problem: Problem) -> str:
    """A problem as the cause of a step."""
    return f"{problem.doing}: {problem.message}"


def _first(machine: Machine, rungs: tuple[Remedy, ...], problem: Problem, forward: str, now: float) -> Step | None:
    for remedy in rungs:
        if _allowed(machine, remedy, problem, forward, now):
            return Step(remedy, said(problem), forward)
    return None


def _allowed(machine: Machine, remedy: Remedy, problem: Problem, forward: str, now: float) -> bool:
    budget = machine.servers - 1 if remedy is Remedy.NEXT_SERVER else _BUDGETS[remedy]
    since = max(problem.since, now - BUDGET_TIME)
    same = [taken for taken in machine.taken if taken.remedy is remedy]
    used = sum(taken.forward == forward and taken.at >= since for taken in same)
    gap = _GAPS.get(remedy, 0.0)
    return used < budget and not any(now - taken.at < gap for taken in same)


KEPT = 32
"""Rungs that are remembered."""


def noted(taken: tuple[Taken, ...], step: Step, now: float) -> tuple[Taken, ...]:
    """The memory of rungs with one more."""
    return (*taken, Taken(step.remedy, now, step.forward))[-KEPT:]
