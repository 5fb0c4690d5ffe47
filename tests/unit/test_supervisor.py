"""The loop that owns every task, in virtual time: whatever work does, it comes back, and the loop goes on."""

from __future__ import annotations

import asyncio
import contextlib
import typing
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from msgspec.structs import replace

import vpnpf.supervisor as module
from tests.unit.engine_world import PLAN, SPEC, START, TUNNEL, World
from vpnpf.core.machine import step
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.state import initial
from vpnpf.errors import (
    ConfigError,
    LeaseLost,
    Misconfigured,
    Mistake,
    NoAnswer,
    PermissionDenied,
    Refused,
    Transient,
    Unavailable,
    Unsupported,
    UsageError,
    VpnpfError,
)
from vpnpf.events import (
    Acquire,
    Answer,
    ApplyFirewall,
    LeaseGranted,
    NewPortWanted,
    Order,
    PhaseChanged,
    PlanTunnel,
    ProblemNoticed,
    ReadSockets,
    Release,
    RemoveFirewall,
    RenewWanted,
    SaveLeases,
    ServerWanted,
    StartTunnel,
    StopRequested,
    StopTunnel,
    Tick,
    TunnelCameUp,
    Work,
    WorkFailed,
)
from vpnpf.hub import Hub
from vpnpf.model import BOTH, Endpoint, FailureKind, Lease, MappingRequest, Phase
from vpnpf.supervisor import DEADLINES, Supervisor, limit_of

Behaviour = Callable[[Order], Awaitable[Answer]]


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__()
        self._at = 0.0

    def time(self):
        return self._at

    def _run_once(self):
        if not self._ready and self._scheduled:
            self._at = max(self._at, self._scheduled[0].when())
        super()._run_once()


class Clock:
    """CLOCK_BOOTTIME: the loop's time, and what was slept through."""

    def __init__(self) -> None:
        self.slept = 0.0

    def now(self) -> float:
        return START + self.slept + asyncio.get_running_loop().time()

    def wall(self) -> float:
        return self.now() + 1.7e9


class Run:
    """A supervisor with a world behind it; kinds of work can be given another behaviour, once or for good."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.world = World()
        self.hub = Hub()
        self.supervisor = Supervisor(initial(SPEC, PLAN, START), self, self.clock, self.hub)
        self.behaviours: dict[type, Behaviour] = {}
        self.once: dict[type, Behaviour] = {}
        self.begun: list[tuple[float, str]] = []
        self.notices: list = []
        self.running: Counter[str] = Counter()

    async def carry_out(self, order: Order) -> Answer:
        kind, key = type(order.work), order.work.key
        self.begun.append((self.clock.now() - START, kind.__name__))
        self.running[key] += 1
        assert self.running[key] == 1, f"two of {key} at once"
        try:
            behaviour = self.once.pop(kind, None) or self.behaviours.get(kind, self.succeed)
            return await behaviour(order)
        finally:
            self.running[key] -= 1

    async def succeed(self, order: Order) -> Answer:
        await asyncio.sleep(0.001)
        self.world.now = self.clock.now()
        return self.world.success(order)

    def at(self, kind: type) -> list[float]:
        return [at for at, name in self.begun if name == kind.__name__]

    @property
    def phase(self) -> Phase:
        return self.supervisor.machine.phase

    def problems(self) -> list:
        return [notice.problem for notice in self.notices if isinstance(notice, ProblemNoticed)]

    async def until(self, condition: Callable[[], bool], within: float = 30.0) -> None:
        async with asyncio.timeout(within):
            while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
                await asyncio.sleep(0.01)

    async def until_ready(self, within: float = 30.0) -> None:
        await self.until(lambda: self.phase is Phase.READY, within)


def run(story: Callable[[Run], Awaitable[None]]) -> Run:
    """Tell a story beside a running supervisor, stop it, and see that nothing is left."""

    async def listen(made):
        with made.hub.subscribe() as reader:
            async for update in reader.updates():
                made.notices.extend(moment.notice for moment in update.moments)

    async def main():
        made = Run()
        listener = asyncio.create_task(listen(made))
        await asyncio.sleep(0)
        supervising = asyncio.create_task(made.supervisor.run())
        await story(made)
        made.supervisor.post(StopRequested())
        async with asyncio.timeout(200):
            state = await supervising
            made.hub.close()
            await listener
        assert state.phase is Phase.STOPPED
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return made

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main())


async def hang(_order):
    await asyncio.Event().wait()


def failing(error):
    async def fail(_order):
        raise error

    return fail


# -- the plain course ---------------------------------------------------------------------------


def test_it_runs_to_ready_and_stops_with_no_task_left():
    async def story(made):
        await made.until_ready()
        await asyncio.sleep(3600)

    made = run(story)
    names = [name for _, name in made.begun]
    assert names[:4] == ["ApplyFirewall", "StartTunnel", "ApplyFirewall", "ReadClient"]
    assert names[-3:] == ["Release", "StopTunnel", "RemoveFirewall"]
    assert made.problems() == []
    assert len(made.at(Acquire)) == pytest.approx(121, abs=2)


def test_observers_hear_everything():
    async def story(made):
        await made.until_ready()

    phases = [notice.after for notice in run(story).notices if isinstance(notice, PhaseChanged)]
    assert phases == [Phase.CONNECTING, Phase.LEASING, Phase.READY, Phase.STOPPING, Phase.STOPPED]


def test_what_is_due_is_done_on_time():
    async def story(made):
        await made.until_ready()
        await asyncio.sleep(35)

    first, second = run(story).at(Acquire)
    assert second - first == pytest.approx(30, abs=0.1)


def test_a_suspend_is_noticed_soon_after_waking():
    async def story(made):
        await made.until_ready()
        made.begun.clear()
        woken = made.clock.now()
        made.clock.slept += 5 * 3600
        await made.until(lambda: bool(made.at(Acquire)), LONGEST_SLEEP + 1)
        assert made.clock.now() - woken - 5 * 3600 <= LONGEST_SLEEP + 0.1
        await made.until_ready()

    run(story)


def test_also_with_nothing_due_it_looks_at_the_clock(monkeypatch):
    ticks = []

    def counting(machine, event, now):
        if isinstance(event, Tick):
            ticks.append(now)
        return step(machine, event, now)

    monkeypatch.setattr(module, "step", counting)

    async def story(made):
        made.behaviours[ApplyFirewall] = failing(Unsupported("applying the rules", "the kernel has no nf_tables"))
        await made.until(lambda: made.phase is Phase.FAILED)
        assert made.supervisor.machine.wake_at is None
        await asyncio.sleep(61)

    run(story)
    assert len(ticks) == 4


def test_a_reader_that_never_reads_delays_nothing():
    async def story(made):
        with made.hub.subscribe():
            await made.until_ready(1)
            await asyncio.sleep(600)
            assert made.phase is Phase.READY

    run(story)


def test_cancelled_it_leaves_no_task_and_its_hub_to_whoever_made_it():
    async def main():
        made = Run()
        made.behaviours[StartTunnel] = hang
        supervising = asyncio.create_task(made.supervisor.run())
        await made.until(lambda: bool(made.at(StartTunnel)))
        supervising.cancel()
        await asyncio.wait([supervising])
        assert supervising.cancelled()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with made.hub.subscribe() as reader:
            assert (await anext(reader.updates())).state.phase is Phase.CONNECTING
            made.hub.close()
            assert [update async for update in reader.updates()] == []

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_what_could_not_be_put_back_is_left_behind():
    async def story(made):
        await made.until_ready()
        made.behaviours[StopTunnel] = failing(Unavailable("putting /etc/resolv.conf back", "read-only file system"))

    made = run(story)
    assert [problem.doing for problem in made.supervisor.left_behind] == ["putting /etc/resolv.conf back"]
    assert "read-only" in made.notices[-1].cause
    assert run(Run.until_ready).supervisor.left_behind == ()


# -- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "retry_at"),
    [
        (Transient("x", "y"), FailureKind.TRANSIENT, 1.0),
        (NoAnswer("x", "y"), FailureKind.TRANSIENT, 1.0),
        (Refused("x", "y", retry_after=7.0), FailureKind.TRANSIENT, 7.0),
        (LeaseLost("x", "y"), FailureKind.LEASE_LOST, 0.0),
        (Misconfigured("x", "y", "hint"), FailureKind.MISCONFIGURED, None),
        (Misconfigured("x", "y", "hint", 300.0), FailureKind.MISCONFIGURED, 300.0),
        (Unsupported("x", "y"), FailureKind.UNSUPPORTED, None),
        (Unavailable("x", "y"), FailureKind.UNSUPPORTED, 60.0),
        (PermissionDenied("x", "y"), FailureKind.UNSUPPORTED, 60.0),
        (ConfigError((Mistake("proton.conf", "gone"),)), FailureKind.MISCONFIGURED, 60.0),
        (UsageError("x", "y"), FailureKind.CRASHED, 1.0),
        (VpnpfError("x", "y"), FailureKind.CRASHED, 1.0),
        (ValueError("boom"), FailureKind.CRASHED, 1.0),
        (ExceptionGroup("many", [OSError(5, "e")]), FailureKind.CRASHED, 1.0),
        (TimeoutError(), FailureKind.CRASHED, 1.0),
        (asyncio.CancelledError(), FailureKind.CRASHED, 1.0),
        (asyncio.QueueEmpty(), FailureKind.CRASHED, 1.0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_every_exception_comes_back_with_its_kind(error, kind, retry_at):
    async def story(made):
        made.behaviours[Acquire] = failing(error)
        await made.until(lambda: bool(made.problems()))
        at = made.clock.now()
        problem = made.problems()[0]
        assert problem.kind is kind
        if not isinstance(error, NoAnswer):  # silence has a hint of the engine: it knows whether the tunnel works
            assert problem.hint == getattr(error, "hint", "")
        if retry_at is None:
            assert problem.retry_at is None
        else:
            assert problem.retry_at == pytest.approx(at + retry_at, abs=0.15)

    run(story)


@pytest.mark.parametrize("kind", [ApplyFirewall, StartTunnel, Acquire, SaveLeases, ReadSockets])
@pytest.mark.parametrize("error", [ValueError("boom"), asyncio.CancelledError("somebody's scope")], ids=type)
def test_crashed_work_is_told_and_tried_again(kind, error):
    async def story(made):
        made.once[kind] = failing(error)
        await made.until(lambda: len(made.at(kind)) > 1 and made.phase is Phase.READY)
        assert [problem.kind for problem in made.problems()] == [FailureKind.CRASHED]
        assert made.at(kind)[1] - made.at(kind)[0] >= 0.9

    run(story)


# -- deadlines ----------------------------------------------------------------------------------


def test_every_kind_of_work_has_a_deadline():
    assert set(DEADLINES) == {kind.__name__ for kind in typing.get_args(Work)}
    assert all(
        0 < limit <= 60 for kind, limit in DEADLINES.items() if kind not in {"Listen", "WatchTunnel", "WatchFirewall"}
    )


@pytest.mark.parametrize("kind", [ApplyFirewall, StartTunnel, Acquire, ReadSockets])
def test_work_that_hangs_is_ended_and_tried_again(kind):
    async def story(made):
        made.once[kind] = hang
        await made.until(lambda: bool(made.problems()), 60)
        problem = made.problems()[0]
        assert problem.message == f"not done after {DEADLINES[kind.__name__]:g} s"
        assert problem.kind is FailureKind.TRANSIENT
        await made.until_ready()

    run(story)


def test_work_that_does_not_let_itself_be_ended_is_said_and_does_not_stop_the_rest():
    released = asyncio.Event()

    async def stubborn(_order):
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        raise ValueError("at last")

    async def story(made):
        await made.until_ready()
        made.once[ReadSockets] = stubborn
        await made.until(lambda: bool(made.problems()), 60)
        assert "it does not end" in made.problems()[0].message
        count = len(made.at(ReadSockets))
        await asyncio.sleep(600)
        assert made.supervisor.machine.forwards[0].lease.expires_at > made.clock.now() + 20
        assert len(made.at(ReadSockets)) == count, "never two at once"
        released.set()
        await made.until(lambda: len(made.at(ReadSockets)) > count, 90)
        await made.until_ready()

    run(story)


def test_a_provider_that_hangs_at_a_renewal_is_asked_again_before_the_lease_ends():
    async def story(made):
        await made.until_ready()
        made.behaviours[Acquire] = hang
        await asyncio.sleep(58)
        made.behaviours.clear()
        assert made.phase is Phase.READY

    assert len(run(story).at(Acquire)) >= 3


@pytest.mark.parametrize(
    ("lifetime", "elapsed", "limit"),
    [(60.0, 30.0, 10.0), (60.0, 59.0, 10.0), (300.0, 150.0, 45.0), (120.0, 60.0, 20.0), (None, 0.0, 45.0)],
)
def test_a_renewal_may_take_a_share_of_what_is_left(lifetime, elapsed, limit):
    held = Lease(40000, 40000, BOTH, START, lifetime)
    request = MappingRequest(SPEC.forwards[0], held, renewal=True)
    assert limit_of(Acquire("torrent", TUNNEL, request), START + elapsed) == limit


def test_a_first_request_has_all_the_time():
    wish = Lease(40000, 40000, BOTH, 0.0, 0.0)
    assert limit_of(Acquire("torrent", TUNNEL, MappingRequest(SPEC.forwards[0], wish)), START) == 45.0


# -- displacing ---------------------------------------------------------------------------------


def slow_to_end(seconds, log):
    async def behave(_order):
        try:
            await asyncio.Event().wait()
        finally:
            log.append("cleaning")
            await asyncio.sleep(seconds)
            log.append("cleaned")

    return behave


def test_what_is_displaced_ends_first_and_cleans_up():
    log = []

    async def story(made):
        made.behaviours[StartTunnel] = slow_to_end(5, log)

        async def stop(order):
            log.append("stopping")
            return await made.succeed(order)

        made.behaviours[StopTunnel] = stop
        await made.until(lambda: bool(made.at(StartTunnel)))

    run(story)
    assert log == ["cleaning", "cleaned", "stopping"]


def test_what_is_displaced_twice_still_cleans_up_to_its_end():
    """The first order is being ended for the second when the third comes: it waits for both."""
    log = []

    async def main():
        made = Run()
        made.behaviours[ReadSockets] = slow_to_end(3, log)
        work = [Order(ReadSockets("torrent", port), port) for port in (1, 2)]
        last = Order(ReadSockets("torrent", 3), 3)
        made.supervisor._begin(work[0], START)
        await asyncio.sleep(0.1)
        made.supervisor._begin(work[1], START)
        await asyncio.sleep(0.1)
        made.behaviours.clear()
        made.supervisor._begin(last, START)
        await asyncio.sleep(10)
        assert log == ["cleaning", "cleaned"]
        assert made.begun == [(0.0, "ReadSockets"), (pytest.approx(3.1), "ReadSockets")]
        await made.supervisor._end_tasks()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main())


def test_what_is_displaced_ends_although_a_timeout_of_its_own_is_just_over():
    async def times_out(made):
        loop = asyncio.get_running_loop()
        when = loop.time() + 1.0
        # In the same turn of the loop, and before it.
        loop.call_at(when - 2e-10, made.supervisor.post, StopRequested())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(when):
                await asyncio.Event().wait()
        await asyncio.Event().wait()

    async def story(made):
        made.once[StartTunnel] = lambda _order: times_out(made)
        await made.until(lambda: StopTunnel.__name__ in {name for _, name in made.begun}, within=5)

    run(story)


def test_a_tunnel_on_its_way_to_a_server_that_is_not_wanted_any_more_cleans_up_first():
    log = []
    there = replace(PLAN, server=1, endpoint=Endpoint("203.0.113.6", 51820))

    async def story(made):
        made.world.plans = (PLAN, there)
        made.supervisor.machine = replace(made.supervisor.machine, servers=2)
        made.once[StartTunnel] = slow_to_end(5, log)

        async def plan(order):
            log.append("planning")
            return await made.succeed(order)

        made.behaviours[PlanTunnel] = plan
        await made.until(lambda: bool(made.at(StartTunnel)))
        made.supervisor.post(ServerWanted(2))
        await made.until_ready()
        assert made.supervisor.machine.tunnel.plan == there

    assert run(story).problems() == []
    assert log == ["cleaning", "cleaned", "planning"]


def test_a_gateway_that_does_not_take_a_port_back_is_not_waited_for():
    async def story(made):
        await made.until_ready()
        made.behaviours[Release] = hang
        made.world.port = 41000
        at = made.clock.now()
        made.supervisor.post(NewPortWanted())
        await made.until(lambda: bool(made.world.settings) and made.world.settings["torrent"].port == 41000)
        await made.until_ready()
        assert made.clock.now() - at < DEADLINES["Release"] + 1
        assert made.supervisor.machine.forwards[0].lease.external_port == 41000
        made.behaviours.clear()

    run(story)


def test_an_answer_of_displaced_work_is_not_taken():
    async def story(made):
        made.once[StartTunnel] = hang
        await made.until(lambda: bool(made.at(StartTunnel)))

    made = run(story)
    assert made.supervisor.machine.tunnel_number == 0
    assert made.problems() == []


def test_stopping_does_not_wait_for_ever_for_what_it_displaced():
    async def never(_order):
        end = asyncio.get_running_loop().time() + 65
        while asyncio.get_running_loop().time() < end:
            try:
                await asyncio.sleep(end - asyncio.get_running_loop().time())
            except asyncio.CancelledError:
                continue
        raise ValueError("too late")

    async def story(made):
        made.behaviours[StartTunnel] = never
        await made.until(lambda: bool(made.at(StartTunnel)))

    made = run(story)
    assert [problem.doing for problem in made.problems()] == ["doing StopTunnel"]
    assert not made.at(StopTunnel)
    assert made.at(RemoveFirewall)


def test_a_second_stop_does_not_wait_for_the_first_ones_release():
    async def story(made):
        await made.until_ready()
        made.behaviours[Release] = hang
        made.supervisor.post(StopRequested())
        await asyncio.sleep(0.1)
        at = made.clock.now()
        made.supervisor.post(StopRequested(force=True))
        await made.until(lambda: made.phase is Phase.STOPPED, 1)
        assert made.clock.now() - at < 0.5

    run(story)


def test_a_lease_that_is_not_given_back_in_time_is_let_go():
    async def story(made):
        await made.until_ready()
        made.behaviours[Release] = hang
        made.begun.clear()

    made = run(story)
    (released,), (stopped,) = made.at(Release), made.at(StopTunnel)
    assert stopped - released == pytest.approx(DEADLINES["Release"], abs=0.1)


# -- mistakes of ours ---------------------------------------------------------------------------


def mistaken(monkeypatch, events, *, times=1):
    """Let `step` raise for these events, so many times."""
    left = [times]

    def wrong(machine, event, now):
        if isinstance(event, events) and left[0]:
            left[0] -= 1
            raise AssertionError("a mistake")
        return step(machine, event, now)

    monkeypatch.setattr(module, "step", wrong)
    return left


@pytest.mark.parametrize("event", [TunnelCameUp, LeaseGranted])
def test_an_answer_that_cannot_be_learnt_frees_its_work(monkeypatch, event):
    left = mistaken(monkeypatch, event)

    async def story(made):
        await made.until_ready(5)
        assert [problem.kind for problem in made.problems()] == [FailureKind.CRASHED] * 2
        assert made.problems()[0].doing == f"handling {event.__name__}"

    run(story)
    assert left == [0]


def test_an_answer_that_cannot_even_be_refused_frees_its_work(monkeypatch):
    mistaken(monkeypatch, (LeaseGranted, WorkFailed), times=2)

    async def story(made):
        await made.until_ready(30)
        assert len(made.at(Acquire)) == 2

    run(story)


def test_a_step_that_always_raises_is_no_busy_loop(monkeypatch):
    mistaken(monkeypatch, Tick, times=10**9)

    async def story(made):
        await made.until_ready(5)
        await asyncio.sleep(100)
        assert 10 <= len(made.problems()) <= 30

    run(story)


def test_a_wish_to_stop_is_not_lost_by_a_mistake(monkeypatch):
    mistaken(monkeypatch, StopRequested)

    async def story(made):
        await made.until_ready(5)

    run(story)


@pytest.mark.parametrize("wish", [RenewWanted(), NewPortWanted(), ServerWanted()])
def test_a_wish_that_cannot_be_learnt_is_said_and_the_loop_goes_on(monkeypatch, wish):
    left = mistaken(monkeypatch, type(wish))

    async def story(made):
        await made.until_ready(5)
        made.supervisor.post(wish)
        await asyncio.sleep(100)
        assert [problem.doing for problem in made.problems()] == [f"handling {type(wish).__name__}"]
        assert made.phase is Phase.READY

    run(story)
    assert left == [0]


def test_one_mistake_at_a_tick_loses_no_renewal(monkeypatch):
    left = mistaken(monkeypatch, Tick, times=0)

    async def story(made):
        await made.until_ready(5)
        await asyncio.sleep(29)
        left[0] = 1
        await asyncio.sleep(100)
        assert made.phase is Phase.READY

    made = run(story)
    assert left == [0]
    assert len(made.at(Acquire)) == 5
