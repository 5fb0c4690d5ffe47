"""One loop owns every task; nothing ends unnoticed.

Each piece of work runs in a task of its own, with a deadline, and always comes back as an event: an answer,
or a failure with its kind. An exception nobody expected comes back too, as "crashed", and is tried again
like any other failure. Of each key one task runs; a newer order ends the older one first.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from vpnpf.core.machine import start, step
from vpnpf.core.schedule import LONGEST_SLEEP
from vpnpf.core.state import Machine, view, without
from vpnpf.errors import (
    LeaseLost,
    Misconfigured,
    PermissionDenied,
    Transient,
    Unavailable,
    Unsupported,
    VpnpfError,
)
from vpnpf.events import Answer, Event, Notice, Order, ProblemNoticed, StopRequested, Tick, WorkFailed
from vpnpf.hub import Hub, Moment
from vpnpf.interfaces import Clock
from vpnpf.model import FailureKind, Phase, Problem, State

DEADLINES = {
    "ApplyFirewall": 15.0,
    "ReadFirewall": 15.0,
    "RemoveFirewall": 15.0,
    "PlanTunnel": 30.0,
    "StartTunnel": 40.0,
    "CheckTunnel": 15.0,
    "StopTunnel": 20.0,
    "Acquire": 45.0,
    "Release": 3.0,
    "SetClient": 30.0,
    "ReadClient": 30.0,
    "ReadSockets": 10.0,
    "SaveLeases": 15.0,
}
"""Seconds after which a piece of work is ended and counts as failed."""
AGAIN_LATER = 60.0
"""Seconds until something that this machine lacks is looked for again."""

_KINDS: tuple[tuple[type[VpnpfError], FailureKind], ...] = (
    (LeaseLost, FailureKind.LEASE_LOST),
    (Misconfigured, FailureKind.MISCONFIGURED),
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
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def post(self, event: Event) -> None:
        """Hand in a fact or a wish; safe to call at any time from the loop's thread."""
        self._events.put_nowait(event)

    async def run(self) -> State:
        """Go on until the profile is stopped; return its last state."""
        try:
            self._take(*start(self.machine, self._clock.now()))
            while self.machine.phase is not Phase.STOPPED:
                self._handle(await self._next())
        finally:
            await self._end_tasks()
            self._hub.close()
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
            if isinstance(event, Tick | StopRequested):
                return
            # The answer cannot be learnt, but its work must not count as under way for ever.
            if not isinstance(event, WorkFailed):
                self._handle(WorkFailed(event.generation, event.key, FailureKind.CRASHED, doing, repr(error)))
            else:
                self.machine = without(self.machine, event.key)

    def _take(self, machine: Machine, orders: tuple[Order, ...], notices: tuple[Notice, ...]) -> None:
        self.machine = machine
        now = self._clock.now()
        self._hub.publish(view(machine), tuple(Moment(now, notice) for notice in notices))
        for order in orders:
            key = order.work.key
            self._tasks[key] = asyncio.create_task(self._carry_out(order, self._tasks.get(key)), name=key)

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

    async def _carry_out(self, order: Order, displaced: asyncio.Task[None] | None) -> None:
        if displaced is not None and not displaced.done():
            displaced.cancel()
            await asyncio.wait([displaced])
        kind = type(order.work).__name__
        limit = DEADLINES[kind]
        try:
            async with asyncio.timeout(limit):
                answer = await self._doer.carry_out(order)
        except TimeoutError:
            answer = _failed(order, Transient(f"doing {kind}", f"not done after {limit:g} s"))
        except VpnpfError as error:
            answer = _failed(order, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it must come back as an event
            answer = WorkFailed(order.generation, order.work.key, FailureKind.CRASHED, f"doing {kind}", repr(error))
        self._events.put_nowait(answer)

    async def _end_tasks(self) -> None:
        tasks = [task for task in self._tasks.values() if not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _failed(order: Order, error: VpnpfError) -> WorkFailed:
    kind = next((kind for kinds, kind in _KINDS if isinstance(error, kinds)), FailureKind.CRASHED)
    retry_after = getattr(error, "retry_after", None)
    if isinstance(error, Unavailable | PermissionDenied):
        retry_after = AGAIN_LATER
    return WorkFailed(order.generation, order.work.key, kind, error.doing, error.cause, error.hint, retry_after)
