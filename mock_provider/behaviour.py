"""The gateway without its sockets: what becomes of each datagram, and of time, with all faults. Pure.

`Gateway` sends what it is told here; simulations on a virtual clock use the very same:

    faults = Faults(loss=0.2, says_lifetime=0)
    behaviour = Behaviour(faults, Machine(faults, now=clock.now()))
    outcome = behaviour.receive(datagram, ("10.2.0.2", 5000), clock.now())   # .fate, .sends, .step
    step, sends = behaviour.tick(clock.now())                                # when `next_due` has come
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

from mock_provider.faults import Fate, Faults
from mock_provider.mangle import Endpoint, Mangler, Send
from mock_provider.natpmp import Machine, Step

GROUP: Endpoint = ("224.0.0.1", 5350)
"""Where announcements go: all systems on the link (RFC 6886 section 3.2.1)."""
ANNOUNCEMENTS = 10
FIRST_GAP = 0.25
"""Seconds between the first two announcements; each further gap is twice the one before."""

Message = Callable[[float], bytes | None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a datagram."""

    fate: Fate
    step: Step = field(default_factory=Step)
    """What the gateway answers and changes; `step.answer` is what it would say with nothing wrong on the wire."""
    sends: tuple[Send, ...] = ()
    """What goes out, in this order."""


@dataclass(order=True, slots=True)
class _Announcement:
    at: float
    number: int
    interface: str = field(compare=False)
    message: Message = field(compare=False)


class Behaviour:
    """A gateway: its mappings, and all that is wrong with it. `now` is in seconds on any clock that goes forward."""

    def __init__(self, faults: Faults, machine: Machine) -> None:
        self.faults = faults
        self.machine = machine
        self._mangler = Mangler(faults)
        self._announcements: list[_Announcement] = []
        self._number = itertools.count()
        self._forgets = False

    def receive(self, data: bytes, sender: Endpoint, now: float) -> Outcome:
        """Decide about one datagram of a client, and obey it if it arrives."""
        opcode = data[1] if len(data) > 1 else -1
        fate = self.faults.fate(opcode)
        if fate not in (Fate.ANSWERED, Fate.ANSWER_LOST):
            return Outcome(fate)
        step = self.machine.handle(data, sender[0], now)
        if step.answer is None:
            return Outcome(Fate.MALFORMED, step)
        if fate is Fate.ANSWER_LOST:
            return Outcome(fate, step)
        sends = self._mangler.sends(step.answer, sender, now, opcode=opcode)
        return Outcome(fate if sends else Fate.HELD, step, sends)

    @property
    def next_due(self) -> float | None:
        """When `tick` is to be called next; None: nothing is going to happen by itself."""
        moments = [one.at for one in self._announcements[:1]]
        if (expiry := self.machine.next_expiry) is not None:
            moments.append(expiry)
        return min(moments, default=None)

    def tick(self, now: float) -> tuple[Step, tuple[Send, ...]]:
        """End what was not renewed, and announce what is due. A gateway that is gone announces nothing."""
        step = self.machine.expire(now)
        sends = []
        while self._announcements and self._announcements[0].at <= now:
            due = heapq.heappop(self._announcements)
            message = None if self.faults.gone else due.message(now)
            if message is not None:
                said = self._mangler.mangle(message, now) if self.faults.meets(0) else message
                sends.append(Send(said, GROUP, interface=due.interface))
        return step, tuple(sends)

    # -- what may happen to a gateway ----------------------------------------------------------

    def reset_epoch(self, now: float) -> Step:
        """Lose all mappings and start the epoch at 0, as a gateway that was restarted."""
        return self.machine.reset_epoch(now)

    def forget(self) -> Step:
        """Lose all mappings while the epoch goes on, so that nobody can tell."""
        return self.machine.forget()

    def vanish(self, now: float, *, forget: bool = False) -> Step:
        """Go away; with `forget` the mappings are lost now, and the epoch starts at 0 when it is back."""
        self._forgets = forget or (self._forgets and self.faults.gone)
        self.faults.gone = True
        return self.machine.reset_epoch(now) if forget else Step()

    def come_back(self, now: float) -> Step:
        """Be there again; nothing happens if it is."""
        forgets, self._forgets = self._forgets and self.faults.gone, False
        self.faults.gone = False
        return self.machine.reset_epoch(now) if forgets else Step()

    def announce(
        self,
        now: float,
        times: int = ANNOUNCEMENTS,
        *,
        gap: float = FIRST_GAP,
        interface: str = "",
        message: Message | None = None,
    ) -> None:
        """Tell all systems on the link the external address and the epoch: at once, after `gap` s, then twice that...

        RFC 6886 section 3.2.1. `message` makes the datagram anew each time, so that its epoch is right.
        """
        at = now
        for _ in range(times):
            one = _Announcement(at, next(self._number), interface, message or self._address_answer)
            heapq.heappush(self._announcements, one)
            at += gap
            gap *= 2

    def _address_answer(self, now: float) -> bytes | None:
        return self.machine.handle(b"\0\0", "", now).answer
