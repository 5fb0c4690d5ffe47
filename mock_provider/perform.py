"""Doing to a gateway what a scenario wants. Pure but for the gateway's own state."""

from __future__ import annotations

from mock_provider.behaviour import ANNOUNCEMENTS, Behaviour
from mock_provider.faults import SWITCHES, Faults
from mock_provider.natpmp import Step
from mock_provider.scenario import As, Change, Do, Set


class Performer:
    """Makes changes to one gateway, and remembers how its switches stood before the first."""

    def __init__(self, behaviour: Behaviour, *, interface: str = "") -> None:
        self._behaviour = behaviour
        self._interface = interface
        """The device that announcements leave by."""
        self._before = {switch: getattr(behaviour.faults, switch) for switch in SWITCHES}
        self._touched: dict[str, None] = {}

    def perform(self, change: Change, now: float) -> Step:
        """Make one change; returns what became of the mappings."""
        behaviour = self._behaviour
        match change.action:
            case Set(switch, value):
                self._touched[switch] = None
                return self._set(switch, self._before[switch] if value is As.BEFORE else value, now)
            case Do("reset-epoch"):
                return behaviour.reset_epoch(now)
            case Do("forget"):
                return behaviour.forget()
            case Do("announce", count):
                behaviour.announce(now, count or ANNOUNCEMENTS, interface=self._interface)
            case Do(event, count):
                _count(behaviour.faults, event, count or 1)
        return Step()

    def put_back(self, now: float) -> Step:
        """Set every switch that was touched as it was before; returns what became of the mappings."""
        steps = [self._set(switch, self._before[switch], now) for switch in self._touched]
        self._touched.clear()
        return next((step for step in steps if step.remove or step.add), Step())  # only one switch changes any

    def _set(self, switch: str, value: object, now: float) -> Step:
        if switch != "gone":
            setattr(self._behaviour.faults, switch, value)
            return Step()
        if value:
            return self._behaviour.vanish(now, forget=value == "restart")
        return self._behaviour.come_back(now)


def _count(faults: Faults, event: str, count: int) -> None:
    match event:
        case "rotate":
            faults.rotate()
        case "refuse":
            faults.refuse_next(count)
        case "silent":
            faults.silent_next(count)
        case "lose-answers":
            faults.lose_answers_next(count)
        case _:
            raise ValueError(f'no event is called "{event}"')
