"""Private Internet Access: tunnels to the servers of its list, and a port over https at the tunnel's gateway.

- A login brings a token for a day (`pia_token`), the signed list says which servers there are (`pia_list`), a WireGuard key is
  registered at one of them (`pia_tunnel`).
- The port is signed for about two months, and bound every few minutes (`pia_lease`). The same signature is bound again after a
  restart and on another server, so the port stays.
- One port a tunnel, of the server's choice; it arrives under the same number, for TCP and UDP. Nothing can be unbound.
- No port forwarding in the United States, nor in regions that the list says have none. No IPv6 in the tunnel.

What is said here of PIA is from the public sources that the modules name, and was not tried against the real service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from vpnpf.api import (
    AccountIO,
    Configuration,
    Credentials,
    Endpoint,
    Failure,
    KeyPair,
    Lease,
    LeaseLost,
    Manifest,
    MappingRequest,
    Misconfigured,
    Offer,
    Option,
    OutsideIO,
    Protocol,
    ProviderIO,
    Refused,
    Region,
    Transient,
    Tunnel,
    Unsupported,
    key_pair,
    verified,
)
from vpnpf_providers.pia_answer import address, server_name
from vpnpf_providers.pia_authority import AUTHORITY, LIST_KEY
from vpnpf_providers.pia_lease import Gateway, NotBound, Signed, Unheard, read_token
from vpnpf_providers.pia_list import META, OPENVPN_TCP, OPENVPN_UDP, WIREGUARD, Listed, Listing, Server, ServerList
from vpnpf_providers.pia_regions import AUTO, as_region, chosen, hint_for, instead, kept_distances
from vpnpf_providers.pia_token import METAS, Tokens
from vpnpf_providers.pia_tunnel import openvpn, register, wireguard

MOST_OFFERS = 12
UNHEARD = 60.0
"""Seconds without an answer after which a server is taken for one without port forwarding."""
RETRY = 300.0
"""Seconds until such a server is asked again."""
KEY_BYTES = 32


def _wrong_region(value: object) -> str:
    return "" if all(each.strip() for each in str(value).split(",")) else "an empty name between commas"


def _wrong_authority(value: object) -> str:
    text = str(value)
    good = "-----BEGIN CERTIFICATE-----" in text and "-----END CERTIFICATE-----" in text
    return "" if good else "not a certificate in PEM"


def _wrong_key(value: object) -> str:
    try:
        verified(b"", b"", str(value))
    except ValueError as error:
        return str(error)
    return ""


def _wrong_transport(value: object) -> str:
    return "" if value in {"udp", "tcp"} else "not udp or tcp"


OPTIONS = (
    Option(
        "region",
        str,
        f"id or name of a region, or several with commas between them; {AUTO} (if not given) is the nearest with port "
        "forwarding; `vpnpf servers pia` lists them",
        _wrong_region,
    ),
    Option("transport", str, "udp (if not given) or tcp, for OpenVPN", _wrong_transport),
    Option(
        "ca",
        str,
        "certificate authority of PIA's servers, as PEM, if it is another than the one built in",
        _wrong_authority,
    ),
    Option("list_key", str, "key that PIA signs its server list with, as PEM, if it is another one", _wrong_key),
)


class PrivateInternetAccess:
    """`provider = "pia"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="pia",
        name="Private Internet Access",
        summary="one port over https at the tunnel's gateway, kept for two months; it makes its tunnels itself",
        verified="mock",
        options=OPTIONS,
        account=True,
        supplies=("wireguard", "openvpn"),
        help=(
            "Nothing has to be switched on at PIA. `vpnpf login pia` asks for the user name (p and seven digits) and the "
            "password of the account; `vpnpf servers pia --port-forwarding` lists where ports can be had, which is not in the United States."
        ),
    )
    lifetime: ClassVar[float] = 900.0
    """Seconds that a port stays bound."""

    def __init__(self, options: Mapping[str, object]) -> None:
        regions = cast("str", options.get("region", AUTO))
        self._wanted = tuple(each.strip() for each in regions.split(",") if each.strip()) or (AUTO,)
        self._tcp = options.get("transport", "udp") == "tcp"
        self._authority = cast("str", options.get("ca", AUTHORITY))
        self._list = ServerList(cast("str", options.get("list_key", LIST_KEY)))
        self._tokens = Tokens(self._authority)
        self._keys: dict[tuple[str, str], KeyPair] = {}
        """By name and address of the server."""
        self._unheard: tuple[str, float, float] | None = None
        """The gateway that does not answer, since when, and when it was asked last."""

    # -- the account ------------------------------------------------------------------------------

    async def log_in(self, io: OutsideIO, credentials: Credentials) -> None:
        """One login; its token is kept. Raises Misconfigured if it is refused, Transient if nobody could be asked."""
        await self._tokens.log_in(io, credentials, self._metas(io), names_first=True)

    async def log_out(self, io: OutsideIO) -> None:
        """End the kept token."""
        await self._tokens.log_out(io)

    # -- the tunnel -------------------------------------------------------------------------------

    async def regions(self, io: OutsideIO) -> tuple[Region, ...]:
        """All regions of the list. Raises Failure."""
        listing = await self._list.current(io)
        return tuple(as_region(listing, each) for each in listing.regions)

    async def offers(self, io: OutsideIO, tunnel_type: str) -> tuple[Offer, ...]:
        """Servers of the regions that were chosen. Raises Misconfigured, Unsupported, Transient."""
        listing = await self._list.current(io)
        service = self._service(tunnel_type)
        regions = await chosen(io, listing, self._wanted, service)
        found = [
            self._offer(listing, region, server, service) for region in regions for server in region.servers[service]
        ]
        return tuple(found[:MOST_OFFERS])

    async def configure(self, io: OutsideIO, tunnel_type: str, offer: Offer, *, again: bool = False) -> Configuration:
        """Register a key, or hand a token on. Raises Failure."""
        if server_name(offer.server_name) is None:
            raise Misconfigured("making a tunnel to PIA", "the server has no name", "choose it by options.region")
        metas = self._metas(io, tuple(service.address for service in offer.services))
        if tunnel_type != "wireguard":
            return await self._login(io, offer, metas, again=again)
        machine = (offer.server_name, offer.endpoint.address)
        if machine not in self._keys:
            self._keys[machine] = key_pair(io.random_bytes(KEY_BYTES))
        keys = self._keys[machine]
        registered = await self._tokens.use(
            io, metas, lambda token: register(io, offer, self._authority, keys, token), names_first=False
        )
        return wireguard(offer, keys, registered)

    async def _login(self, io: OutsideIO, offer: Offer, metas: Sequence[Server], *, again: bool) -> Configuration:
        token = await self._tokens.get(io, metas, names_first=False)
        if again:
            token = await self._tokens.instead_of(io, metas, token)
        return openvpn(offer, self._authority, token)

    def _service(self, tunnel_type: str) -> str:
        if tunnel_type == "wireguard":
            return WIREGUARD
        if tunnel_type == "openvpn":
            return OPENVPN_TCP if self._tcp else OPENVPN_UDP
        hint = 'set tunnel.type to "wireguard" or "openvpn"'
        raise Unsupported("choosing a server of PIA", "it has none for this kind of tunnel", hint)

    def _offer(self, listing: Listing, region: Listed, server: Server, service: str) -> Offer:
        protocol = Protocol.TCP if service == OPENVPN_TCP else Protocol.UDP
        where = listing.ports[service]
        # Of another region where this one has none: without any there is no new token while all else is blocked.
        metas = region.servers[META] or next((each.servers[META] for each in listing.regions if each.servers[META]), ())
        services = [Endpoint(each.address, listing.ports[META], Protocol.TCP) for each in metas[:METAS]]
        if service == WIREGUARD:
            services.insert(0, Endpoint(server.address, where, Protocol.TCP))
        return Offer(
            endpoint=Endpoint(server.address, where, protocol),
            identity="pia",
            server_name=server.name,
            place=f"{region.name} ({server.name})",
            services=tuple(services),
        )

    def _metas(self, io: AccountIO, addresses: tuple[str, ...] = ()) -> tuple[Server, ...]:
        """Servers that give tokens and can be asked by their address: those at these, else the first of the list."""
        listing = self._list.kept(io)
        found = [each for region in listing.regions for each in region.servers[META]] if listing else []
        here = [each for each in found if each.address in addresses]
        return tuple(dict.fromkeys(here if addresses else found))[:METAS]

    # -- the port ---------------------------------------------------------------------------------

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        held = read_token(request.previous.token) if request.previous else None
        if not (request.renewal and request.previous):
            return await self._acquire(io, tunnel, request, held)
        if held is None:
            doing = f"renewing port {request.previous.external_port}"
            raise LeaseLost(doing, "what was kept of its signature cannot be read")
        try:
            lease = await self._keep(io, await self._gateway(io, tunnel), request, held)
        except NotBound as error:
            raise LeaseLost(error.doing, error.cause, error.hint) from None
        except Unheard as error:
            raise self._waiting(tunnel, error.failure) from None
        except (Misconfigured, Unsupported) as error:
            # It was bound before, so it can be: what is said now may pass while the port is still ours.
            raise Transient(error.doing, error.cause, error.hint) from None
        await self._list.refresh(io)
        return lease

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """PIA knows no such request: the port ends a quarter of an hour after it was bound last."""
        del io, tunnel, lease

    async def _acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest, held: Signed | None) -> Lease:
        gateway = await self._gateway(io, tunnel)
        try:
            lease = await self._keep(io, gateway, request, held)
        except Unheard as error:
            raise await self._silent(io, tunnel, gateway, error.failure) from None
        except Failure:
            self._unheard = None
            raise
        self._unheard = None
        return lease

    async def _keep(self, io: ProviderIO, gateway: Gateway, request: MappingRequest, held: Signed | None) -> Lease:
        """Bind what is held, else a new port; that, too, if what is held ends soon. Raises NotBound, Unheard, Failure."""
        if held is not None and held.ending(io.wall()):
            try:
                return await self._bind(io, gateway, request, await self._sign(io, gateway))
            except (Failure, Unheard):
                pass  # it does not have to be now
        try:
            return await self._bind(io, gateway, request, held or await self._sign(io, gateway))
        except NotBound:
            return await self._bind(io, gateway, request, await self._sign(io, gateway))

    async def _bind(self, io: ProviderIO, gateway: Gateway, request: MappingRequest, what: Signed) -> Lease:
        granted_at = io.now()
        await gateway.bind(io, what)
        return Lease(
            external_port=what.port,
            internal_port=what.port,
            protocols=request.spec.protocols,
            granted_at=granted_at,
            lifetime=what.lifetime(self.lifetime, io.wall()),
            token=what.as_token(),
        )

    async def _sign(self, io: ProviderIO, gateway: Gateway) -> Signed:
        return await self._tokens.use(io, self._metas(io), lambda token: gateway.sign(io, token), names_first=True)

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
