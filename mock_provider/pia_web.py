"""The provider's services outside its tunnels: logins at several places, and the list of servers.

web = PiaWeb(lab.internet, account, catalogue)      # an async context manager
web.names                                            # what a resolver has to answer
web.www, web.apiv2, web.proxy, web.list              # each an Https, with faults of its own

Each site has an address of its own, so that one can be refused while the next answers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

from mock_provider.host import Host
from mock_provider.https import Answer, Asked, Https
from mock_provider.pia_account import PiaAccount
from mock_provider.pia_list import Catalogue
from mock_provider.pia_pki import web_authority

WWW, APIV2, PROXY = "www.privateinternetaccess.com", "apiv2.privateinternetaccess.com", "apiv2.piaproxy.net"
LIST = "serverlist.piaservers.net"
ADDRESSES = {WWW: "203.0.113.81", APIV2: "203.0.113.82", PROXY: "203.0.113.83", LIST: "203.0.113.84"}
HTTPS = 443
BASE = "/api/client/v2/"
NOT_FOUND = Answer(404, "<html><body>Not Found</body></html>\n", {"Content-Type": "text/html"})


class Logins:
    """Answers what has to do with the account, by path."""

    def __init__(self, account: PiaAccount) -> None:
        self._account = account

    async def answer(self, asked: Asked) -> Answer:
        """One request."""
        account, where = self._account, f"{asked.host}{asked.path}"
        match asked.method, asked.path:
            case "POST", "/api/client/v2/token" | "/apiv2/token":
                form = asked.form
                return account.login(where, form.get("username", ""), form.get("password", ""))
            case "POST", "/api/client/v2/expire_token" | "/apiv2/expire_token":
                return account.end(asked.headers.get("authorization", "").removeprefix("Token "))
            case "GET", "/authv3/generateToken" | "/gtoken/generateToken":
                return account.login(where, *asked.basic, legacy=True)
            case _:
                return NOT_FOUND


class PiaWeb:
    """Sites of the web; an async context manager."""

    def __init__(self, host: Host, account: PiaAccount, catalogue: Catalogue) -> None:
        self._host = host
        self._catalogue = catalogue
        logins = Logins(account)
        self.www, self.apiv2, self.proxy = (self._site(name, logins.answer) for name in (WWW, APIV2, PROXY))
        self.list = self._site(LIST, self._listed)
        self._stack = contextlib.AsyncExitStack()

    def _site(self, name: str, answer: Callable[[Asked], Awaitable[Answer]]) -> Https:
        context = web_authority().context(name)
        return Https(self._host, (ADDRESSES[name],), HTTPS, {name: context}, answer)

    @property
    def sites(self) -> tuple[Https, ...]:
        """All of them."""
        return self.www, self.apiv2, self.proxy, self.list

    @property
    def names(self) -> dict[str, str]:
        """Addresses of the sites' names."""
        return dict(ADDRESSES)

    async def __aenter__(self) -> Self:
        batch = "".join(f"addr add {address}/24 dev eth0\n" for address in ADDRESSES.values())
        await self._host.must(("ip", "-batch", "-"), stdin=batch)
        try:
            for site in self.sites:
                await self._stack.enter_async_context(site)
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def _listed(self, asked: Asked) -> Answer:
        served = {f"/vpninfo/servers/v{number}" for number in (4, 5, 6, 7)}
        return self._catalogue.answer() if asked.method == "GET" and asked.path in served else NOT_FOUND
