"""Acme VPN, which does not exist: a provider that gives its ports by HTTP inside the tunnel, for a token.

    POST https://api.acme-vpn.example/v1/token    user name and password: 200 {"token": "..."}
    GET http://GATEWAY:8080/v1/port?device=NAME   200 {"port": 41877, "seconds": 3600, "address": "198.51.100.11"}
    DELETE http://GATEWAY:8080/v1/port?device=NAME

Asked again, it gives the same port for longer. The token ends after a day, and is answered with 401 then.

Source: none. In a provider of yours, say here where each fact comes from, and which of them you could not confirm.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar, cast

from vpnpf.api import (
    AccountIO,
    Credentials,
    HttpResponse,
    Lease,
    LeaseLost,
    Manifest,
    MappingRequest,
    Misconfigured,
    Option,
    OutsideIO,
    ProviderIO,
    Transient,
    Tunnel,
    Unsupported,
)

LONGEST_WAIT = 3600.0
"""Seconds; whatever an answer says of trying again, it is not later than that."""
PORTS = range(1, 65536)
UNAUTHORIZED, NOT_FOUND = 401, 404
_TOKEN = re.compile(r"[A-Za-z0-9._-]{1,512}")
_ADDRESS = re.compile(r"[0-9]{1,3}(\.[0-9]{1,3}){3}")
_SECONDS = re.compile(r"[0-9]{1,6}")


def _wrong_device(value: object) -> str:
    return "" if re.fullmatch(r"[a-z0-9-]{1,32}", str(value)) else "not 1 to 32 of a to z, 0 to 9 and -"


class Acme:
    """`provider = "acme"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="acme",
        name="Acme VPN",
        summary="one port a device, for an hour at a time",
        verified="mock",
        options=(Option("device", str, 'name of this machine at Acme; "vpnpf" if not given', _wrong_device),),
        account=True,
        help="Buy the plan Acme Plus, download the WireGuard file of any server but those in Atlantis, and run "
        "`vpnpf login acme`.",
    )
    login_url: ClassVar[str] = "https://api.acme-vpn.example/v1/token"
    port_url: ClassVar[str] = "http://{gateway}:8080/v1/port?device={device}"

    def __init__(self, options: Mapping[str, object]) -> None:
        self._device = cast("str", options.get("device", "vpnpf"))

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        doing = "asking Acme VPN for a port"
        asked_at = io.now()
        answer = await self._ask(io, tunnel, "GET")
        if answer.status == UNAUTHORIZED:  # the token has ended: once more with a new one
            io.store.forget("token")
            answer = await self._ask(io, tunnel, "GET")
        _check(answer, doing)
        said = _json(answer, doing)
        port, seconds, address = said.get("port"), said.get("seconds"), said.get("address")
        if type(port) is not int or port not in PORTS or type(seconds) is not int or seconds < 1:
            raise Transient(doing, "its answer holds no port")
        return Lease(
            external_port=port,
            internal_port=port,
            protocols=request.spec.protocols,
            granted_at=asked_at,
            lifetime=float(seconds),
            exit_address=address if isinstance(address, str) and _ADDRESS.fullmatch(address) else None,
        )

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """Give the port back. Raises Failure."""
        del lease  # Acme knows by the device which port it is
        answer = await self._ask(io, tunnel, "DELETE")
        if answer.status != NOT_FOUND:  # gone already, which is what was wanted
            _check(answer, "giving the port back to Acme VPN")

    async def log_in(self, io: OutsideIO, credentials: Credentials) -> None:
        """Log in with these, once. Raises Misconfigured if they are refused, Transient if nobody could be asked."""
        await self._log_in(io, credentials)

    async def log_out(self, io: OutsideIO) -> None:
        """Nothing: Acme knows no such request, and the token is removed by whoever calls this."""

    async def _ask(self, io: ProviderIO, tunnel: Tunnel, method: str) -> HttpResponse:
        """One request at the gateway. Raises Failure."""
        url = self.port_url.format(gateway=tunnel.gateway, device=self._device)
        token = await self._token(io)
        return await io.http.request(method, url, headers={"Authorization": f"Bearer {token}"})

    async def _token(self, io: AccountIO) -> str:
        """The token that was kept, or a new one. Raises Failure."""
        kept = (io.store.load("token") or {}).get("token")
        if isinstance(kept, str) and _TOKEN.fullmatch(kept):
            return kept
        credentials = await io.credentials()
        try:
            return await self._log_in(io, credentials)
        except Misconfigured as error:
            await io.refused(credentials, error.cause)
            raise

    async def _log_in(self, io: AccountIO, credentials: Credentials) -> str:
        doing = "logging in at Acme VPN"
        form = {"username": credentials.username, "password": credentials.password}
        answer = await io.http.request("POST", self.login_url, form=form)
        if answer.status == UNAUTHORIZED:
            raise Misconfigured(doing, "wrong user name or password", "vpnpf login acme")
        _check(answer, doing)
        token = _json(answer, doing).get("token")
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Transient(doing, "its answer holds no token")
        io.store.save("token", {"token": token})
        return token


def _check(answer: HttpResponse, doing: str) -> None:
    """Raise for everything but success. What the server wrote is not repeated: it may be anything."""
    match answer.status:
        case 200 | 204:
            return
        case 402:
            raise Misconfigured(doing, "this plan has no port forwarding", "buy the plan Acme Plus")
        case 404:
            raise Unsupported(doing, "this server forwards no ports", "take one that is not in Atlantis")
        case 409:
            raise LeaseLost(doing, "somebody else has the port by now")
        case 429:
            after = answer.headers.get("retry-after", "")
            wait = float(after) if _SECONDS.fullmatch(after) else 60.0
            raise Transient(doing, "too many requests", retry_after=min(LONGEST_WAIT, wait))
        case status:
            raise Transient(doing, f"HTTP {status}")


def _json(answer: HttpResponse, doing: str) -> Mapping[str, object]:
    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise Transient(doing, "its answer is not JSON") from None
    if not isinstance(said, dict):
        raise Transient(doing, "its answer is not an object")
    return said
