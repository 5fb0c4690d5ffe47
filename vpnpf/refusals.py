"""Logins that a provider refused, remembered over a restart: the wrong password is not tried again and again.

A login is known by a salted hash that takes time to compute (scrypt, RFC 7914), kept where the secrets are. Ends are
wall-clock times, and none lasts longer than it was to last, nor longer than a day: neither a clock that went back nor a
mistake of the provider locks somebody out for ever. A file that cannot be read counts as none: that is one more try, and the
answer to it writes the file anew. What cannot be written is remembered as long as the process lives.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import secrets
from collections.abc import Callable, Iterator, Mapping

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.errors import Unavailable
from vpnpf.interfaces import Credentials, Store
from vpnpf.printable import printable

_MOST = 8
"""Refused logins that are kept; the oldest goes first."""
_LONGEST = 86400.0
"""Seconds that an end may be away."""
_PATIENCE = 3600.0
"""Seconds, the longest that a lock gets by being met again and again."""
_SALT = 16
_CAUSE = 200
"""Characters of a cause."""


class Refusal(Struct, frozen=True):
    """A login that was refused."""

    digest: str
    cause: str
    """Printable."""
    noted: float
    """When, in seconds since 1970."""
    until: float | None = None
    """Until when, likewise; None: until the credentials change."""

    def left(self, wall: float) -> float:
        """Seconds until it is over; infinite if it is not by itself."""
        return math.inf if self.until is None else self.until - wall


class Refusals:
    """Of the logins at one provider. Every call takes some 20 ms of computing: call it in a thread."""

    def __init__(self, store: Store, name: str, wall: Callable[[], float]) -> None:
        self._store = store
        self._name = name
        self._wall = wall
        """Seconds since 1970."""
        self._unsaved: dict[str, object] | None = None
        """What should be in the store, where that could not be written."""

    def find(self, credentials: Credentials) -> Refusal | None:
        """The refusal of these that still holds, or None."""
        value = self._load()
        salt, known = _salt(value), list(_read(value))
        if not salt or not known:
            return None
        digest, now = _digest(salt, credentials), self._wall()
        found = next((each for each in known if each.digest == digest), None)
        if found is None or found.left(now) <= 0:
            return None
        if now < found.noted and found.until is not None:
            # The clock went back: it lasts as long as it was to last, from now on.
            found = replace(found, noted=now, until=now + found.until - found.noted)
            self._save(salt, [*(each for each in known if each.digest != digest), found])
        return found

    def note(self, credentials: Credentials, cause: str, until: float | None) -> None:
        """Remember one."""
        value, now = self._load(), self._wall()
        salt = _salt(value) or secrets.token_bytes(_SALT)
        digest = _digest(salt, credentials)
        shown = printable(cause, _CAUSE)
        end = None if until is None else min(max(until, now + _longer(value, digest, now)), now + _LONGEST)
        known = [each for each in _read(value) if each.digest != digest and each.left(now) > 0]
        self._save(salt, [*known, Refusal(digest, shown, now, end)][-_MOST:])

    def forget(self) -> None:
        """Forget them all."""
        self._unsaved = None
        self._store.forget(self._name)

    def _load(self) -> Mapping[str, object]:
        return self._unsaved or self._store.load(self._name) or {}

    def _save(self, salt: bytes, known: list[Refusal]) -> None:
        value: dict[str, object] = {
            "version": 1,
            "salt": salt.hex(),
            "refused": [
                {"digest": each.digest, "cause": each.cause, "noted": each.noted, "until": each.until} for each in known
            ],
        }
        self._unsaved = value
        with contextlib.suppress(Unavailable):
            self._store.save(self._name, value)
            self._unsaved = None


def _longer(value: Mapping[str, object], digest: str, now: float) -> float:
    """Seconds that a login is to be locked for at least: of one that was locked until just now, twice as long as then."""
    for each in _read(value):
        if each.digest == digest and each.until is not None:
            lasted = each.until - each.noted
            if 0 <= now - each.until <= 2 * lasted:
                return min(2 * lasted, _PATIENCE)
    return 0.0


def _salt(value: Mapping[str, object]) -> bytes:
    try:
        salt = bytes.fromhex(str(value.get("salt", "")))
    except ValueError:
        return b""
    return salt if len(salt) == _SALT else b""


def _read(value: Mapping[str, object]) -> Iterator[Refusal]:
    """What of a value can be used."""
    kept = value.get("refused")
    for each in kept if isinstance(kept, list) else ():
        match each:
            case {"digest": str(digest), "cause": str(cause), "noted": int() | float() as noted, "until": until}:
                # An end that is none or far off in the future was not written by us.
                if until is None:
                    yield Refusal(digest, cause, float(noted))
                elif isinstance(until, int | float) and math.isfinite(until) and until - noted <= _LONGEST:
                    yield Refusal(digest, cause, float(noted), float(until))
            case _:
                pass


def _digest(salt: bytes, credentials: Credentials) -> str:
    # With the lengths, so that no other pair makes the same text.
    text = f"{len(credentials.username)}:{credentials.username}:{credentials.password}".encode(errors="surrogatepass")
    return hashlib.scrypt(text, salt=salt, n=2**13, r=8, p=1).hex()
