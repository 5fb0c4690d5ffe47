"""Accounts at providers: who one is there, what was refused, and what a provider keeps from one run to the next."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping

from vpnpf.errors import Failure, Misconfigured, Transient, of_the_account
from vpnpf.interfaces import Credentials, Store
from vpnpf.refusals import Refusals

_MINUTE, _HOUR = 60, 3600


class PrefixedStore:
    """A part of a store that is one provider's own (`interfaces.Store`)."""

    def __init__(self, store: Store, prefix: str) -> None:
        self._store = store
        self._prefix = prefix

    def load(self, name: str) -> dict[str, object] | None:
        """As `Store.load`."""
        return self._store.load(self._prefix + name)

    def save(self, name: str, value: Mapping[str, object]) -> None:
        """As `Store.save`."""
        self._store.save(self._prefix + name, value)

    def forget(self, name: str) -> None:
        """As `Store.forget`."""
        self._store.forget(self._prefix + name)


class StoredAccount:
    """An account whose user name and password are read when they are needed (`interfaces.Account`)."""

    def __init__(
        self, provider: str, store: Store, read: Callable[[], str], wall: Callable[[], float] = time.time
    ) -> None:
        self._provider = provider
        self._store = PrefixedStore(store, f"{provider}-")
        self._read = read
        """User name and password on two lines. Raises Misconfigured."""
        self._refusals = Refusals(store, f"refused-{provider}", wall)
        self._wall = wall

    @property
    def store(self) -> Store:
        """The provider's own values."""
        return self._store

    async def credentials(self) -> Credentials:
        """Who to log in as. Raises Misconfigured; Transient with `retry_after` while a login is locked for some time."""
        try:
            return await asyncio.to_thread(self._credentials)
        except Failure as error:
            raise of_the_account(error) from error.__cause__

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """As `interfaces.Account.refused`; never raises."""
        await asyncio.to_thread(self._refusals.note, credentials, cause, until)

    def accept(self) -> None:
        """A login was good: whatever was refused before may be tried again."""
        self._refusals.forget()

    def _credentials(self) -> Credentials:
        found = parse(self._read(), self._provider)
        refusal = self._refusals.find(found)
        if refusal is None:
            return found
        doing, again = f"logging in to {self._provider}", f"vpnpf login {self._provider}"
        if refusal.until is None:
            hint = f"`{again}` tries another user name or password, or the same ones once more"
            raise Misconfigured(doing, f"user name or password was refused: {refusal.cause}", hint)
        left = max(1.0, refusal.left(self._wall()))
        cause = f"no login for {_in_words(left)} more: {refusal.cause}"
        raise Transient(doing, cause, f"wait, or try it at once: {again}", left)


def parse(text: str, provider: str) -> Credentials:
    """User name and password from two lines. Raises Misconfigured."""
    lines = text.rstrip("\r\n").split("\n")
    username, password = (lines[0].rstrip("\r"), lines[1]) if len(lines) == 2 else ("", "")  # noqa: PLR2004
    if not username or not password:
        doing = f"reading the account for {provider}"
        hint = f"write the user name into the first line and the password into the second, or: vpnpf login {provider}"
        raise Misconfigured(doing, "it is not a user name and a password on two lines", hint)
    return Credentials(username, password)


def _in_words(seconds: float) -> str:
    whole = math.ceil(seconds)
    if whole < 2 * _MINUTE:
        return f"{whole} s"
    return f"{math.ceil(whole / _MINUTE)} minutes" if whole < 2 * _HOUR else f"{math.ceil(whole / _HOUR)} hours"
