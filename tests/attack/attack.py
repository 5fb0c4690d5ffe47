"""What an attack is, and how both of its sides are run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.attack.world import Body, Score, Side, Weakness, product, side


@dataclass(frozen=True)
class Attack:
    """One attack, told by the number of the threat it belongs to."""

    id: str
    what: str
    control: str
    """What the machine of the control has instead."""
    body: Body
    weak: Weakness | None
    """Sets the control up; None: the body does."""
    guard: Weakness | None = product
    """Sets the machine with vpnpf up; None: the body does."""
    before: Callable[[Side], Awaitable[object]] | None = None
    """What is so on both sides before the tunnel comes up."""
    over: str = "wireguard"
    """What the provider's servers run."""


@dataclass(frozen=True)
class Result:
    """An attack with its control."""

    attack: Attack
    mitigated: Score
    control: Score
    seconds: float

    @property
    def passed(self) -> bool:
        """Whether nothing leaked, and everything did without the mitigation."""
        held = self.mitigated.sent > 0 and self.mitigated.leaked == 0
        return held and self.control.leaked > 0 and not self.control.missing


async def run(attack: Attack) -> Result:
    """Both sides, one after the other."""
    started = time.monotonic()
    scores = []
    wrong: list[str] = []
    # A capture reads in a callback: what goes wrong there must not pass as a packet that was not seen.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: wrong.append(str(context)))
    for guarded, set_up in ((True, attack.guard), (False, attack.weak)):
        async with side(guarded=guarded, tunnel=attack.over) as made:
            if attack.before:
                await attack.before(made)
            if set_up:
                await set_up(made)
            scores.append(await attack.body(made))
    assert not wrong, f"{attack.id}: {wrong}"
    return Result(attack, *scores, time.monotonic() - started)
