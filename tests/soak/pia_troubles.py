"""What goes wrong in ninety days with PIA, and when: a hundred troubles, by a seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.contract.pia_world import BROKEN, DENIED, LIST, answer, too_many
from vpnpf.errors import NoAnswer, Refused

if TYPE_CHECKING:
    from tests.soak.pia_profile import Profile

DAY = 86400.0
LASTS = (30, 90, 300, 600, 1500)
"""Seconds; a port that is not bound again ends within 900."""
FORCED_BY = 25 * DAY
"""What forces another port comes before that, so that a signature of 62 days gets old afterwards."""
WITHOUT = ("www.", "apiv2.", "nlamsterdam", "deberlin")
Does = Callable[["Profile"], None]


@dataclass(frozen=True)
class Kind:
    """Something that can go wrong, and how it ends."""

    name: str
    begin: Does
    end: Does
    momentary: bool = False
    forces: bool = False
    """Whether the port cannot stay."""


def _far(**values: object) -> Does:
    def put(profile: Profile) -> None:
        for name, value in values.items():
            setattr(profile.far, name, value)

    return put


def _forget(profile: Profile) -> None:
    profile.far.tokens.clear()
    profile.far.forget_key()


def _both(*does: Does) -> Does:
    def do(profile: Profile) -> None:
        for one in does:
            one(profile)

    return do


def _nothing(_profile: Profile) -> None:
    pass


def _down(*hosts: str) -> Does:
    return lambda profile: profile.far.down.update(hosts)


def _up(profile: Profile) -> None:
    profile.far.down.clear()


def _take(profile: Profile) -> None:
    """Somebody else gets the port, as it was not bound for a while."""
    port = profile.port
    if port is not None:
        profile.far.taken.add((profile.far.current, port))
        profile.far.bound[port] = 0.0


def _server_off(profile: Profile) -> None:
    profile.far.dead.add(profile.far.current)
    profile.far.restart()


def _server_on(profile: Profile) -> None:
    profile.far.dead.clear()


def _gateway(name: str, reply: object) -> Kind:
    return Kind(f"gateway: {name}", _far(forward=reply), _far(forward=None))


KINDS = (
    _gateway("no answer", NoAnswer("asking", "no whole answer within 10 s")),
    _gateway("connection refused", Refused("asking", "connection refused")),
    _gateway("a web page", answer(b"<html>maintenance</html>")),
    _gateway("HTTP 502", BROKEN),
    _gateway("HTTP 500", answer({"status": "ERROR", "message": "internal error"}, 500)),
    _gateway("OK, and no more", answer({"status": "ok"})),
    Kind("gateway: Unauthorized client", _far(unauthorized=True), _far(unauthorized=False)),
    Kind(
        "login: wrong password, until somebody logs in anew",
        _both(_far(login=DENIED), _forget),
        _both(_far(login=None), lambda profile: profile.outside.refusals.clear()),
    ),
    Kind("login: too many, for 120 s", _both(_far(login=too_many(120)), _forget), _far(login=None)),
    Kind("login: too many", _both(_far(login=too_many()), _forget), _far(login=None)),
    Kind("login: no answer", _both(_down(*WITHOUT), _forget), _up),
    Kind("login: HTTP 502", _both(_far(login=BROKEN), _forget), _far(login=None)),
    Kind("list: no answer", _down(LIST), _up),
    Kind("list: changed on its way", _far(tampered=True), _far(tampered=False)),
    Kind("key lost", lambda profile: profile.far.forget_key(), _nothing, momentary=True),
    Kind("server restarted", lambda profile: profile.far.restart(), _nothing, momentary=True),
    Kind("server off", _server_off, _server_on),
    Kind("clock wrong", lambda profile: profile.turn_clock(), lambda profile: profile.set_clock()),
    Kind("suspended", lambda profile: profile.suspend(), _nothing, momentary=True),
    Kind("stopped and started", lambda profile: profile.ask("restart"), _nothing, momentary=True),
    Kind("killed and started", lambda profile: profile.ask("kill"), _nothing, momentary=True),
)
FORCING = (
    Kind("port busy", _take, _nothing, momentary=True, forces=True),
    Kind("signed with another key", lambda profile: profile.far.new_key(), _nothing, momentary=True, forces=True),
)


@dataclass(frozen=True)
class Trouble:
    """Something that goes wrong, and its time."""

    at: float
    """Seconds since the first port."""
    kind: Kind
    lasts: int


def calendar(days: float, count: int, forced: int, seed: int) -> list[Trouble]:
    """So many troubles over the days, `forced` of each kind that forces another port among them; alike in each run."""
    dice = random.Random(seed)
    slot = days * DAY / count
    early = max(1, int(min(FORCED_BY, days * DAY / 3) / slot))
    forcing = [kind for kind in FORCING for _ in range(forced)]
    ordinary = [KINDS[number % len(KINDS)] for number in range(count - len(forcing))]
    dice.shuffle(ordinary)
    places = set(dice.sample(range(early), len(forcing)))
    dice.shuffle(forcing)
    rows = []
    for number in range(count):
        kind = forcing.pop() if number in places else ordinary.pop()
        lasts = 0 if kind.momentary else dice.choice(LASTS)
        rows.append(Trouble(number * slot + dice.uniform(0, slot / 2), kind, lasts))
    return rows
