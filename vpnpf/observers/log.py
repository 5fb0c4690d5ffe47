"""What `vpnpf run` says: talk for people on stderr, one JSON object per event on stdout."""

from __future__ import annotations

import json
from collections.abc import Callable

from vpnpf.core.serialise import notice_event, state_event, time_of
from vpnpf.core.talk import Telling, of_problem, talk
from vpnpf.events import ProblemNoticed
from vpnpf.hub import Hub
from vpnpf.interfaces import Clock
from vpnpf.model import State

Put = Callable[[str], None]


async def write_events(hub: Hub, clock: Clock, put: Put) -> None:
    """One JSON object per line: every notice, and every new state."""
    with hub.subscribe() as reader:
        async for update in reader.updates():
            offset = clock.wall() - clock.now()
            if update.missed:
                put(_dump({"event": "missed", "count": update.missed}))
            for moment in update.moments:
                put(_dump(notice_event(moment.notice, moment.at, update.state.profile, offset)))
            put(_dump(state_event(update.state, clock.now(), offset)))


async def write_talk(hub: Hub, clock: Clock, put: Put, *, verbose: bool = False) -> None:
    """A few lines that a person wants to read."""
    telling = Telling()
    with hub.subscribe() as reader:
        async for update in reader.updates():
            offset = clock.wall() - clock.now()
            if update.missed:
                put(f"{_hour(clock.now(), offset)} {update.missed} notices were lost: this log was not written in time")
            for moment in update.moments:
                notice = moment.notice
                problem = of_problem(notice.problem) if isinstance(notice, ProblemNoticed) else None
                for line in telling.notice(talk(notice, verbose=verbose), moment.at, problem):
                    put(f"{_hour(moment.at, offset)} {line}")
            for line in _news(update.state, telling):
                put(f"{_hour(clock.now(), offset)} {line}")


def _news(state: State, telling: Telling) -> list[str]:
    """What no notice says."""
    lines = telling.place(state.tunnel.plan.place) if state.tunnel is not None else []
    for forward in state.forwards:
        if forward.lease is not None and forward.proofs.reachable.ok:
            evidence = forward.proofs.reachable.evidence
            lines += telling.reached(forward.spec.name, forward.lease.external_port, evidence)
    return lines


def _hour(at: float, offset: float) -> str:
    return (time_of(at, offset) or "")[11:19]


def _dump(value: dict[str, object]) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
