"""One loop owns every task; nothing ends unnoticed.

Each piece of work runs in a task of its own, with a deadline, and always comes back as an event: an answer,
or a failure with its kind. An exception nobody expected comes back too, as "crashed", and is tried again
like any other failure; so does work that does not end when it is told to. Of each key one task runs; a newer
order ends the older one first, and begins when that has cleaned up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Protocol
from weakref import WeakSet

from msgspec.structs import replace

from vpnpf.core.machine import start, step
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.state import Machine, without
from vpnpf.core.view import view
from vpnpf.errors import (
    ConfigError,
    Failure,
    LeaseLost,
    Misconfigured,
    NoAnswer,
    Offline,
    PermissionDenied,
    Transient,
    Unavailable,
    Unsupported,
    VpnpfError,
)
from vpnpf.events import (
    Acquire,
    Answer,
    Event,
    Notice,
    Order,
    ProblemNoticed,
    StopRequested,
    Tick,
    Wanted,
    Work,
    WorkFailed,
)
from vpnpf.hub import Hub, Moment
from vpnpf.interfaces import Clock
from vpnpf.model import FailureKind, Phase, Problem, State

DEADLINES = {
    "ApplyFirewall": 15.0,
    "ReadFirewall": 15.0,
    "RemoveFirewall": 15.0,
    "PlanTunnel": 30.0,
    "StartTunnel": 55.0,
    "CheckTunnel": 15.0,
    "Rekey": 30.0,
    "Listen": 86400.0,
    "WatchTunnel": 86400.0,
    "WatchFirewall": 86400.0,
    "FitMtu": 30.0,
    "CheckExit": 20.0,
    "StopTunnel": 20.0,
    "Acquire": 45.0,
    "Release": 3.0,
    "SetClient": 30.0,
    "ReadClient": 30.0,
    "ReadSockets": 10.0,
    "CheckPort": 30.0,
    "ReadSwitch": 20.0,
    "SetSwitch": 30.0,
    "SaveLeases": 15.0,
    "SaveUses": 15.0,
}
"""Seconds after which a piece of work is ended and counts as failed."""
SHORTEST_RENEWAL = 10.0
"""Seconds that a renewal may take at least, however soon the lease ends."""
GRACE = 10.0
"""Seconds to clean up in for work that was told to end; after that it is left to itself, and said to hang."""
AGAIN_LATER = 60.0
"""Seconds until something that this machine lacks, or a file that is wrong, is looked at again."""
AFTER_A_MISTAKE = 5.0
"""Seconds until the next step after one that raised, so that a mistake of ours does not become a busy loop."""

_KINDS: tuple[tuple[type[VpnpfError], FailureKind], ...] = (
    (LeaseLost, FailureKind.LEASE_LOST),
    (Misconfigured, FailureKind.MISCONFIGURED),
    (ConfigError, FailureKind.MISCONFIGURED),
    (Unsupported, FailureKind.UNSUPPORTED),
    (Transient, FailureKind.TRANSIENT),
    (Unavailable, FailureKind.UNSUPPORTED),
    (PermissionDenied, FailureKind.UNSUPPORTED),
)


class Doer(Protocol):
    """Carries out work."""

    async def carry_out(self, order: Order) -> Answer:
        """Do it and return what was learnt. Raises VpnpfError for what did not work."""
        ...


class Supervisor:
    """The loop of one profile."""

    def __init__(self, machine: Machine, doer: Doer, clock: Clock, hub: Hub) -> None:
        self.machine = machine
        self._doer = doer
        self._clock = clock
        self._hub = hub
        self._events: asyncio.Queue[Event] = asyncio.Queue()
        self._work: dict[str, set[asyncio.Task[Answer]]] = {}
        """Work that has not ended, by key: the newest, and what it waits for."""
        self._watchers: set[asyncio.Task[None]] = set()
        self._told: WeakSet[asyncio.Task[Any]] = WeakSet()
        """Tasks that were told to end."""

    def post(self, event: Event) -> None:
        """Hand in a fact or a wish; safe to call at any time from the loop's thread."""
        self._events.put_nowait(event)

    async def run(self) -> State:
        """Go on until the profile is stopped; return its last state. The hub stays open: another engine may follow."""
        try:
            self._take(*start(self.machine, self._clock.now()))
            while self.machine.phase is not Phase.STOPPED:
                self._handle(await self._next())
        finally:
            await self._end_tasks()
        return view(self.machine)

    @property
    def left_behind(self) -> tuple[Problem, ...]:
        """What could not be put back as it was, once it has stopped."""
        jobs = (self.machine.job(key) for key in ("tunnel", "firewall"))
        return tuple(job.problem for job in jobs if job.problem is not None)

    def _handle(self, event: Event) -> None:
        now = self._clock.now()
        try:
            self._take(*step(self.machine, event, now))
        except Exception as error:  # noqa: BLE001 - a mistake of ours must not end the loop that keeps the port
            doing = f"handling {type(event).__name__}"
            problem = Problem(doing, FailureKind.CRASHED, repr(error), since=now)
            self._hub.publish(view(self.machine), (Moment(now, ProblemNoticed(problem)),))
            self._survive(event, WorkFailed(0, "", FailureKind.CRASHED, doing, repr(error)), now)

    def _survive(self, event: Event, mistake: WorkFailed, now: float) -> None:
        """What must be known of an event all the same, although `step` raised for it."""
        if not isinstance(event, Tick | StopRequested | Wanted | WorkFailed):
            # The answer cannot be learnt, but its work must not count as under way for ever.
            self._handle(replace(mistake, generation=event.generation, key=event.key))
            return
        if isinstance(event, WorkFailed):
            self.machine = without(self.machine, event.key)
        elif isinstance(event, StopRequested):
            self.machine = replace(
                self.machine, stopping=True, force=self.machine.force or event.force, closed=event.closed
            )
        self.machine = replace(self.machine, wake_at=now + AFTER_A_MISTAKE)

    def _take(self, machine: Machine, orders: tuple[Order, ...], notices: tuple[Notice, ...]) -> None:
        self.machine = machine
        now = self._clock.now()
        self._hub.publish(view(machine), tuple(Moment(now, notice) for notice in notices))
        for order in orders:
            self._begin(order, now)

    async def _next(self) -> Event:
        """The next event; a Tick when something is due, and at least every 15 s to notice a suspend."""
        wait = LONGEST_SLEEP
        if self.machine.wake_at is not None:
            wait = min(wait, self.machine.wake_at - self._clock.now())
        try:
            async with asyncio.timeout(max(0.0, wait)):
                return await self._events.get()
        except TimeoutError:
            return Tick()

    def _begin(self, order: Order, now: float) -> None:
        key = order.work.key
        unfinished = self._work.setdefault(key, set())
        before = frozenset(unfinished)
        self._end(before)
        work = asyncio.create_task(self._carry_out(order, before), name=key)
        unfinished.add(work)
        work.add_done_callback(unfinished.discard)
        work.add_done_callback(_look_at)
        watcher = asyncio.create_task(self._watch(order, work, limit_of(order.work, now)), name=f"watching {key}")
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)

    async def _carry_out(self, order: Order, before: frozenset[asyncio.Task[Answer]]) -> Answer:
        if before:
            await asyncio.wait(before)
        return await self._doer.carry_out(order)

    async def _watch(self, order: Order, work: asyncio.Task[Answer], limit: float) -> None:
        """See to it that the work comes back. What was displaced does too, and is dropped as stale."""
        doing = f"doing {type(order.work).__name__}"
        done, _ = await asyncio.wait([work], timeout=limit)
        if not done:
            self._end({work})
            ended, _ = await asyncio.wait([work], timeout=GRACE)
            cause = f"not done after {limit:g} s" + ("" if ended else ", and it does not end")
            self.post(_failed(order, Transient(doing, cause)))
        elif work.cancelled():
            self.post(_crashed(order, doing, "it was cancelled"))
        elif isinstance(error := work.exception(), VpnpfError):
            self.post(_failed(order, error))
        elif error is not None:
            self.post(_crashed(order, doing, repr(error)))
        else:
            self.post(work.result())

    async def _end_tasks(self) -> None:
        unfinished: set[asyncio.Task[Answer] | asyncio.Task[None]] = set().union(self._watchers, *self._work.values())
        self._end(unfinished)
        if unfinished:
            await asyncio.wait(unfinished, timeout=GRACE)

    def _end(self, tasks: Iterable[asyncio.Task[Any]]) -> None:
        """Tell tasks to end, once: a second time would cut short what they clean up.

        Not by `cancelling`, which counts a timeout of the task's own, too, until it is raised as one.
        """
        for task in set(tasks) - set(self._told):
            self._told.add(task)
            task.cancel()


def _look_at(work: asyncio.Task[Answer]) -> None:
    """Work that nobody waits for any more may fail as it likes."""
    if not work.cancelled():
        work.exception()


def limit_of(work: Work, now: float) -> float:
    """Seconds that a piece of work may take; for a renewal a share of what is left, so that there are several tries."""
    limit = DEADLINES[type(work).__name__]
    if isinstance(work, Acquire) and work.request.renewal:
        held = work.request.previous
        if held is not None and held.expires_at is not None:
            limit = min(limit, max(SHORTEST_RENEWAL, (held.expires_at - now) / 3))
    return limit


def _failed(order: Order, error: VpnpfError) -> WorkFailed:
    kind = next((kind for kinds, kind in _KINDS if isinstance(error, kinds)), FailureKind.CRASHED)
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, Unavailable | PermissionDenied | ConfigError):
        retry_after = AGAIN_LATER
    return WorkFailed(
        order.generation,
        order.work.key,
        kind,
        error.doing,
        error.cause,
        error.hint,
        retry_after,
        silent=isinstance(error, NoAnswer),
        offline=isinstance(error, Offline),
        anywhere=isinstance(error, Failure) and error.anywhere,
    )


def _crashed(order: Order, doing: str, cause: str) -> WorkFailed:
    return WorkFailed(order.generation, order.work.key, FailureKind.CRASHED, doing, cause)
