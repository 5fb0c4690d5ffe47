"""The engine against a world that does what it likes: what must hold always, and that it always gets there."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import HealthCheck, assume, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.unit.engine_world import MOVED, PLAN, START, TUNNEL, World
from vpnpf.core.state import initial
from vpnpf.core.switch import switch_for
from vpnpf.core.wishes import ONE_WISH, why_not_port, why_not_server
from vpnpf.events import (
    CheckTunnel,
    NewPortWanted,
    Order,
    PolicyWanted,
    Rekey,
    RenewWanted,
    ServerWanted,
    StopRequested,
    Tick,
)
from vpnpf.model import (
    Endpoint,
    FailureKind,
    ForwardSpec,
    Lease,
    ListenSettings,
    Opening,
    Phase,
    PolicyMode,
    PortPolicy,
    ProfileSpec,
    Protocol,
    ProviderPolicy,
)

TORRENT = ForwardSpec("torrent", client="qbittorrent", client_tests=True)
FAR = ForwardSpec("far", slot=1, client="qbittorrent", client_local=False)
GAME = ForwardSpec("game", slot=2, protocols=(Protocol.TCP,), internal_port=25565)
FORWARDS = ((), (TORRENT,), (GAME,), (TORRENT, GAME), (TORRENT, FAR, GAME))
SERVERS = tuple(
    msgspec.structs.replace(PLAN, server=n, identity=f"server {n + 1}", endpoint=Endpoint(f"203.0.113.{n + 5}", 51820))
    for n in range(3)
)
WISH = Lease(39999, 39999, tuple(Protocol), 0.0, 0.0)
LONG_ENOUGH = 3700.0
"""Seconds: longer than any failure here asks to be left alone, and than any backing off."""

hours = st.floats(3600, 6 * 3600)
pauses = st.one_of(st.floats(1e-6, 2.0), st.floats(2.0, 90.0))
kinds = st.sampled_from(FailureKind)
retries = st.sampled_from([None, None, 0.0, 0.01, 30.0, 300.0])
lifetimes = st.sampled_from([None, 0.3, 1.0, 4.0, 60.0, 7200.0])


class Engine(RuleBasedStateMachine):
    """Answers, failures, silence, suspends, tampering and ends, in any order."""

    @initialize(
        forwards=st.sampled_from(FORWARDS),
        mode=st.sampled_from(PolicyMode),
        lifetime=lifetimes,
        wish=st.booleans(),
        switchable=st.booleans(),
        seconds=st.sampled_from([0, 0, 5, 40]),
        bears=st.sampled_from([None, 1.0, 30.0, 3600.0]),
        several=st.booleans(),
    )
    def begin(self, forwards, mode, lifetime, wish, switchable, seconds, bears, several):
        ssh = Opening(22, 22, Protocol.TCP)
        policy = PortPolicy(mode, openings=(ssh,), report_unused=bears, close_unused=True)
        spec = ProfileSpec("home", "mock", forwards, policy)
        held = {PLAN.identity: {"torrent": WISH}} if wish else None
        plans = SERVERS if several else ()
        plan = plans[0] if plans else PLAN
        machine = initial(spec, plan, START, held, switchable=switchable, servers=len(plans) or 1)
        self.world = World(machine, lifetime=lifetime, plans=plans)
        self.spent: list[Order] = []
        self.world.take(Tick())
        if seconds:
            self.all_is_well_for(seconds)

    def pick(self, data):
        assume(self.world.pending)
        order = data.draw(st.sampled_from(self.world.pending))
        self.spent.append(order)
        return order

    # -- the world answers ----------------------------------------------------------------------

    @rule(data=st.data())
    def succeed(self, data):
        self.world.answer(self.pick(data))

    @rule()
    def succeed_in_all(self):
        self.spent.extend(self.world.pending)
        self.world.settle()

    @rule(mode=st.sampled_from(PolicyMode), close=st.booleans())
    def want_another_policy(self, mode, close):
        policy = self.world.machine.spec.policy
        self.world.take(PolicyWanted(msgspec.structs.replace(policy, mode=mode, close_unused=close)))

    @rule(data=st.data(), kind=kinds, retry_after=retries)
    def fail(self, data, kind, retry_after):
        order = self.pick(data)
        self.world.pending.remove(order)
        self.world.take(self.world.failure(order, kind, retry_after))

    @rule(data=st.data())
    def be_cut_off(self, data):
        self.world.cut_off(self.pick(data))

    @precondition(lambda self: self.spent)
    @rule(data=st.data(), good=st.booleans())
    def answer_late(self, data, good):
        """An answer that was overtaken changes nothing, though it may come at the time of another decision."""
        order = data.draw(st.sampled_from(self.spent))
        assume(order not in self.world.pending)
        before = self.world.machine
        if good:
            table, flushed, up = self.world.table, self.world.flushed, self.world.up
            stale = self.world.success(order)
            self.world.table, self.world.flushed, self.world.up = table, flushed, up
        else:
            stale = self.world.failure(order, FailureKind.LEASE_LOST)
        self.world.take(stale)
        after = self.world.machine
        assert after.applied == before.applied
        assert after.tunnel_number == before.tunnel_number
        assert [f.settings for f in after.forwards] == [f.settings for f in before.forwards]
        for forward, earlier in zip(after.forwards, before.forwards, strict=True):
            assert forward.lease in {earlier.lease, None}

    # -- the person wishes ----------------------------------------------------------------------

    @rule(name=st.sampled_from(["", "torrent", "game", "nobody"]))
    def want_it_renewed(self, name):
        before = self.world.machine
        self.world.take(RenewWanted(name))
        if before.stopping:
            assert self.world.machine.forwards == before.forwards
        assert [f.lease for f in self.world.machine.forwards] == [
            f.lease if f.lease is None or f.lease.expires_at is None or f.lease.expires_at > self.world.now else None
            for f in before.forwards
        ]

    @rule(name=st.sampled_from(["", "torrent", "game", "nobody"]))
    def want_another_port(self, name):
        before = self.world.machine
        self.world.take(NewPortWanted(name))
        refused = why_not_port(before, name)
        for forward, earlier in zip(self.world.machine.forwards, before.forwards, strict=True):
            if refused or name not in {"", forward.spec.name}:
                assert not forward.unwanted or earlier.unwanted, "a port that nobody spoke of is given back"
            elif self.world.now - earlier.port_asked >= ONE_WISH:
                job = self.world.machine.job(f"lease:{forward.spec.name}")
                assert forward.wish is None
                assert job.running != "Acquire" or job.last.request.previous is None

    @rule(number=st.sampled_from([None, 0, 1, 2, 3, 4]))
    def want_another_server(self, number):
        before = self.world.machine
        refused = why_not_server(before, number)
        self.world.take(ServerWanted(number))
        after = self.world.machine
        assert after.taken == before.taken, "it costs a budget of the ladder"
        if refused:
            assert (after.server, after.tunnel, after.planned) == (before.server, before.tunnel, before.planned)
        elif number is not None:
            assert (after.server, after.tunnel) == (number - 1, None)
            assert after.job("tunnel").last.server == number - 1

    # -- time -----------------------------------------------------------------------------------

    @rule(seconds=pauses)
    def time_passes(self, seconds):
        self.world.now += seconds
        self.world.take(Tick())

    @precondition(lambda self: self.world.machine.wake_at is not None)
    @rule()
    def it_is_due(self):
        self.world.now = self.world.machine.wake_at
        self.world.take(Tick())

    @rule(seconds=hours)
    def suspended(self, seconds):
        self.world.now += seconds
        self.world.take(Tick())

    @rule(seconds=st.floats(0.1, 30.0))
    def all_is_well_for(self, seconds):
        self.spent.extend(self.world.pending)
        self.world.settle()
        self.world.wait(seconds)

    @rule()
    def the_tunnel_is_lost(self):
        """Somebody deleted the device."""
        world = self.world
        while (number := world.machine.tunnel_number) and world.machine.tunnel and not world.machine.stopping:
            world.now = world.machine.wake_at or world.now + 15
            world.take(Tick())
            for order in list(world.pending):
                if isinstance(order.work, CheckTunnel | Rekey):
                    world.pending.remove(order)
                    world.take(world.failure(order, FailureKind.LEASE_LOST))
            assert world.machine.tunnel_number == number

    # -- the world changes ----------------------------------------------------------------------

    @rule(port=st.integers(40000, 40005), lifetime=lifetimes)
    def the_gateway_thinks_anew(self, port, lifetime):
        self.world.port, self.world.lifetime = port, lifetime

    @rule()
    def the_table_is_flushed(self):
        self.world.flushed = True

    @rule(age=st.sampled_from([None, 0.0, 170.0, 181.0]))
    def the_handshake_is_old(self, age):
        self.world.handshake_age = age

    @rule(address=st.sampled_from(["10.2.0.2", "10.2.0.77", None]))
    def the_server_forgets_the_key(self, address):
        plan = msgspec.structs.replace(self.world.plan, addresses=(f"{address}/32",))
        self.world.told_anew = address and msgspec.structs.replace(TUNNEL, plan=plan)

    @rule(port=st.integers(40000, 40005), random=st.booleans())
    def somebody_sets_the_client(self, port, random):
        for name in self.world.settings:
            self.world.settings[name] = ListenSettings(port, "", random_port=random)

    @rule(listening=st.booleans())
    def the_client_opens_its_port_or_not(self, listening):
        self.world.listening = listening

    @rule(packets=st.integers(0, 5))
    def somebody_comes_in(self, packets):
        self.world.packets = {"torrent": packets}

    @rule(mode=st.sampled_from(PolicyMode))
    def another_policy_is_wanted(self, mode):
        self.world.take(PolicyWanted(PortPolicy(mode)))

    @rule(mode=st.sampled_from([PolicyMode.OPEN_ALL, PolicyMode.BLOCK_ALL]), delay=st.sampled_from([0.0, 5.0, 60.0]))
    def somebody_sets_the_switch(self, mode, delay):
        self.world.switch, self.world.switch_delay = ProviderPolicy(mode), delay

    @rule(plan=st.sampled_from([PLAN, MOVED]))
    def the_server_moves(self, plan):
        self.world.plan = plan

    # -- the end --------------------------------------------------------------------------------

    @precondition(lambda self: self.world.steps > 25)
    @rule(force=st.booleans())
    def stop(self, force):
        self.world.take(StopRequested(force))

    def teardown(self):
        """From wherever it got to: in a world that works again, it is READY, or says that it needs a person."""
        if not hasattr(self, "world"):
            return
        world = self.world
        world.handshake_age, world.listening, world.flushed = 5.0, True, False
        world.lifetime = world.lifetime and max(4.0, world.lifetime)
        world.settle()
        if world.machine.stopping:
            world.until(lambda: world.phase is Phase.STOPPED, LONG_ENOUGH)
            return
        given_up = [job for job in world.machine.jobs.values() if math.isinf(job.not_before)]
        if world.machine.switchable and not given_up:
            wanted = lambda: switch_for(world.machine, world.now)  # noqa: E731
            world.until(lambda: wanted() in {None, world.said()} or not world.machine.tunnel, 2 * 3600)
        if given_up:
            assert all(job.problem is not None and job.problem.retry_at is None for job in given_up)
        else:
            world.until(lambda: world.phase is Phase.READY, LONG_ENOUGH)
        world.stop()
        world.until(lambda: world.phase is Phase.STOPPED, LONG_ENOUGH)
        assert not world.up
        assert world.table is None


TestEngine = pytest.mark.timeout(60)(Engine.TestCase)
Engine.TestCase.settings = settings(
    max_examples=50, stateful_step_count=50, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow]
)
