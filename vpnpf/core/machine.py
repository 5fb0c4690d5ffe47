"""The engine's one decision function: `step(machine, event, now) -> (machine, orders, notices)`.

How a profile lives. The rule set comes first: nothing is started before the kernel has confirmed the one
that belongs to the state (policy.py says which). Then the tunnel is brought up, the rule set for a standing
tunnel replaces the first, and each forward goes its way: a lease is acquired; the port is opened; the
torrent client is told and asked back; its sockets are looked for in the kernel. What holds at each link is a
proof (proofs.py). Once everything up to the socket follows, the port is announced to the outside and the
profile is READY. From then on the same comparison of what should be with what is seen, repeated, renews the
lease from half of its lifetime on and puts right whatever somebody else changed.

A changed port is no error: the new port is opened beside the old one, followed, and only then the old one is
closed. A failed renewal touches nothing else; the lease is tried for until it ends. A lost tunnel closes the
firewall first (BLOCKED), keeps the leases in mind, and is started again. Stopping goes backwards: leases,
tunnel, rules.

Four steps, each in a module of its own:

    absorb.py   learn the fact; drop it if it is stale
    proofs.py   what holds now?
    settle()    announce, forget the old port, name the phase
    planner.py  ask for the difference between what should be and what is

The function is pure: time comes in, orders go out, so that months can be replayed in seconds. After a step
`machine.wake_at` is None or later than `now`.

    STARTING --> CONNECTING --> LEASING <--> READY
                     ^            |            |
                     |            v            v
                     +-------- BLOCKED <-------+         FAILED: nothing is left that could be tried
    any --> STOPPING --> STOPPED
"""

from __future__ import annotations

from msgspec.structs import replace

from vpnpf.core.absorb import Absorber
from vpnpf.core.planner import Planner
from vpnpf.core.policy import guarded, intact, stands, stays_closed
from vpnpf.core.proofs import followed, prove
from vpnpf.core.remedies import HOPELESS
from vpnpf.core.state import ForwardState, Machine
from vpnpf.core.switch import compared
from vpnpf.core.timeline import entry_of, extended
from vpnpf.events import Event, Notice, Order, PhaseChanged, PortAnnounced, Tick
from vpnpf.model import PROOF_NAMES, LockMode, Phase, Problem, Proof


def step(machine: Machine, event: Event, now: float) -> tuple[Machine, tuple[Order, ...], tuple[Notice, ...]]:
    """Take one event in and decide. Never raises for any event; `now` is in seconds on CLOCK_BOOTTIME."""
    absorber = Absorber(machine, now)
    absorber.absorb(event)
    switch, said = compared(absorber.machine, machine.switch, now)
    machine, settled = settle(replace(absorber.machine, switch=switch), now)
    notices = (*absorber.notices, *said, *settled)
    if notices:
        entries = (entry_of(notice, now) for notice in notices)
        timeline = extended(machine.timeline, (entry for entry in entries if entry is not None))
        machine = replace(machine, timeline=timeline)
    planner = Planner(machine, now)
    return planner.plan(), tuple(planner.orders), notices


def start(machine: Machine, now: float) -> tuple[Machine, tuple[Order, ...], tuple[Notice, ...]]:
    """The first step."""
    return step(machine, Tick(), now)


def settle(machine: Machine, now: float) -> tuple[Machine, tuple[Notice, ...]]:
    """Draw the conclusions that need no work: proofs, announcements, the phase."""
    notices: list[Notice] = []
    settled = []
    for forward in machine.forwards:
        proven = replace(forward, proofs=prove(machine, forward, now))
        if not machine.stopping and followed(proven) and intact(machine) and stands(machine, proven, now):
            proven, notice = _announce(proven)
            notices.extend(notice)
        settled.append(proven)
    machine = replace(machine, forwards=tuple(settled))
    phase = _phase(machine, now)
    if phase is not machine.phase:
        cause = _cause(machine, phase, now)
        lock = machine.spec.lock
        if phase is Phase.STOPPED and stays_closed(machine):
            lock = LockMode.LOCKDOWN  # as good as, until the engine that follows has its own
        ports = tuple(forward.proofs.firewall.ok is not False for forward in machine.forwards)
        notices.append(PhaseChanged(machine.phase, phase, cause, lock, ports))
        machine = replace(machine, phase=phase, phase_since=now, phase_cause=cause)
    return machine, tuple(notices)


def _announce(forward: ForwardState) -> tuple[ForwardState, tuple[Notice, ...]]:
    """Everything follows the new port: tell it, and close the old one."""
    lease, before = forward.lease, forward.announced
    assert lease is not None
    forward = replace(forward, replaced=None, announced=lease)
    if before is not None and before.external_port == lease.external_port:
        return forward, ()
    port = forward.listen_port or lease.external_port
    was = before.external_port if before else None
    return forward, (PortAnnounced(forward.spec.name, lease, port, was, forward.spec.target),)


def _phase(machine: Machine, now: float) -> Phase:  # noqa: PLR0911 - one rule a line
    if machine.stopping:
        return Phase.STOPPED if machine.tunnel_gone and machine.firewall_gone else Phase.STOPPING
    safe = guarded(machine) and intact(machine)
    if not safe and _hopeless(machine, "firewall", "ApplyFirewall"):
        return Phase.FAILED
    if machine.tunnel is None:
        if _hopeless(machine, "tunnel", "PlanTunnel", "StartTunnel"):
            return Phase.FAILED
        if machine.tunnel_number:
            return Phase.BLOCKED
        return Phase.CONNECTING if machine.applied else Phase.STARTING
    if machine.forwards and all(_unobtainable(machine, forward) for forward in machine.forwards):
        return Phase.FAILED
    if safe and all(_ready(machine, forward, now) for forward in machine.forwards):
        return Phase.READY
    return Phase.LEASING


def _ready(machine: Machine, forward: ForwardState, now: float) -> bool:
    return forward.announced is not None and followed(forward) and stands(machine, forward, now)


def _hopeless(machine: Machine, key: str, *kinds: str) -> bool:
    """Whether only the person can make work of these kinds succeed, although it may be tried again now and then."""
    job = machine.job(key)
    return job.failed in kinds and job.problem is not None and job.problem.kind in HOPELESS


def _unobtainable(machine: Machine, forward: ForwardState) -> bool:
    return forward.lease is None and _hopeless(machine, f"lease:{forward.spec.name}", "Acquire")


def _cause(machine: Machine, phase: Phase, now: float) -> str:
    """Why the phase is what it is now; empty where it goes without saying."""
    if machine.phase is Phase.READY and phase is Phase.LEASING:
        return _gone(machine, now)
    if phase is Phase.BLOCKED and machine.server_asked == now:
        return "another server was asked for"
    problems = [job.problem for key, job in machine.jobs.items() if job.problem and _blames(phase, key, job.problem)]
    if problems:
        last = max(problems, key=lambda problem: problem.since)
        return f"{last.doing}: {last.message}"
    return "the tunnel's handshake is too old: it is dead" if phase is Phase.BLOCKED else ""


def _blames(phase: Phase, key: str, problem: Problem) -> bool:
    """Whether a problem can be the cause of a phase. That of the provider's own switch never is."""
    if key == "switch":
        return False
    match phase:
        case Phase.LEASING:
            return key not in {"store", "uses"}
        case Phase.BLOCKED:
            return key == "tunnel"
        case Phase.FAILED:
            return problem.kind in HOPELESS
        case Phase.STOPPED:
            return key in {"tunnel", "firewall"}
        case _:
            return False


def _gone(machine: Machine, now: float) -> str:
    """What no longer holds of a profile that was READY."""
    if machine.reading is not None and not machine.reading.intact:
        return f"firewall: {machine.reading.evidence}"
    return "; ".join(filter(None, (_broken(machine, forward, now) for forward in machine.forwards)))


def _broken(machine: Machine, forward: ForwardState, now: float) -> str:
    """The first link that is missing of a forward that was followed; empty: none is."""
    lease, announced = forward.lease, forward.announced
    if lease is not None and announced is not None and lease.external_port != announced.external_port:
        return f"{forward.spec.name}: the new port {lease.external_port} is not open all the way yet"
    for name in PROOF_NAMES:
        proof: Proof = getattr(forward.proofs, name)
        # A port that the policy keeps shut is no link that broke.
        if proof.ok is False and not (name == "firewall" and stands(machine, forward, now)):
            return f"{forward.spec.name}: {name}: {proof.evidence}"
    return ""
