"""What the panels are shown: one frozen value, made anew when something comes in and once a second. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.control.seen import Seen, SeenForward, SeenProof


class Reach(StrEnum):
    """Whether the daemon can be asked."""

    LOOKING = "looking"
    """Not reached yet."""
    ATTACHED = "attached"
    AWAY = "away"
    """It was there and is not: what is shown is what was last known."""


class Rate(Struct, frozen=True):
    """Bytes a second through the tunnel over one span of time."""

    received: float
    sent: float


class View(Struct, frozen=True):
    """A profile, as far as it is known, at one moment."""

    profile: str
    now: float
    """Seconds since 1970."""
    reach: Reach = Reach.LOOKING
    trouble: str = ""
    """Why the daemon cannot be asked, if it cannot."""
    hint: str = ""
    """What to do about that."""
    owner: bool = True
    """Whether it takes commands from us."""
    seen: Seen | None = None
    """None: nothing was heard of it yet."""
    chosen: str = ""
    """Name of the forward that is looked at; empty: the first."""
    rates: tuple[Rate, ...] = ()
    """Oldest first, one each two seconds."""
    inbound: tuple[int, ...] = ()
    """New flows from outside on forwarded ports, by ten seconds, oldest first; the last is still growing."""

    @property
    def forward(self) -> SeenForward | None:
        """The forward that is looked at."""
        forwards = self.seen.forwards if self.seen else ()
        return next((each for each in forwards if each.name == self.chosen), forwards[0] if forwards else None)

    @property
    def port(self) -> int | None:
        """Its external port, if it has one at this moment."""
        return self.forward.external_port if self.forward else None

    def age(self, at: datetime | None) -> float | None:
        """Seconds since then, never less than 0."""
        return None if at is None else max(0.0, self.now - at.timestamp())

    def until(self, at: datetime | None) -> float | None:
        """Seconds until then; less than 0: it is past."""
        return None if at is None else at.timestamp() - self.now


def last(rates: Sequence[Rate]) -> Rate:
    """The newest rate; nothing where there is none."""
    return rates[-1] if rates else Rate(0.0, 0.0)


def next_forward(view: View) -> str:
    """The name of the forward after the one that is looked at; after the last comes the first."""
    names = [each.name for each in view.seen.forwards] if view.seen else []
    if view.forward is None:
        return ""
    return names[(names.index(view.forward.name) + 1) % len(names)]


def worth_a_picture(before: Seen | None, after: Seen) -> bool:
    """Whether more is new than ages and counters: those are shown anew each second anyway, and come about as often."""
    return before is None or _standing(before) != _standing(after)


def _standing(seen: Seen) -> Seen:
    tunnel = replace(seen.tunnel, received=0, sent=0, handshake=None) if seen.tunnel else None
    forwards = tuple(
        replace(
            forward,
            packets=0,
            packets_at=None,
            peers=(),
            client_settings=None,
            proofs={name: SeenProof(proof.ok) for name, proof in forward.proofs.items()},
        )
        for forward in seen.forwards
    )
    return replace(seen, time=_ANY, tunnel=tunnel, forwards=forwards, provider_policy=None)


_ANY = datetime.fromtimestamp(0, UTC)
