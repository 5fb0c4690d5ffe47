"""What a provider can do beside the tunnel: by the machine's own link, with the mark of the tunnel's own packets."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from vpnpf.interfaces import Account, Clock, Credentials, Http, Store
from vpnpf.io.http import HttpClient
from vpnpf.io.reaching import reached
from vpnpf.model import Endpoint


class BesideTunnel:
    """`interfaces.OutsideIO`. The mark is what the packet filter lets out to the services of an offer, and to nothing else."""

    def __init__(self, account: Account, clock: Clock, mark: int) -> None:
        self._account = account
        self._clock = clock
        self._mark = mark
        self._random = random.SystemRandom()

    @property
    def store(self) -> Store:
        """The provider's own values."""
        return self._account.store

    @property
    def http(self) -> Http:
        """HTTP with the mark."""
        return HttpClient(mark=self._mark)

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        return self._clock.now()

    def wall(self) -> float:
        """Seconds since 1970 in UTC."""
        return self._clock.wall()

    def random_bytes(self, count: int) -> bytes:
        """Bytes that nobody can guess."""
        return self._random.randbytes(count)

    async def credentials(self) -> Credentials:
        """As `interfaces.Account.credentials`. Raises Misconfigured."""
        return await self._account.credentials()

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        """As `interfaces.Account.refused`."""
        await self._account.refused(credentials, cause, until)

    async def reach(self, endpoint: Endpoint) -> float:
        """Seconds until a TCP connection stands. Raises Refused, NoAnswer, Transient."""
        raise NotImplementedError

    async def reach_all(self, endpoints: Sequence[Endpoint], within: float) -> Mapping[Endpoint, float]:
        """As `reach` for many; who does not answer in time is left out."""
        return await reached(self.reach, endpoints, within)
