"""What the engine remembers of one profile, all of it frozen; and what of it people may see."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from vpnpf.core.schedule import Timing
from vpnpf.events import Work
from vpnpf.model import (
    FirewallPolicy,
    FirewallReading,
    Forward,
    ForwardSpec,
    Lease,
    ListeningSocket,
    ListenSettings,
    Phase,
    Problem,
    ProfileSpec,
    Proofs,
    Protocol,
    State,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)


class Job(Struct, frozen=True):
    """Bookkeeping of one key of work: at most one attempt under way."""

    generation: int = 0
    """Of the last attempt; an answer with another one is stale."""
    running: str = ""
    """Class name of the work under way; empty: none."""
    last: Work | None = None
    """The last work; only the same again has to wait for `not_before`."""
    failed: str = ""
    """Class name of the work that failed last; empty: none since the last success."""
    failures: int = 0
    """Of that work, in a row."""
    not_before: float = 0.0
    """Earliest next attempt; infinite: only after something changed."""
    problem: Problem | None = None


class ForwardState(Struct, frozen=True):
    """A forward with all that was seen of it."""

    spec: ForwardSpec
    lease: Lease | None = None
    """Held now; everything is made to follow its port."""
    replaced: Lease | None = None
    """The lease before a change of port; stays open until the new port is followed everywhere."""
    wish: Lease | None = None
    """Held last, perhaps before a restart; its port is asked for again."""
    leased_at: float = 0.0
    """Since when the port is what it is."""
    leased_for: int = 0
    """Tunnel number at which the lease was last confirmed: another tunnel may lead to another gateway."""
    renew_at: float | None = None
    released: bool = False
    """Whether the lease was given back (or that was tried) while stopping."""
    settings: ListenSettings | None = None
    """The torrent client's settings as read back last."""
    settings_at: float = 0.0
    settings_for: int = 0
    """Tunnel number at which they were set: a client keeps dead sockets when a tunnel is made anew."""
    sockets: tuple[ListeningSocket, ...] | None = None
    sockets_at: float = 0.0
    hits_before: Mapping[Protocol, int] | None = None
    """Inbound packets counted by the first reading of a rule set that has the port; None: there was none yet.

    The counter belongs to the forward, not to the port: what it had counted by then may have come in on another.
    """
    announced: Lease | None = None
    """The lease that was last told to the outside."""
    proofs: Proofs = field(default_factory=Proofs)

    @property
    def listen_port(self) -> int | None:
        """The port that the local program listens on: fixed by the person, otherwise the external one."""
        if self.spec.internal_port is not None:
            return self.spec.internal_port
        return self.lease.external_port if self.lease else None


class Machine(Struct, frozen=True):
    """The engine's whole memory of a profile."""

    spec: ProfileSpec
    plan: TunnelPlan
    forwards: tuple[ForwardState, ...]
    timing: Timing = field(default_factory=Timing)
    planned: bool = True
    """Whether `plan` was made since the tunnel was lost or did not start."""
    stopping: bool = False
    force: bool = False
    phase: Phase = Phase.STARTING
    phase_since: float = 0.0
    tunnel: Tunnel | None = None
    tunnel_number: int = 0
    """Counts the times the tunnel came up."""
    tunnel_gone: bool = False
    """Whether it was taken down while stopping."""
    firewall_gone: bool = False
    """Whether our rules were taken away while stopping."""
    health: TunnelHealth | None = None
    health_at: float = 0.0
    applied: FirewallPolicy | None = None
    """The rule set that the kernel has, as read back when it was applied."""
    reading: FirewallReading | None = None
    reading_at: float = 0.0
    saved: tuple[tuple[str, Lease], ...] = ()
    jobs: Mapping[str, Job] = field(default_factory=lambda: MappingProxyType({}))
    generation: int = 0
    wake_at: float | None = None
    """When the next Tick is wanted at the latest; always later than the step that set it."""

    def job(self, key: str) -> Job:
        """The bookkeeping of a key."""
        return self.jobs.get(key, Job())


def initial(
    spec: ProfileSpec,
    plan: TunnelPlan,
    now: float,
    wishes: Mapping[str, Lease] | None = None,
    timing: Timing | None = None,
) -> Machine:
    """Where a profile starts; `wishes` are the leases held last, by forward."""
    known = wishes or {}
    forwards = tuple(ForwardState(forward, wish=known.get(forward.name)) for forward in spec.forwards)
    return Machine(spec, plan, forwards, timing or Timing(), phase_since=now)


def without(machine: Machine, key: str) -> Machine:
    """The machine with nothing under way or remembered of a key; its generation stays spent."""
    return replace(machine, jobs=MappingProxyType({k: job for k, job in machine.jobs.items() if k != key}))


def view(machine: Machine) -> State:
    """What observers may know."""
    return State(
        profile=machine.spec.name,
        provider=machine.spec.provider,
        phase=machine.phase,
        phase_since=machine.phase_since,
        tunnel=machine.tunnel,
        health=machine.health,
        policy=machine.spec.policy,
        firewall=machine.applied.stage if machine.applied else None,
        forwards=tuple(
            Forward(
                spec=forward.spec,
                lease=forward.lease,
                listen_port=forward.listen_port if forward.lease else None,
                renew_at=forward.renew_at,
                announced=forward.announced is not None,
                proofs=forward.proofs,
            )
            for forward in machine.forwards
        ),
        problems=tuple(job.problem for _, job in sorted(machine.jobs.items()) if job.problem),
    )
