"""Who is not to be asked for a token for a while, since he gave none: an account may only be tried so often. Pure."""

from __future__ import annotations

from typing import NamedTuple

from vpnpf.api import Credentials

PAUSES = (0.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds for which a service is not asked again, after the first round, the second and so on, in which nobody gave a token.
The first may have been a hiccup."""
LONGEST_UNHEARD = 300.0
"""The longest pause of one that could not be reached at all: then it is rather this machine's network."""

Key = tuple[str, bool]
"""URL, and whether it is asked through the tunnel: what cannot be reached by one way can be by the other."""


class Found(NamedTuple):
    """What came of asking a service that gave no token."""

    why: str
    tells: int
    """How much that tells, next to what came of others."""
    hint: str = ""
    silent: bool = False
    heard: bool = False
    """Whether it was the service that answered."""


class _Pause(NamedTuple):
    rounds: int
    ends: float
    found: Found


class Pauses:
    """The pauses of an account."""

    def __init__(self) -> None:
        self._by_key: dict[Key, _Pause] = {}
        self._of: Credentials | None = None

    def begin(self, credentials: Credentials) -> None:
        """Other credentials than before are a new chance."""
        if credentials != self._of:
            self._of = credentials
            self.clear()

    def resting(self, key: Key, now: float) -> Found | None:
        """What came of it the last time, while it is not to be asked; else None."""
        pause = self._by_key.get(key)
        return pause.found if pause is not None and pause.ends > now else None

    def rest(self, key: Key, found: Found, now: float) -> None:
        """Nobody gave a token, and this is what came of asking here."""
        before = self._by_key.get(key)
        rounds = before.rounds + 1 if before else 1
        longest = PAUSES[-1] if found.heard else LONGEST_UNHEARD
        seconds = min(longest, PAUSES[min(rounds, len(PAUSES)) - 1])
        self._by_key[key] = _Pause(rounds, now + seconds, found)

    def clear(self) -> None:
        """Somebody gave one."""
        self._by_key.clear()
