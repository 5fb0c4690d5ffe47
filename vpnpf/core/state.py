"""What the engine remembers of one profile, all of it frozen; and what of it people may see."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct, field
from msgspec.structs import replace

from vpnpf.core.schedule import EXIT_AGAIN, Timing
from vpnpf.core.unused import Watch, known, left_open
from vpnpf.events import Work
from vpnpf.model import (
    Entry,
    FailureKind,
    FirewallPolicy,
    FirewallReading,
    ForwardSpec,
    Lease,
    ListeningSocket,
    ListenSettings,
    Peer,
    Phase,
    PortPolicy,
    Problem,
    ProfileSpec,
    Proofs,
    Protocol,
    ProviderPolicy,
    Remedy,
    Server,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
    Use,
)
from vpnpf.protocol.epoch import Epoch


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


class Taken(Struct, frozen=True):
    """A rung of the ladder that was taken."""

    remedy: Remedy
    at: float
    forward: str = ""
    """Whose trouble it was for; empty: the tunnel's."""


class PortTest(Struct, frozen=True):
    """What a torrent client said of its port, after having it knocked on from the internet."""

    times: int = 0
    """How often it was asked, of this port."""
    at: float = -math.inf
    open: bool | None = None
    """What it said last; None: nothing."""


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
    unwanted: bool = False
    """Whether the lease is to be given back for another port."""
    renew_asked: float = -math.inf
    """When the person asked for the port again last."""
    port_asked: float = -math.inf
    """When the person asked for another port last."""
    settings: ListenSettings | None = None
    """The torrent client's settings as read back last."""
    settings_at: float = 0.0
    settings_for: int = 0
    """Tunnel number at which they were set: a client keeps dead sockets when a tunnel is made anew."""
    sockets: tuple[ListeningSocket, ...] | None = None
    sockets_at: float = 0.0
    peers: tuple[Peer, ...] = ()
    """The last that were seen on the port, newest first."""
    present: frozenset[tuple[str, int]] = frozenset()
    """Address and port of all that were there at the last look: who stays is not new."""
    tested: PortTest = PortTest()
    hits_before: Mapping[Protocol, int] | None = None
    """Inbound packets counted by the first reading of a rule set that has the port; None: there was none yet.

    The counter belongs to the forward, not to the port: what it had counted by then may have come in on another.
    """
    packets: int = 0
    """Those counted on the port after that first reading, through any tunnel."""
    packets_at: float | None = None
    """When they were last seen to have become more."""
    counter: int = 0
    """What the counter said last."""
    announced: Lease | None = None
    """The lease that was last told to the outside."""
    proofs: Proofs = field(default_factory=Proofs)

    @property
    def listen_port(self) -> int | None:
        """The port that the local program listens on: fixed by the person, otherwise the external one."""
        if self.spec.internal_port is not None:
            return self.spec.internal_port
        return self.lease.external_port if self.lease else None


class SwitchState(Struct, frozen=True):
    """What is known of the provider's own switch."""

    seen: ProviderPolicy | None = None
    """What it said last."""
    seen_at: float = -math.inf
    seen_for: int = 0
    """Tunnel number through which it said so: another server may have another switch."""
    told: ProviderPolicy | None = None
    """What it was set to last, until it says so itself."""
    told_at: float = -math.inf
    differs: str = ""
    """How what it said differs from what is wanted, in words after "the provider"; empty: it does not."""


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
    closed: bool = False
    """Whether another engine follows this one, and nothing is to leave in between."""
    phase: Phase = Phase.STARTING
    phase_since: float = 0.0
    phase_cause: str = ""
    tunnel: Tunnel | None = None
    tunnel_number: int = 0
    """Counts the times the tunnel came up."""
    server: int = 0
    """Which of the profile's servers is gone to, from 0."""
    servers: int = 1
    """How many there are."""
    places: tuple[Server, ...] = ()
    """What is known of each."""
    server_asked: float = -math.inf
    """When the person asked for another one last."""
    rekey_due: bool = False
    """Whether the tunnel is to shake hands anew, in place."""
    silent_since: float | None = None
    """Since when the server has given no sign although it was asked for one; None: it answers, as far as is known."""
    offline_at: float = -math.inf
    """When this machine was last found to have no way out itself."""
    watched: bool = False
    """Whether somebody tells when the tunnel or the rule set wants to be looked at before its time."""
    tunnel_stirred: bool = False
    """Whether the tunnel is to be looked at now."""
    firewall_stirred: bool = False
    """Whether the rule set is to be read now."""
    stirred_at: float = -math.inf
    """When it was told so last of the tunnel."""
    mtu_for: int = 0
    """Tunnel number for which the MTU was fitted, or that was tried."""
    taken: tuple[Taken, ...] = ()
    """The last rungs of the ladder, oldest first."""
    held: Mapping[str, Mapping[str, Lease]] = {}
    """Leases held before, by the identity of the tunnel that they were got through, and by forward."""
    epoch: Epoch | None = None
    """The gateway's, as last said."""
    reset_at: float | None = None
    """When everything was asked for again last because the gateway had lost its mappings."""
    announces: bool = False
    """Whether the gateway tells everybody when it restarts."""
    heard_at: float = -math.inf
    exit_check: bool = False
    """Whether there is somebody to ask which address the internet sees."""
    exit_seen: str | None = None
    """What he said last."""
    exit_at: float = -math.inf
    exit_since: float = 0.0
    """Since when he says that."""
    exit_differs: str = ""
    """The gateway's address that differs from it; empty: none does."""
    remaps: bool = True
    """Whether asking as if nothing had been held can help; not where that would give away a port that can be had again."""
    fixed: bool = False
    """Whether the ports are set on the provider's site, so that no other can be asked for."""
    switchable: bool = False
    """Whether the provider has a port policy of its own."""
    switch: SwitchState = field(default_factory=SwitchState)
    timeline: tuple[Entry, ...] = ()
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
    inbound: PortPolicy | None = None
    """The port policy without the openings that were closed because nobody used them; None: nothing was."""
    watch: Watch = Watch()
    """What is known of the use of all that is open."""
    uses_saved: Mapping[str, Use] = MappingProxyType({})
    """As the store has them."""
    uses_due: bool = False
    """Whether they are to be saved now."""
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
    held: Mapping[str, Mapping[str, Lease]] | None = None,
    timing: Timing | None = None,
    *,
    servers: int = 1,
    announces: bool = False,
    exit_check: bool = False,
    watched: bool = False,
    switchable: bool = False,
    remaps: bool = True,
    fixed: bool = False,
    uses: tuple[Use, ...] = (),
) -> Machine:
    """Where a profile starts; `held` are the leases held before, by identity (the newest last) and forward.

    `uses`: how its openings were used before.
    """
    before = held or {}
    wishes = wishes_for(before, plan.identity)
    watch = known(uses, spec.policy, spec.forwards)
    return Machine(
        spec,
        plan,
        tuple(ForwardState(forward, wish=wishes.get(forward.name)) for forward in spec.forwards),
        timing or Timing(),
        phase_since=now,
        server=plan.server,
        servers=servers,
        places=placed(tuple(Server(n + 1) for n in range(servers)), plan),
        held=before,
        announces=announces,
        exit_check=exit_check,
        watched=watched,
        switchable=switchable,
        remaps=remaps,
        fixed=fixed,
        inbound=left_open(spec.policy, watch.uses),
        watch=watch,
        uses_saved=MappingProxyType({use.what: use for use in uses}),
    )


def wishes_for(held: Mapping[str, Mapping[str, Lease]], identity: str) -> dict[str, Lease]:
    """What to ask for through a tunnel: what was held through it, else the ports held last through any other."""
    found: dict[str, Lease] = {}
    for name, leases in held.items():
        if name != identity:
            found |= {forward: port_of(lease) for forward, lease in leases.items()}
    return {**found, **held.get(identity, {})}


def placed(servers: tuple[Server, ...], plan: TunnelPlan) -> tuple[Server, ...]:
    """What is known of the servers once a tunnel is planned to one of them."""
    known = Server(plan.server + 1, plan.place or None, None if plan.direct else plan.endpoint)
    return tuple(known if server.number == known.number else server for server in servers)


def port_of(lease: Lease) -> Lease:
    """The port alone, for a gateway that knows nothing of the lease."""
    port = lease.external_port
    return Lease(port, lease.internal_port, lease.protocols, granted_at=0.0, lifetime=0.0)


def without(machine: Machine, key: str) -> Machine:
    """The machine with nothing under way or remembered of a key; its generation stays spent."""
    return replace(machine, jobs=MappingProxyType({k: job for k, job in machine.jobs.items() if k != key}))


def heard(machine: Machine) -> bool:
    """Whether the provider's switch was read through the tunnel that stands."""
    return machine.tunnel is not None and machine.switch.seen_for == machine.tunnel_number


def exit_problem(machine: Machine) -> Problem | None:
    """That the internet sees another address than the gateway says; None: it does not, as far as is known."""
    if not machine.exit_differs:
        return None
    message = f"the gateway says {machine.exit_differs}, but the internet sees {machine.exit_seen}"
    hint = "ports that are open at the one may be closed at the other: choose another server"
    doing = "comparing exit addresses"
    again = machine.exit_at + EXIT_AGAIN
    return Problem(doing, FailureKind.TRANSIENT, message, hint, machine.exit_since, retry_at=again)
