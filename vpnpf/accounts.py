"""Accounts at providers: who one is there, what was refused, and what a provider keeps from one run to the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from vpnpf.errors import Misconfigured
from vpnpf.interfaces import Credentials, Store


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

    def __init__(self, provider: str, store: Store, read: Callable[[], str]) -> None:
        self._provider = provider
        self._store = PrefixedStore(store, f"{provider}-")
        self._read = read

    @property
    def store(self) -> Store:
        """The provider's own values."""
        return self._store

    async def credentials(self) -> Credentials:
        """Who to log in as. Raises Misconfigured."""
        doing = f"reading the account for {self._provider}"
        text = await asyncio.to_thread(self._read)
        username, newline, password = text.partition("\n")
        if not (username and newline and password):
            hint = f"vpnpf login {self._provider}"
            raise Misconfigured(doing, "it is not a user name and a password on two lines", hint)
        return Credentials(username, password)

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """Note that a login failed."""
        raise NotImplementedError
