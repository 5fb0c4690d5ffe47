"""A provider that makes the tunnel's configuration, bound to its account and to the tunnel (`interfaces.TunnelSupply`)."""

from __future__ import annotations

from vpnpf.errors import Failure, Misconfigured, of_the_account
from vpnpf.interfaces import Account, Clock, Configuration, Credentials, Offer, Outside, Store, Supplying
from vpnpf.io.outside import BesideTunnel
from vpnpf.model import TunnelPlan
from vpnpf.tunnels.names import mark_of, table_of

MOST = 16
"""Servers that are gone to, one after the other."""
LOCKED_AGAIN = 300.0
"""Seconds until a locked account is looked at again, however long it is locked: somebody may have logged in meanwhile."""


class Supply:
    """One profile's. `outside` is the machine's own network namespace, if the tunnel has another one."""

    def __init__(
        self,
        provider: Supplying,
        tunnel_type: str,
        profile: str,
        account: Account,
        clock: Clock,
        outside: Outside | None = None,
    ) -> None:
        self._provider = provider
        self._type = tunnel_type
        self._account = account
        self._clock = clock
        self._mark = mark_of(table_of(profile))
        self._outside = outside
        self.servers = 1
        """How many the last offers have, at most 16."""

    async def offers(self) -> tuple[Offer, ...]:
        """As `Supplying.offers`. Raises Failure, which would be the same for any server."""
        try:
            found = await self._provider.offers(self._io(self._account, self._mark), self._type)
        except Failure as error:
            raise of_the_account(error) from error.__cause__
        if not found:
            doing, hint = f"choosing a server of {self._provider.manifest.name}", "choose another region"
            raise of_the_account(Misconfigured(doing, "it offers none", hint))
        self.servers = min(MOST, len(found))
        return found

    async def configure(self, plan: TunnelPlan, offer: Offer, *, again: bool = False) -> Configuration:
        """As `Supplying.configure`. Raises Failure; it tells of one that is the account's, and not the server's."""
        account = _Watched(self._account)
        try:
            return await self._provider.configure(self._io(account, plan.mark), self._type, offer, again=again)
        except Failure as error:
            if account.lets_nobody_in:
                of_the_account(error)
                if error.retry_after is not None:
                    error.retry_after = min(error.retry_after, LOCKED_AGAIN)
            raise

    def _io(self, account: Account, mark: int) -> BesideTunnel:
        return BesideTunnel(account, self._clock, mark, self._outside)


class _Watched:
    """An account that remembers whether it was of no use."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self.lets_nobody_in = False

    @property
    def store(self) -> Store:
        return self._account.store

    async def credentials(self) -> Credentials:
        try:
            return await self._account.credentials()
        except Failure:
            self.lets_nobody_in = True
            raise

    async def refused(self, credentials: Credentials, cause: str, until: float | None = None) -> None:
        self.lets_nobody_in = True
        await self._account.refused(credentials, cause, until)
