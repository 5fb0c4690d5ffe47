"""The keyring of the session (Secret Service, KWallet, ...), asked so that nobody waits for ever and nothing is kept in plain text.

What errors a back end raises, and their texts, are its own: they are named by type, and never shown.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING, TypeVar

from vpnpf.errors import Misconfigured

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

T = TypeVar("T")

SERVICE = "vpnpf"
"""Under which service the keyring keeps our secrets."""
PATIENCE = 10.0
"""Seconds that a keyring has for its answer."""
_KEEPS_NOTHING = "keyring.backends.fail"
_REFUSED = (_KEEPS_NOTHING, "keyring.backends.null", "keyrings.alt")
"""Back ends that keep nothing, or keep it in plain text or under a key that lies beside it."""
_LOWEST = 1
"""Priority below which a back end says of itself that it is not to be recommended."""
QUIET = 60.0
"""Seconds after a locked keyring said no in which it is not asked again: each time it may open a window before a person."""
_ASKING = "keyring"
_SESSION = "DBUS_SESSION_BUS_ADDRESS"
_LOCKED = "it is locked"


class NoKeyring(Misconfigured):
    """There is no keyring that may keep a secret."""


class KeyringShut(Misconfigured):
    """There is one, and it is locked, does not answer or fails."""


class _Locked:
    """When a keyring that was locked may be asked again, on time.monotonic(); one for the process, as the keyring is."""

    until = 0.0


_locked = _Locked()


def session() -> bool:
    """Whether there is a D-Bus session, without which a keyring is out of reach on Linux."""
    return bool(os.environ.get(_SESSION))


def get(name: str, doing: str, way_out: str) -> str | None:
    """The secret of this name, or None. Raises NoKeyring, KeyringShut with `way_out` as the hint.

    It may take `PATIENCE` seconds: call it in a thread.
    """
    return _asked(doing, way_out, lambda keyring: keyring.get_password(SERVICE, name))


def put(name: str, secret: str, doing: str, way_out: str) -> None:
    """Keep a secret, and read it back. As `get`."""

    def put_and_read(keyring: KeyringBackend) -> bool:
        keyring.set_password(SERVICE, name, secret)
        return keyring.get_password(SERVICE, name) == secret

    if not _asked(doing, way_out, put_and_read):
        raise KeyringShut(doing, "it took it and gives back something else", way_out)


def remove(name: str, doing: str, way_out: str) -> bool:
    """Remove a secret; returns whether there was one. As `get`."""

    def look_and_remove(keyring: KeyringBackend) -> bool:
        if keyring.get_password(SERVICE, name) is None:
            return False
        keyring.delete_password(SERVICE, name)
        return True

    return _asked(doing, way_out, look_and_remove)


def _asked(doing: str, way_out: str, ask: Callable[[KeyringBackend], T]) -> T:
    """Ask in a thread that nobody has to wait for: a keyring that is locked asks a person, and may wait for ever."""
    found: Future[T] = Future()

    def answer() -> None:
        try:
            found.set_result(_carefully(doing, way_out, ask))
        except BaseException as error:  # noqa: BLE001 - whatever it is, who waits gets it
            found.set_exception(error)

    hint = f"unlock the keyring, or {way_out}"
    if time.monotonic() < _locked.until:
        raise KeyringShut(doing, _LOCKED, hint)
    if any(thread.name == _ASKING for thread in threading.enumerate()):
        raise KeyringShut(doing, "it still waits for somebody to unlock it", hint)
    threading.Thread(target=answer, name=_ASKING, daemon=True).start()
    try:
        return found.result(PATIENCE)
    except TimeoutError:
        raise KeyringShut(doing, f"no answer in {PATIENCE:g} s", hint) from None


def _carefully(doing: str, way_out: str, ask: Callable[[KeyringBackend], T]) -> T:
    try:
        # Not at the top: it loads D-Bus and more, and most machines that run this headless have no keyring.
        import keyring  # noqa: PLC0415

        backend = keyring.get_keyring()
        if unsafe := next(_unsafe(backend), ""):
            raise NoKeyring(doing, f"this machine has no safe keyring ({unsafe})", way_out)
        return ask(backend)
    except Misconfigured:
        raise
    except Exception as error:  # noqa: BLE001 - back ends raise what they like, and their texts are not ours to show
        kind = type(error).__name__
        locked = "Locked" in kind
        if locked:
            _locked.until = time.monotonic() + QUIET
        cause = _LOCKED if locked else f"it failed ({kind})"
        raise KeyringShut(doing, cause, f"unlock the keyring, or {way_out}") from None


def _unsafe(backend: KeyringBackend) -> Iterator[str]:
    """What of a back end, or of those that it chains, must not get a secret."""
    for inner in getattr(backend, "backends", ()):
        yield from _unsafe(inner)
    # One made from another inherits how that keeps things.
    bases = [each.__module__ for each in type(backend).__mro__]
    bad = next((module for module in bases if module.startswith(_REFUSED)), "")
    if bad.startswith(_KEEPS_NOTHING) and not session():
        yield "there is no D-Bus session"
    elif bad or backend.priority < _LOWEST:
        yield bad or bases[0]
