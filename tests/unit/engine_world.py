"""A world for the engine, in made-up time: it carries out orders at once, counts them, and can be made to fail.

What holds after every step, whatever happened, is checked in `World.take`; so every test is a test of that too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from msgspec.structs import replace

from vpnpf.core.machine import start, step
from vpnpf.core.phases import TRANSITIONS
from vpnpf.core.policy import guarded, policy_for
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.state import ForwardState, Machine, initial
from vpnpf.events import (
    Acquire,
    Answer,
    ApplyFirewall,
    CheckExit,
    CheckPort,
    CheckTunnel,
    ClientSeen,
    Event,
    ExitSeen,
    FirewallApplied,
    FirewallRead,
    FirewallRemoved,
    LeaseGranted,
    LeaseReleased,
    LeasesSaved,
    Notice,
    Order,
    PlanTunnel,
    PortTested,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    ReadSwitch,
    Rekey,
    Release,
    RemoveFirewall,
    SaveLeases,
    SaveUses,
    SetClient,
    SetSwitch,
    SocketsSeen,
    StartTunnel,
    StopRequested,
    StopTunnel,
    SwitchRead,
    Tick,
    TunnelCameUp,
    TunnelPlanned,
    TunnelRekeyed,
    TunnelSeen,
    TunnelStopped,
    UsesSaved,
    WorkFailed,
)
from vpnpf.model import (
    Endpoint,
    FailureKind,
    FirewallPolicy,
    FirewallReading,
    FirewallStage,
    ForwardSpec,
    Hits,
    Lease,
    ListeningSocket,
    ListenSettings,
    Phase,
    PolicyMode,
    ProfileSpec,
    Protocol,
    ProviderPolicy,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
    Use,
)

PLAN = TunnelPlan("vpf-home", Endpoint("203.0.113.5", 51820), ("10.2.0.2/32",), mark=7, table=7)
MOVED = replace(PLAN, endpoint=Endpoint("203.0.113.99", 51820))
UNSET = ListenSettings(6881, "")
"""How a torrent client is before it is set."""
TUNNEL = Tunnel(PLAN, "wireguard (kernel)", "10.2.0.1")
FORWARD = ForwardSpec("torrent", client="qbittorrent")
SPEC = ProfileSpec("home", "mock", (FORWARD,))
START = 1000.0
BLOCKING = ProviderPolicy(PolicyMode.BLOCK_ALL)
BUSY = 60
"""Steps at one moment; more means that the engine and the world chase each other without end."""

Fault = tuple[FailureKind, float | None]
"""What work fails with, and the `retry_after` of it."""


@dataclass
class World:
    """A profile's engine and all that it acts on. Times in seconds, as the engine sees them."""

    machine: Machine = field(default_factory=lambda: initial(SPEC, PLAN, START))
    now: float = START
    plan: TunnelPlan = PLAN
    plans: tuple[TunnelPlan, ...] = ()
    """The plans of several servers; empty: `plan` is that of the only one."""
    exit_seen: str = "198.51.100.7"
    epoch: int | None = None
    """What the gateway says at each grant; None: it says none."""
    up: bool = False
    handshake_age: float | None = 5.0
    silent_for: float = 0.0
    told_anew: Tunnel | None = None
    """What the tunnel is once a server that has forgotten its key was told it anew; None: it knows the key."""
    table: FirewallPolicy | None = None
    flushed: bool = False
    port: int = 40000
    """What the gateway gives next, plus the forward's slot."""
    lifetime: float | None = 60.0
    settings: dict[str, ListenSettings] = field(default_factory=dict)
    listening: bool = True
    """Whether the client opens the port it is set to."""
    knock: bool = False
    """Whether the service that a port test asks gets in."""
    packets: dict[str, int] = field(default_factory=dict)
    switch: ProviderPolicy = BLOCKING
    """What the provider's own switch has in force."""
    switch_coming: tuple[float, ProviderPolicy] | None = None
    """When it will have what."""
    switch_delay: float = 0.0
    """Seconds from setting it to that."""
    """Inbound packets by forward, or by an opening's key."""
    uncounted: bool = False
    """Whether the counters of openings cannot be read."""
    kept: tuple[Use, ...] = ()
    """What the store has of their use."""
    faults: dict[type, Fault] = field(default_factory=dict)
    held: set[type] = field(default_factory=set)
    """Work that does not come back for now."""
    pending: list[Order] = field(default_factory=list)
    orders: list[Order] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    steps: int = 0
    phases: list[Phase] = field(default_factory=list)

    # -- what happens ---------------------------------------------------------------------------

    def begin(self) -> World:
        """The first step, and all that follows at once."""
        self._took(self.machine, start(self.machine, self.now))
        self.settle()
        return self

    def take(self, event: Event) -> tuple[Order, ...]:
        """Hand in one event; returns the orders it led to."""
        return self._took(self.machine, step(self.machine, event, self.now))

    def stop(self, *, force: bool = False) -> None:
        self.take(StopRequested(force))
        self.settle()

    def settle(self) -> None:
        """Carry out all that is asked for, until nothing more is."""
        for _ in range(BUSY):
            ready = [order for order in self.pending if type(order.work) not in self.held]
            if not ready:
                return
            self.answer(ready[0])
        raise AssertionError(f"it never comes to rest: {[type(o.work).__name__ for o in self.orders[-20:]]}")

    def answer(self, order: Order) -> None:
        self.pending.remove(order)
        self.take(self.outcome(order))

    def cut_off(self, order: Order) -> None:
        """It is done, but the answer does not come in time."""
        self.pending.remove(order)
        self.success(order)
        self.take(self.failure(order, FailureKind.TRANSIENT))

    def tick(self) -> None:
        self.take(Tick())
        self.settle()

    def wait(self, seconds: float) -> World:
        """Let time pass as the supervisor does: a Tick when something is due, and every 15 s."""
        end = self.now + seconds
        while self.now < end:
            due = math.inf if self.machine.wake_at is None else self.machine.wake_at
            self.now = min(end, due, self.now + LONGEST_SLEEP)
            self.tick()
        return self

    def sleep(self, seconds: float) -> World:
        """A suspend: time passes and nobody is awake."""
        self.now += seconds
        self.tick()
        return self

    def until(self, condition: Callable[[], bool], within: float) -> float:
        """Wait for it, a step at a time; returns the seconds it took."""
        begun = self.now
        while not condition():
            assert self.now < begun + within, f"not within {within} s: {self.machine.phase}, {self.problems}"
            due = math.inf if self.machine.wake_at is None else self.machine.wake_at
            self.now = min(due, self.now + LONGEST_SLEEP)
            self.tick()
        return self.now - begun

    def ready(self) -> World:
        """Bring it to READY."""
        self.begin()
        self.until(lambda: self.phase is Phase.READY, 5)
        return self

    def fail(self, work: type, kind: FailureKind = FailureKind.TRANSIENT, retry_after: float | None = None) -> None:
        self.faults[work] = (kind, retry_after)

    # -- what is seen ---------------------------------------------------------------------------

    @property
    def phase(self) -> Phase:
        return self.machine.phase

    @property
    def forward(self) -> ForwardState:
        return self.machine.forwards[0]

    @property
    def problems(self) -> list[str]:
        jobs = self.machine.jobs
        return [f"{key}: {job.problem.kind} {job.problem.message}" for key, job in jobs.items() if job.problem]

    def waiting(self, kind: type) -> Order:
        """The order of a kind that has not come back yet."""
        return next(order for order in self.pending if isinstance(order.work, kind))

    def ordered(self, *kinds: type) -> list[Order]:
        return [order for order in self.orders if isinstance(order.work, kinds)]

    def names(self) -> list[str]:
        """The orders so far, by kind."""
        return [type(order.work).__name__ for order in self.orders]

    def heard(self, kind: type) -> list[Notice]:
        return [notice for notice in self.notices if isinstance(notice, kind)]

    def open_ports(self) -> set[int]:
        return {rule.arrives for rule in self.table.forwards} if self.table else set()

    # -- the world ------------------------------------------------------------------------------

    def outcome(self, order: Order) -> Answer:
        fault = self.faults.get(type(order.work))
        if fault is not None:
            return self.failure(order, *fault)
        return self.success(order)

    @staticmethod
    def failure(order: Order, kind: FailureKind, retry_after: float | None = None) -> WorkFailed:
        doing = f"doing {type(order.work).__name__}"
        return WorkFailed(order.generation, order.work.key, kind, doing, f"it was {kind}", retry_after=retry_after)

    def success(self, order: Order) -> Answer:  # noqa: C901, PLR0911 - one flat table of work
        work, generation = order.work, order.generation
        match work:
            case ApplyFirewall(policy=policy):
                self.table, self.flushed = policy, False
                return FirewallApplied(generation, policy, self._reading())
            case ReadFirewall():
                return FirewallRead(generation, self._reading())
            case RemoveFirewall():
                self.table = None
                return FirewallRemoved(generation)
            case PlanTunnel():
                plan = self.plans[work.server] if self.plans else self.plan
                return TunnelPlanned(generation, plan)
            case StartTunnel(plan=plan):
                self.up, self.handshake_age = True, 0.0
                return TunnelCameUp(generation, replace(TUNNEL, plan=plan), TunnelHealth(0.0))
            case CheckTunnel():
                return TunnelSeen(generation, TunnelHealth(self.handshake_age, silent_for=self.silent_for))
            case Rekey():
                if self.handshake_age is None or self.handshake_age > 180:
                    return self.failure(order, FailureKind.TRANSIENT)
                self.silent_for = 0.0
                return TunnelRekeyed(generation, TunnelHealth(0.0), self.told_anew)
            case CheckExit():
                return ExitSeen(generation, self.exit_seen)
            case StopTunnel():
                self.up = False
                return TunnelStopped(generation)
            case Acquire(forward=name, request=request):
                port = self.port + request.spec.slot
                lease = Lease(
                    port,
                    port,
                    request.spec.protocols,
                    self.now,
                    self.lifetime,
                    exit_address="198.51.100.7",
                    epoch=self.epoch,
                    epoch_at=self.now,
                )
                return LeaseGranted(generation, work.key, name, lease)
            case Release(forward=name):
                return LeaseReleased(generation, work.key, name)
            case SetClient(forward=name, wanted=wanted):
                self.settings[name] = wanted
                return ClientSeen(generation, work.key, name, wanted, set=True)
            case ReadClient(forward=name):
                return ClientSeen(generation, work.key, name, self.settings.get(name, UNSET))
            case ReadSockets(forward=name, port=port):
                return SocketsSeen(generation, work.key, name, self._sockets(name, port))
            case CheckPort(forward=name, port=port):
                if self.knock:
                    self.packets[name] = self.packets.get(name, 0) + 1
                return PortTested(generation, work.key, name, port, self.knock)
            case ReadSwitch():
                return SwitchRead(generation, self.said())
            case SetSwitch(wanted=policy):
                self.switch_coming = (self.now + self.switch_delay, policy)
                return SwitchRead(generation, self.said(), told=policy)
            case SaveLeases(leases=leases):
                return LeasesSaved(generation, leases)
            case SaveUses(uses=uses):
                self.kept = uses
                return UsesSaved(generation, uses)

    def said(self) -> ProviderPolicy:
        """What the provider's switch says now."""
        if self.switch_coming is not None and self.switch_coming[0] <= self.now:
            self.switch, self.switch_coming = self.switch_coming[1], None
        return self.switch

    def _reading(self) -> FirewallReading:
        hits = tuple((name, Protocol.TCP, Hits(packets)) for name, packets in sorted(self.packets.items()))
        evidence = "the table is gone" if self.flushed else "31 rules read back"
        counted = () if self.table is None or self.flushed or self.uncounted else self.table.inbound.openings
        openings = tuple((each.key, Hits(self.packets.get(each.key, 0))) for each in counted)
        return FirewallReading(not self.flushed, evidence, hits, openings)

    def _sockets(self, name: str, port: int) -> tuple[ListeningSocket, ...]:
        if name in self.settings and not (self.listening and self.settings[name].port == port):
            return ()
        own = self.machine.tunnel.address if self.machine.tunnel else "10.2.0.2"
        return tuple(ListeningSocket(protocol, own, port) for protocol in Protocol)

    # -- what always holds ----------------------------------------------------------------------

    def _took(
        self, before: Machine, result: tuple[Machine, tuple[Order, ...], tuple[Notice, ...]]
    ) -> tuple[Order, ...]:
        self.machine, orders, notices = result
        self.steps += 1
        self.notices.extend(notices)
        if self.machine.phase is not before.phase:
            assert self.machine.phase in TRANSITIONS[before.phase], f"{before.phase} -> {self.machine.phase}"
            self.phases.append(self.machine.phase)
        for order in orders:
            # A newer order ends the older one of its key first: while stopping, and for what a lost tunnel made vain.
            same = [each for each in self.pending if each.work.key == order.work.key]
            elsewhere = order.work.key == "tunnel" and self.machine.server_asked == self.now
            ends = (
                elsewhere
                or ":" in order.work.key
                or order.work.key in {"announcements", "exit", "tunnel-watch", "mtu", "switch"}
            )
            assert not same or self.machine.stopping or ends, "two of one key at once"
            self.pending = [each for each in self.pending if each not in same] + [order]
            if isinstance(order.work, StartTunnel):
                assert self.table is not None
                assert self.table.stage is not FirewallStage.CONNECTED, "the kernel lets everything into the tunnel"
            self.orders.append(order)
        check(before, self.machine, orders, self.now)
        return orders


def check(before: Machine, machine: Machine, orders: tuple[Order, ...], now: float) -> None:
    """What holds after every step, whatever happened."""
    assert machine.wake_at is None or machine.wake_at > now, "it would spin"
    generations = [order.generation for order in orders]
    assert generations == sorted(set(generations))
    assert all(generation > before.generation for generation in generations)
    keys = [order.work.key for order in orders]
    assert len(keys) == len(set(keys)), "two pieces of work of one key at once"
    for order in orders:
        job = machine.job(order.work.key)
        assert (job.generation, job.running) == (order.generation, type(order.work).__name__)
        _allowed(order.work, machine)
    running = any(job.running for job in machine.jobs.values())
    if machine.phase not in {Phase.STOPPED, Phase.FAILED}:
        assert running or machine.wake_at is not None, "nothing is under way and nothing is due: it died in silence"
    if machine.phase is Phase.STOPPED:
        assert not orders
        assert machine.wake_at is None
    for forward in machine.forwards:
        for lease in (forward.lease, forward.replaced):
            assert lease is None or lease.expires_at is None or lease.expires_at > now, "a lease is kept past its end"
    if machine.phase is Phase.READY:
        _really_ready(machine, now)


def _allowed(work: object, machine: Machine) -> None:
    """What may be asked for only under the right rule set."""
    match work:
        case StartTunnel():
            assert machine.tunnel is None
            assert machine.applied is not None
            assert machine.applied.stage in {FirewallStage.CONNECTING, FirewallStage.BLOCKED}
            assert machine.applied.plan == work.plan
            assert machine.reading is not None
            assert machine.reading.intact
        case ApplyFirewall(policy=policy):
            assert policy == policy_for(machine)
            connected = machine.tunnel is not None and not machine.tunnel_gone
            assert (policy.stage is FirewallStage.CONNECTED) == connected
        case Acquire() | SetClient() | ReadSockets() | CheckPort() | ReadSwitch():
            assert machine.tunnel is not None
            assert guarded(machine)
            if isinstance(work, Acquire):
                assert not _forward(machine, work.forward).unwanted, "what is to be given back is renewed"
        case SetSwitch(wanted=wanted):
            assert guarded(machine)
            assert machine.switchable
            assert not machine.stopping
            assert machine.switch.seen_for == machine.tunnel_number, "it was not asked what it says"
            assert wanted != machine.switch.seen or machine.switch.told != wanted
        case RemoveFirewall():
            assert machine.stopping
            assert machine.tunnel_gone
        case StopTunnel():
            assert machine.stopping
        case Release(forward=name):
            assert machine.stopping or _forward(machine, name).unwanted
        case _:
            pass


def _forward(machine: Machine, name: str) -> ForwardState:
    return next(forward for forward in machine.forwards if forward.spec.name == name)


def _really_ready(machine: Machine, now: float) -> None:
    assert machine.tunnel is not None
    assert machine.applied is not None
    assert machine.applied.stage is FirewallStage.CONNECTED
    assert machine.reading is not None
    assert machine.reading.intact
    for forward in machine.forwards:
        assert forward.lease is not None
        assert forward.announced is not None
        assert forward.announced.external_port == forward.lease.external_port
        assert forward.proofs.tunnel.ok
        assert forward.proofs.lease.ok
        assert forward.leased_for == machine.tunnel_number
        rules = [rule for rule in machine.applied.forwards if rule.arrives == forward.lease.internal_port]
        assert any(rule.expires_at is None or rule.expires_at > now for rule in rules), "the port is closed by now"
        if forward.spec.client is not None:
            assert forward.proofs.client.ok
            assert forward.proofs.listening.ok or not forward.spec.client_local
