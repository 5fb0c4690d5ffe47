"""One fault of each kind that the mock gateway has, as lines of its scenario language, and when they come."""

from __future__ import annotations

import random
from dataclasses import dataclass

from mock_provider.faults import SWITCHES
from mock_provider.scenario import Playback, Scenario
from mock_provider.scenario_text import ABSENCES, EVENTS, parse

DAY = 86400.0
HEALTHY = 60.0
"""Seconds of a healthy gateway after which the profile has to be READY."""
LASTS = (5, 15, 25, 45, 90)
"""Seconds that a switch is on; a lease ends in some of them."""
SERVER = "server"

COUNTED = {"rotate": "", "reset-epoch": "", "forget": "", "refuse": "4", "silent": "4", "lose-answers": "4"}
"""What stands behind a word."""
VALUES = {
    "refuse_every": "2",
    "loss": "60%",
    "answer_loss": "60%",
    "delay": "100ms-3s",
    "duplicate": "100%",
    "reorder": "2",
    "wrong_source": "port",
    "opcodes": "tcp",
    "says_version": "2",
    "says_opcode": "130",
    "says_internal_port": "4242",
    "says_external_port": "4243",
    "says_lifetime": "5s 86400s",
    "says_address": "192.0.2.77",
    "shorten": "15",
    "lengthen": "3",
    "garbage": "80%",
    "noise": "20",
    "epoch_rate": "-1",
    "reset_flood": "10/s",
    "result": "3",
    "rotate_after": "1",
    "longest_grant": "7s",
}
"""Values of switches; where there are several, in turns."""


def kinds() -> tuple[str, ...]:
    """Every kind of fault, by the name that it has in a table."""
    switches = (f"{one.name} (on)" for one in SWITCHES.values() if one.field != "gone")
    return (*EVENTS, *ABSENCES, *switches)


def text_of(kind: str, lasts: int) -> str:
    """The scenario of one fault, from its beginning to its end."""
    name, _, _switch = kind.partition(" ")
    if kind in EVENTS:
        return f"at 0s {name} {COUNTED.get(kind, '3')}"
    if kind in ABSENCES:
        return f"at 0s {name} {lasts}s"
    values = VALUES.get(name.replace("-", "_"), "").split() or [""]
    value = values[LASTS.index(lasts) % len(values)]
    lines = f"at 0s {name} {value} for {lasts}s"
    # This switch says whom the others meet, and is no fault alone.
    return lines + f"\nat 0s refuse for {lasts}s" if name == "opcodes" else lines


@dataclass(frozen=True, slots=True)
class Trouble:
    """A fault and its time."""

    at: float
    """Seconds since the profile was READY first."""
    kind: str
    """`SERVER`: the tunnel's server goes, and the next one is another."""
    lasts: int = 0

    @property
    def scenario(self) -> Scenario:
        """What the gateway is told, from `at` on."""
        return _scenario(self.kind, self.lasts)


_known: dict[tuple[str, int], Scenario] = {}


def _scenario(kind: str, lasts: int) -> Scenario:
    if (kind, lasts) not in _known:
        _known[kind, lasts] = parse(text_of(kind, lasts))
    return _known[kind, lasts]


def calendar(days: float, each: int, servers: int, seed: int, lasts: tuple[int, ...] = LASTS) -> list[Trouble]:
    """So many faults of each kind and so many changes of the server, mixed and spread over the days, alike each run."""
    dice = random.Random(seed)
    planned = [(kind, lasts[number % len(lasts)]) for kind in kinds() for number in range(each)]
    planned += [(SERVER, number % 2) for number in range(servers)]
    dice.shuffle(planned)
    slot = days * DAY / len(planned)
    longest = max(lasts) + HEALTHY
    if slot <= longest * 2:
        raise ValueError(f"{len(planned)} faults in {days:g} days leave no time to be healthy")
    return [
        # On whole milliseconds, as the scenario has it; at any moment of a lease.
        Trouble(number * slot + round(dice.uniform(0, slot - longest * 2), 3), kind, length)
        for number, (kind, length) in enumerate(planned)
    ]


def playback(trouble: Trouble, now: float) -> Playback:
    """A fault that begins now."""
    return Playback(trouble.scenario, now)
