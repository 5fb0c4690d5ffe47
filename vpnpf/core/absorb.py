"""Learning a fact: what an event changes in the engine's memory. Decides nothing about what to do next."""

from __future__ import annotations

import math
from types import MappingProxyType

from msgspec.structs import replace

from vpnpf.core.policy import stands
from vpnpf.core.proofs import count
from vpnpf.core.schedule import HANDSHAKE_DEAD, SOONEST_RETRY, backoff, renew_at, retry_renewal
from vpnpf.core.state import ForwardState, Job, Machine
from vpnpf.events import (
    Answer,
    ClientSeen,
    Event,
    FirewallApplied,
    FirewallRead,
    FirewallRemoved,
    LeaseGranted,
    LeaseReleased,
    LeaseRenewed,
    LeasesSaved,
    Notice,
    PortGranted,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    SocketsSeen,
    StopRequested,
    Tick,
    TunnelCameUp,
    TunnelPlanned,
    TunnelSeen,
    TunnelStopped,
    WorkFailed,
)
from vpnpf.model import FailureKind, FirewallReading, Problem, Proof, Proofs

TUNNEL_LOOKS = 3
"""Looks at a tunnel that may fail in a row before it counts as lost; one may fail because the machine is busy."""
STOP_TRIES = 3
"""Tries to undo something while stopping, before it is left and said; one if it is forced."""
STOP_AGAIN = 1.0
"""Seconds between those tries, whatever the failure says: nobody waits minutes for an end."""
LOOKS = frozenset({"PlanTunnel", "CheckTunnel", "ReadFirewall", "ReadClient", "ReadSockets"})
"""Work that changes nothing: its success says nothing about a change that failed under the same key."""
LEASE_AGAIN, ANYTHING_AGAIN = 40.0, 60.0
"""Seconds, the longest wait between tries, less or more a tenth: a gateway that is well again gives the port within
a minute, the try that was under way included."""
AGAIN_LATER = 60.0
"""Seconds until a look that was refused is tried again, or a torrent client; its driver does not repeat a wrong
password."""


class Absorber:
    """One event on its way into the memory."""

    def __init__(self, machine: Machine, now: float) -> None:
        self.machine = machine
        self.now = now
        self.notices: list[Notice] = []

    def absorb(self, event: Event) -> None:
        """Take the event in. An answer of an older generation changes nothing."""
        match event:
            case Tick():
                pass
            case StopRequested(force):
                self._set(stopping=True, force=self.machine.force or force)
            case _:
                job = self.machine.job(event.key)
                if event.generation != job.generation or not job.running:
                    return
                if isinstance(event, WorkFailed):
                    self._failed(event, job)
                else:
                    self._succeeded(event, job)
        self._expire()

    # -- answers --------------------------------------------------------------------------------

    def _succeeded(self, event: Answer, job: Job) -> None:  # noqa: C901 - one flat table of answers
        if isinstance(event, LeaseGranted) and _ended(event.lease.expires_at, self.now):
            cause = "it had ended before it arrived"
            late = WorkFailed(event.generation, event.key, FailureKind.TRANSIENT, "taking a lease", cause)
            self._failed(late, job)
            return
        if job.running in LOOKS and job.failed not in {"", job.running}:
            self._set_job(event.key, replace(job, running="", not_before=0.0))
        else:
            if job.problem is not None:
                self.notices.append(ProblemOver(job.problem))
            self._set_job(event.key, replace(job, running="", failed="", failures=0, not_before=0.0, problem=None))
        match event:
            case FirewallApplied(policy=policy, reading=reading):
                self._set(applied=policy)
                self._read(reading)
            case FirewallRead(reading=reading):
                self._read(reading)
            case FirewallRemoved():
                self._set(applied=None, reading=None, reading_at=self.now, firewall_gone=True)
            case TunnelPlanned(plan=plan):
                self._set(plan=plan, planned=True)
            case TunnelCameUp(tunnel=tunnel, health=health):
                number = self.machine.tunnel_number + 1
                self._set(tunnel=tunnel, tunnel_number=number, health=health, health_at=self.now)
            case TunnelSeen(health=health):
                # After a suspend the tunnel is given until the next look: it shakes hands anew when something is sent.
                awake = self.now - self.machine.health_at <= HANDSHAKE_DEAD
                self._set(health=health, health_at=self.now)
                if awake and (health.handshake_age is None or health.handshake_age > HANDSHAKE_DEAD):
                    self._tunnel_lost()
            case TunnelStopped():
                self._stopped()
            case LeaseGranted():
                self._granted(event)
            case LeaseReleased(forward=name):
                self._forward(name, released=True)
            case ClientSeen(forward=name, settings=settings):
                number = self.machine.tunnel_number if event.set else self._of(name).settings_for
                self._forward(name, settings=settings, settings_at=self.now, settings_for=number)
            case SocketsSeen(forward=name, sockets=sockets):
                self._forward(name, sockets=sockets, sockets_at=self.now)
            case LeasesSaved(leases=leases):
                self._set(saved=leases)
            case WorkFailed():  # handled apart
                pass

    def _granted(self, event: LeaseGranted) -> None:
        forward, lease = self._of(event.forward), event.lease
        held = forward.lease
        number = self.machine.tunnel_number
        if held is not None and (held.external_port, held.internal_port) == (lease.external_port, lease.internal_port):
            self._forward(event.forward, lease=lease, wish=lease, leased_for=number, renew_at=renew_at(lease, self.now))
            self.notices.append(LeaseRenewed(event.forward, lease))
            return
        self._forward(
            event.forward,
            lease=lease,
            # After two changes in a row the first port is the one that the client still listens on.
            replaced=forward.replaced or held,
            wish=lease,
            leased_at=self.now,
            leased_for=number,
            renew_at=renew_at(lease, self.now),
            released=False,
            sockets=None,
            hits_before=None,
            # What was proven was proven of another port.
            proofs=Proofs(tunnel=forward.proofs.tunnel),
        )
        self.notices.append(PortGranted(event.forward, lease, held.external_port if held else None))

    def _failed(self, event: WorkFailed, job: Job) -> None:
        failures = job.failures + 1 if job.failed == job.running else 1
        wait = self._wait(event, job.running, failures)
        retry_at = None if math.isinf(wait) else self.now + wait
        before = job.problem
        new = before is None or (before.kind, before.message) != (event.kind, event.cause)
        problem = Problem(
            doing=event.doing,
            kind=event.kind,
            message=event.cause,
            hint=event.hint,
            since=before.since if before else self.now,
            failures=failures,
            retry_at=retry_at,
        )
        if new:
            self.notices.append(ProblemNoticed(problem))
        self._set_job(
            event.key,
            replace(
                job,
                running="",
                failed=job.running,
                failures=failures,
                not_before=self.now + wait,
                problem=problem,
            ),
        )
        kind, _, name = event.key.partition(":")
        enough = 1 if self.machine.force else STOP_TRIES
        if kind == "lease" and self.machine.stopping:
            self._forward(name, released=True)
        elif kind == "lease" and event.kind is FailureKind.LEASE_LOST:
            self._drop(self._of(name), event.cause)
        elif job.running == "StopTunnel" and failures >= enough:
            self._set(tunnel_gone=True)
        elif job.running == "RemoveFirewall" and failures >= enough:
            self._set(firewall_gone=True)
        elif job.running == "CheckTunnel":
            gone = event.kind is FailureKind.LEASE_LOST
            if gone or failures >= TUNNEL_LOOKS:
                self._tunnel_lost()
        elif job.running == "StartTunnel":
            # The server may have moved, or another of its addresses has its turn.
            self._set(planned=False)

    def _wait(self, event: WorkFailed, running: str, failures: int) -> float:  # noqa: PLR0911 - one rule a line
        """Seconds until the same is tried again."""
        kind, _, name = event.key.partition(":")
        if self.machine.stopping:
            return STOP_AGAIN
        if running == "CheckTunnel":
            return self.machine.timing.tunnel / TUNNEL_LOOKS
        if event.retry_after is not None:
            return max(SOONEST_RETRY, event.retry_after)
        if event.kind in {FailureKind.MISCONFIGURED, FailureKind.UNSUPPORTED}:
            return AGAIN_LATER if kind == "client" or running in LOOKS - {"PlanTunnel"} else math.inf
        if event.kind is FailureKind.LEASE_LOST and failures == 1:
            return 0.0
        longest = LEASE_AGAIN if kind == "lease" else ANYTHING_AGAIN
        wait = backoff(failures, f"{self.machine.spec.name}/{event.key}", longest=longest)
        if kind == "lease":
            lease = self._of(name).lease
            return retry_renewal(lease, wait, self.now) if lease else wait
        return wait

    def _read(self, reading: FirewallReading) -> None:
        """The rule set as it is; the first reading of one that has a forward's port is what its hits count from."""
        self._set(reading=reading, reading_at=self.now)
        if self.machine.tunnel is None:
            return
        for forward in self.machine.forwards:
            if forward.hits_before is None and reading.intact and stands(self.machine, forward, self.now):
                hits = {protocol: hits.packets for protocol, hits in count(self.machine, forward.spec.name).items()}
                self._forward(forward.spec.name, hits_before=MappingProxyType(hits))

    # -- losses ---------------------------------------------------------------------------------

    def _tunnel_lost(self) -> None:
        """Forget what depended on the tunnel; leases are kept until they end, and renewed once it is back."""
        jobs = {key: replace(job, running="", not_before=0.0) for key, job in self.machine.jobs.items() if ":" in key}
        self._set(tunnel=None, health=None, planned=False, jobs=MappingProxyType({**self.machine.jobs, **jobs}))
        for forward in self.machine.forwards:
            # What came in through that tunnel proves nothing of the next.
            proofs = replace(forward.proofs, reachable=Proof())
            self._forward(forward.spec.name, replaced=None, sockets=None, hits_before=None, proofs=proofs)
            if forward.lease is not None:
                self._forward(forward.spec.name, renew_at=self.now)

    def _stopped(self) -> None:
        """Without the tunnel nothing is held any more that anybody could reach; it stays a wish for the next start."""
        self._set(tunnel=None, health=None, tunnel_gone=True)
        for forward in self.machine.forwards:
            self._forward(forward.spec.name, lease=None, replaced=None, renew_at=None, sockets=None, announced=None)

    def _expire(self) -> None:
        for forward in self.machine.forwards:
            if forward.replaced is not None and _ended(forward.replaced.expires_at, self.now):
                self._forward(forward.spec.name, replaced=None)
            if forward.lease is not None and _ended(forward.lease.expires_at, self.now):
                self._drop(self._of(forward.spec.name), "the lease ran out before it could be renewed")

    def _drop(self, forward: ForwardState, cause: str) -> None:
        if forward.announced is not None:
            self.notices.append(PortLost(forward.spec.name, forward.announced.external_port, cause))
        self._forward(
            forward.spec.name,
            lease=None,
            replaced=None,
            wish=forward.lease or forward.wish,
            renew_at=None,
            sockets=None,
            announced=None,
        )

    # -- memory ---------------------------------------------------------------------------------

    def _of(self, name: str) -> ForwardState:
        return next(forward for forward in self.machine.forwards if forward.spec.name == name)

    def _forward(self, name: str, **changes: object) -> None:
        forwards = tuple(replace(f, **changes) if f.spec.name == name else f for f in self.machine.forwards)
        self._set(forwards=forwards)

    def _set(self, **changes: object) -> None:
        self.machine = replace(self.machine, **changes)

    def _set_job(self, key: str, job: Job) -> None:
        self._set(jobs=MappingProxyType({**self.machine.jobs, key: job}))


def _ended(at: float | None, now: float) -> bool:
    return at is not None and at <= now
