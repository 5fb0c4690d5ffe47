"""All that can be wrong with the gateway, as switches: the one place to look for a fault or to add one.

`Machine` (what is answered) and `Gateway` (how it is sent) read them. Set them at any time:

    gateway.refuse = True          # until it is set back
    gateway.refuse_next(2)         # only the next two requests
    gateway.opcodes = {2}          # the faults of the wire meet TCP mappings alone
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum


class Fate(StrEnum):
    """What becomes of one request."""

    ANSWERED = "answered"
    REFUSED = "refused"
    """ICMP port unreachable, as when nothing listens; the request changes nothing."""
    SILENT = "silent"
    """The request was lost; it changes nothing."""
    ANSWER_LOST = "answer lost"
    """The request was obeyed and its answer lost."""
    MALFORMED = "malformed"
    """Too short, or itself an answer: no gateway answers that."""


@dataclass(kw_only=True)
class Faults:
    """The switches. Nothing is wrong to begin with."""

    # -- the wire
    refuse: bool = False
    silent: bool = False
    lose_answers: bool = False
    wrong_source: str | bool = False
    """Answers come from another "port" of the gateway, or (True or "address") from another address."""
    duplicate: bool = False
    """Every answer comes twice."""
    delay: float = 0.0
    """Seconds between request and answer."""
    opcodes: AbstractSet[int] | None = None
    """The opcodes that the faults of the wire meet (0: address, 1: UDP, 2: TCP); None: all."""

    # -- the mappings
    result: int = 0
    """Answer everything with this result code (RFC 6886 section 3.5), unless it is 0."""
    tcp_differs: bool = False
    """TCP gets another external port than UDP."""
    rotate_after: int | None = None
    """A mapping gets a new external port after this many renewals."""
    rotations: int = 0
    """How often `rotate` was called."""

    _refuse_left: int = field(default=0, init=False)
    _silent_left: int = field(default=0, init=False)

    def refuse_next(self, requests: int = 1) -> None:
        """Refuse so many requests."""
        self._refuse_left += requests

    def silent_next(self, requests: int = 1) -> None:
        """Lose so many requests."""
        self._silent_left += requests

    def rotate(self) -> None:
        """Give every mapping a new external port at its next renewal; the old one is dead from then on."""
        self.rotations += 1

    def fate(self, opcode: int) -> Fate:
        """Decide about the next request, and count down what is counted."""
        if self.opcodes is not None and opcode not in self.opcodes:
            return Fate.ANSWERED
        if self._refuse_left > 0:
            self._refuse_left -= 1
            return Fate.REFUSED
        if self._silent_left > 0:
            self._silent_left -= 1
            return Fate.SILENT
        if self.refuse:
            return Fate.REFUSED
        if self.silent:
            return Fate.SILENT
        return Fate.ANSWER_LOST if self.lose_answers else Fate.ANSWERED
