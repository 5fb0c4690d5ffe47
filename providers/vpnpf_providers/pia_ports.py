"""A port of PIA got and kept: what is bound, when there is a new signature, and what it means that nobody answers."""

from __future__ import annotations

import contextlib

from vpnpf.api import (
    Failure,
    Lease,
    LeaseLost,
    MappingRequest,
    Misconfigured,
    ProviderIO,
    Refused,
    Transient,
    Tunnel,
    Unsupported,
    Untrusted,
)
from vpnpf_providers.pia_answer import address, server_name
from vpnpf_providers.pia_lease import Gateway, NotBound, NotTaken, Signed, Unheard, read_token
from vpnpf_providers.pia_list import WIREGUARD, Listed, Server, ServerList
from vpnpf_providers.pia_regions import hint_for, instead, kept_distances
from vpnpf_providers.pia_token import Tokens

UNHEARD = 60.0
"""Seconds without an answer after which a server is taken for one without port forwarding."""
USELESS = 1800.0
"""Seconds for which what is held may be refused in words that nothing is known of; then a new port is asked for."""
RETRY = 300.0
"""Seconds until such a server is asked again."""


class Ports:
    """The forwarded ports of tunnels; one each."""

    def __init__(self, servers: ServerList, tokens: Tokens, authority: str, lifetime: float) -> None:
        self._list = servers
        self._tokens = tokens
        self._authority = authority
        self._lifetime = lifetime
        """Seconds that a port stays bound."""
        self._unheard: tuple[str, float, float] | None = None
        """The gateway that does not answer, since when, and when it was asked last."""
        self._not_taken: tuple[str, float] | None = None
        """What is held and was refused in unknown words, and since when."""

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        held = read_token(request.previous.token) if request.previous else None
        if not (request.renewal and request.previous):
            return await self._acquire(io, tunnel, request, held)
        if held is None:
            doing = f"renewing port {request.previous.external_port}"
            raise LeaseLost(doing, "what was kept of its signature cannot be read")
        try:
            lease = await self._keep_by_list(io, tunnel, await self._gateway(io, tunnel), request, held)
        except NotBound as error:
            raise LeaseLost(error.doing, error.cause, error.hint) from None
        except Unheard as error:
            raise self._waiting(tunnel, error.failure) from None
        except NotTaken as error:
            self._note(io, held)
            raise Transient(error.doing, error.cause, error.hint) from None
        except (Misconfigured, Unsupported) as error:
            # It was bound before, so it can be: what is said now may pass while the port is still ours.
            raise Transient(error.doing, error.cause, error.hint) from None
        self._not_taken = None
        await self._list.refresh(io)
        return lease

    async def _acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest, held: Signed | None) -> Lease:
        gateway = await self._gateway(io, tunnel)
        useless = self._is_useless(io, held)
        try:
            lease = await self._keep_by_list(io, tunnel, gateway, request, None if useless else held)
        except NotTaken as error:
            self._note(io, held, anew=useless)
            raise Transient(error.doing, error.cause, error.hint) from None
        except Unheard as error:
            raise await self._silent(io, tunnel, gateway, error.failure) from None
        except Failure:
            self._unheard = None
            raise
        self._unheard = self._not_taken = None
        return lease

    def _note(self, io: ProviderIO, held: Signed | None, *, anew: bool = False) -> None:
        """A server refused what is held; `anew`: or even what was signed in its place."""
        if held is not None and (anew or self._not_taken is None or self._not_taken[0] != held.payload):
            self._not_taken = held.payload, io.now()

    def _is_useless(self, io: ProviderIO, held: Signed | None) -> bool:
        """Whether what is held has been refused for so long that it will not be taken any more."""
        if held is None or self._not_taken is None:
            return False
        payload, since = self._not_taken
        return payload == held.payload and io.now() - since >= USELESS

    async def _keep_by_list(
        self, io: ProviderIO, tunnel: Tunnel, gateway: Gateway, request: MappingRequest, held: Signed | None
    ) -> Lease:
        """As `_keep`, once more by the name that a fresher list has, if the gateway is not who it should be."""
        try:
            return await self._keep(io, gateway, request, held)
        except Untrusted:
            self._list.doubt()
            await self._list.refresh(io)
            place = self._place(io, tunnel)
            if place is None or place[1].name == gateway.name:
                raise
            return await self._keep(io, gateway._replace(name=place[1].name), request, held)

    async def _keep(self, io: ProviderIO, gateway: Gateway, request: MappingRequest, held: Signed | None) -> Lease:
        """Bind what is held, else a new port; that, too, if what is held ends soon. Raises NotBound, Unheard, Failure."""
        try:
            lease = await self._bind(io, gateway, request, held or await self._sign(io, gateway))
        except NotBound:
            return await self._bind(io, gateway, request, await self._sign(io, gateway))
        if held is not None and held.ending(io.wall()):
            # It does not have to be now: what is held is bound, and will be.
            with contextlib.suppress(Failure, Unheard):
                return await self._bind(io, gateway, request, await self._sign(io, gateway))
        return lease

    async def _bind(self, io: ProviderIO, gateway: Gateway, request: MappingRequest, what: Signed) -> Lease:
        granted_at = io.now()
        await gateway.bind(io, what)
        return Lease(
            external_port=what.port,
            internal_port=what.port,
            protocols=request.spec.protocols,
            granted_at=granted_at,
            lifetime=what.lifetime(self._lifetime, io.wall()),
            token=what.as_token(),
        )

    async def _sign(self, io: ProviderIO, gateway: Gateway) -> Signed:
        return await self._tokens.use(io, self._list.metas(io), lambda token: gateway.sign(io, token), names_first=True)

    async def _gateway(self, io: ProviderIO, tunnel: Tunnel) -> Gateway:
        """Where this tunnel's ports are asked for, and by which name. Raises Misconfigured, and Failure of the list."""
        doing = "looking for PIA's port forwarding"
        where = address(tunnel.gateway)
        if where is None:
            hint = "is it a tunnel of PIA? Then set its gateway, 10.x.x.1, as tunnel.gateway"
            raise Misconfigured(doing, "the tunnel does not say its gateway's address", hint)
        name = server_name(tunnel.plan.server_name)
        if name is None:
            await self._list.current(io)
            place = self._place(io, tunnel)
            if place is None:
                hint = "let vpnpf make the tunnel: remove tunnel.config"
                raise Misconfigured(doing, f"{tunnel.plan.endpoint.address} is in no region of PIA's list", hint)
            name = place[1].name
        return Gateway(where, name, self._authority)

    def _place(self, io: ProviderIO, tunnel: Tunnel) -> tuple[Listed, Server] | None:
        listing = self._list.kept(io)
        return listing.place_of(tunnel.plan.endpoint.address) if listing else None

    async def _silent(self, io: ProviderIO, tunnel: Tunnel, gateway: Gateway, error: Transient) -> Failure:
        """What it means that nobody answers at a gateway, by how long that has been so."""
        if isinstance(error, Refused):
            await self._list.refresh(io)
        listing, place = self._list.kept(io), self._place(io, tunnel)
        doing = f"asking {gateway.name} for a port"
        if listing is not None and place is not None and not place[0].forwards:
            nearest = instead(listing, place[0], WIREGUARD, kept_distances(io)[0])
            return Unsupported(doing, f"{place[0].name} has no port forwarding", hint_for(nearest), RETRY)
        name, began, last = self._unheard or ("", 0.0, 0.0)
        if name != gateway.name or io.now() - last > RETRY + UNHEARD:
            began = io.now()
        self._unheard = (gateway.name, began, io.now())
        since = io.now() - began
        if since >= UNHEARD:
            cause = f"it has not answered for {since:.0f} s, so there is no port forwarding here"
            hint = "choose another region with port forwarding: `vpnpf servers pia --port-forwarding` lists them"
            return Unsupported(doing, cause, hint, RETRY)
        return self._waiting(tunnel, error)

    def _waiting(self, tunnel: Tunnel, error: Transient) -> Transient:
        hint = f"is the tunnel's handshake recent? Asked: {tunnel.gateway} through {tunnel.interface}"
        return type(error)(error.doing, error.cause, hint)
