"""All that can be wrong with the gateway, as switches: the one place to look for a fault or to add one.

`Machine` (what is granted) and `Behaviour` (what becomes of a request and of its answer) read them. Set them at any
time; a scenario does (`scenario.py`), and `python -m mock_provider faults` lists them:

    gateway.refuse = True          # until it is set back
    gateway.refuse_next(2)         # only the next two requests
    gateway.loss = 0.2             # one in five, by chance; `reseed` repeats a run
    gateway.opcodes = {2}          # the faults of the wire meet TCP mappings alone
    gateway.clear()                # nothing is wrong any more
"""

from __future__ import annotations

import random
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import TypeVar

from mock_provider import kinds
from mock_provider.kinds import Kind

T = TypeVar("T")


class Fate(StrEnum):
    """What becomes of one request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """ICMP port unreachable, as when nothing listens; the request changes nothing."""
    SILENT = "silent"
    """The request was lost; it changes nothing."""
    ANSWER_LOST = "answer lost"
    """The request was obeyed and its answer lost."""
    HELD = "answer held back"
    """The request was obeyed; its answer comes after later ones, or never."""
    MALFORMED = "malformed"
    """Too short, or itself an answer: no gateway answers that."""


COUNTED = (Fate.REFUSED, Fate.SILENT, Fate.ANSWER_LOST)
"""The fates that a number of requests can be given, in the order in which they are used up."""


def switch(default: T, kind: Kind, text: str) -> T:
    """A field of Faults that can be switched; `text` says in one line what is wrong while it is on."""
    made: T = field(default=default, metadata={"kind": kind, "text": text})
    return made


@dataclass(kw_only=True)
class Faults:
    """The switches. Nothing is wrong to begin with."""

    # -- the wire: whether, when and from where an answer comes
    refuse: bool = switch(False, kinds.FLAG, "ICMP port unreachable comes back; the request changes nothing")
    refuse_every: int | None = switch(None, kinds.COUNT, "one request in so many is refused")
    silent: bool = switch(False, kinds.FLAG, "requests are lost")
    loss: float = switch(0.0, kinds.CHANCE, "a request is lost, by chance")
    lose_answers: bool = switch(False, kinds.FLAG, "requests are obeyed and their answers lost")
    answer_loss: float = switch(0.0, kinds.CHANCE, "an answer is lost, by chance")
    delay: float | tuple[float, float] = switch(0.0, kinds.SPAN, "time from request to answer, fixed or by chance")
    duplicate: float = switch(0.0, kinds.CHANCE, "an answer comes twice, by chance; True: always")
    reorder: int = switch(0, kinds.GROUP, "answers are held back until there are so many, then the last is sent first")
    wrong_source: str | bool = switch(
        False, kinds.SOURCE, "answers come from another port, or (also True) from another address"
    )
    opcodes: AbstractSet[int] | None = switch(
        None, kinds.REQUESTS, "the faults of the wire, of bytes and of the epoch meet these alone (opcodes 0, 1, 2)"
    )
    gone: bool = switch(False, kinds.FLAG, "nothing listens: ICMP port unreachable, whatever `opcodes` says")

    # -- the answer's bytes; what the gateway holds is not what it says then
    says_version: int | None = switch(None, kinds.BYTE, "answers bear this version")
    says_opcode: int | None = switch(None, kinds.BYTE, "answers bear this opcode; 129: that of UDP, 130: of TCP")
    says_internal_port: int | None = switch(None, kinds.CODE, "grants name this internal port, asked for or not")
    says_external_port: int | None = switch(None, kinds.CODE, "grants name this external port; 0 is none")
    says_lifetime: int | None = switch(None, kinds.LIFETIME, "grants name this lifetime")
    says_address: str | None = switch(None, kinds.ADDRESS, "answers name this external address")
    shorten: int | None = switch(None, kinds.OCTETS, "answers are cut to this length")
    lengthen: int = switch(0, kinds.OCTETS, "answers have so many octets more at their end")
    garbage: float = switch(0.0, kinds.CHANCE, "random bytes come instead of an answer, by chance")
    noise: int = switch(0, kinds.COUNT, "so many datagrams of random bytes come before each answer")

    # -- what answers and announcements say of the epoch
    epoch_rate: float = switch(1.0, kinds.FACTOR, "the epoch counts so many seconds a second; below 0: backwards")
    reset_flood: float = switch(0.0, kinds.RATE, "the epoch shows so many resets, while nothing is lost")

    # -- the mappings
    result: int = switch(0, kinds.CODE, "everything is answered with this result code (RFC 6886 section 3.5)")
    tcp_differs: bool = switch(False, kinds.FLAG, "TCP gets another external port than UDP")
    rotate_after: int | None = switch(
        None, kinds.COUNT, "a mapping gets a new external port after so many renewals, again and again"
    )
    longest_grant: int | None = switch(None, kinds.GRANT, "no mapping lasts longer, and answers say so")

    rotations: int = 0
    """How often `rotate` was called."""

    _left: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(COUNTED, 0), init=False)
    """How many requests are still to meet each fate, whatever the switches say."""
    _seen: int = field(default=0, init=False)
    """Requests since `refuse_every` is on."""
    dice: random.Random = field(default_factory=lambda: random.Random(0), init=False, repr=False, compare=False)
    """Decides whatever is by chance; alike in every run until it is reseeded."""

    def reseed(self, seed: int) -> None:
        """Let chance begin anew: the same requests then meet the same faults."""
        self.dice.seed(seed)

    def refuse_next(self, requests: int = 1) -> None:
        """Refuse so many requests."""
        self._left[Fate.REFUSED] += requests

    def silent_next(self, requests: int = 1) -> None:
        """Lose so many requests."""
        self._left[Fate.SILENT] += requests

    def lose_answers_next(self, requests: int = 1) -> None:
        """Obey so many requests and lose their answers."""
        self._left[Fate.ANSWER_LOST] += requests

    def rotate(self) -> None:
        """Give every mapping a new external port at its next renewal; the old one is dead from then on."""
        self.rotations += 1

    def clear(self) -> None:
        """Switch everything off, what is counted too. Ports that were rotated stay where they are."""
        for name, one in SWITCHES.items():
            setattr(self, name, one.default)
        self._left = dict.fromkeys(COUNTED, 0)

    def meets(self, opcode: int) -> bool:
        """Whether the faults of the wire meet this request."""
        return self.opcodes is None or opcode in self.opcodes

    def chance(self, probability: float) -> bool:
        """Whether it happens; nothing is drawn if that is certain."""
        return probability >= 1 or (probability > 0 and self.dice.random() < probability)

    def fate(self, opcode: int) -> Fate:
        """Decide about the next request, and count down what is counted."""
        if self.gone:
            return Fate.REFUSED
        if not self.meets(opcode):
            return Fate.ANSWERED
        self._seen = self._seen + 1 if self.refuse_every else 0
        for fate, left in self._left.items():
            if left > 0:
                self._left[fate] -= 1
                return fate
        if self.refuse or (self.refuse_every and self._seen % self.refuse_every == 0):
            return Fate.REFUSED
        if self.silent or self.chance(self.loss):
            return Fate.SILENT
        return Fate.ANSWER_LOST if self.lose_answers or self.chance(self.answer_loss) else Fate.ANSWERED


@dataclass(frozen=True, slots=True)
class Switch:
    """A switch as a list shows it, and as a scenario sets it."""

    field: str
    """The attribute of Faults."""
    kind: Kind
    text: str
    default: object

    @property
    def name(self) -> str:
        """As it is written in a scenario: with hyphens."""
        return self.field.replace("_", "-")


SWITCHES = {
    one.name: Switch(one.name, one.metadata["kind"], one.metadata["text"], one.default)
    for one in fields(Faults)
    if "kind" in one.metadata
}
"""All switches by attribute, in the order of Faults."""
