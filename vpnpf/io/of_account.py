"""What a provider can do by whatever way: its account, the time, and what nobody can guess (`interfaces.AccountIO`)."""

from __future__ import annotations

import random

from vpnpf.interfaces import Account, Clock, Credentials, Http, Store


class OfAccount:
    """The part that is the same through the tunnel and beside it; `http` goes the way in question."""

    def __init__(self, account: Account, clock: Clock, http: Http) -> None:
        self._account = account
        self._clock = clock
        self._http = http
        self._random = random.SystemRandom()

    @property
    def http(self) -> Http:
        """HTTP by this way."""
        return self._http

    @property
    def store(self) -> Store:
        """The provider's own values."""
        return self._account.store

    async def credentials(self) -> Credentials:
        """As `interfaces.Account.credentials`. Raises Misconfigured."""
        return await self._account.credentials()

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """As `interfaces.Account.refused`."""
        await self._account.refused(credentials, cause, until)

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        return self._clock.now()

    def wall(self) -> float:
        """Seconds since 1970 in UTC."""
        return self._clock.wall()

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess."""
        return self._random.randbytes(count)
