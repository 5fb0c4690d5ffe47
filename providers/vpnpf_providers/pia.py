"""Private Internet Access: tunnels to the servers of its list, and a port over https at the tunnel's gateway.

- A login brings a token for a day (`pia_token`), the signed list says which servers there are (`pia_list`), a WireGuard key is
  registered at one of them (`pia_tunnel`).
- The port is signed for about two months, and bound every few minutes (`pia_ports`, `pia_lease`). The same signature is bound again after a
  restart and on another server, so the port stays.
- One port a tunnel, of the server's choice; it arrives under the same number, for TCP and UDP. Nothing can be unbound.
- No port forwarding in the United States, nor in regions that the list says have none. No IPv6 in the tunnel.

What is said here of PIA is from the public sources that the modules name, and was not tried against the real service.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, cast

from vpnpf.api import (
    Configuration,
    Credentials,
    Endpoint,
    Failure,
    KeyPair,
    Lease,
    Manifest,
    MappingRequest,
    Misconfigured,
    Offer,
    Option,
    OutsideIO,
    Protocol,
    ProviderIO,
    Region,
    Tunnel,
    Unsupported,
    Untrusted,
    key_pair,
    verified,
)
from vpnpf_providers.pia_answer import server_name
from vpnpf_providers.pia_authority import AUTHORITY, LIST_KEY
from vpnpf_providers.pia_list import (
    FRESH,
    LOGINS,
    META,
    METAS,
    OPENVPN_TCP,
    OPENVPN_UDP,
    WIREGUARD,
    Listed,
    Listing,
    Server,
    ServerList,
)
from vpnpf_providers.pia_ports import Ports
from vpnpf_providers.pia_regions import AUTO, as_region, chosen, kept_distances, rank_of
from vpnpf_providers.pia_token import Tokens
from vpnpf_providers.pia_tunnel import openvpn, register, wireguard

MOST_OFFERS = 12
KEY_BYTES = 32
IN_VAIN = 3
"""Configurations in a row that were of no use, after which the list is asked for anew: the servers in it may be gone."""


def _wrong_region(value: object) -> str:
    return "" if all(each.strip() for each in str(value).split(",")) else "empty, or an empty name between commas"


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
        account_user="p and seven digits",
        keeps_port=True,
        domains=("privacy.network", "privateinternetaccess.com"),
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
        self._tokens = Tokens(self._authority, self._list.doubt)
        self._keys: dict[tuple[str, str], KeyPair] = {}
        """By name and address of the server."""
        self._in_vain = 0
        """Configurations that were not to be had, or led nowhere, since a port was got last."""
        self._ports = Ports(self._list, self._tokens, self._authority, self.lifetime)

    # -- the account ------------------------------------------------------------------------------

    async def log_in(self, io: OutsideIO, credentials: Credentials) -> None:
        """One login; its token is kept. Raises Misconfigured if it is refused, Transient if nobody could be asked."""
        metas = self._list.metas(io, rank=rank_of(self._wanted, kept_distances(io)[0]))
        await self._tokens.log_in(io, credentials, metas, names_first=True)

    async def log_out(self, io: OutsideIO) -> None:
        """End the kept token."""
        await self._tokens.log_out(io)

    # -- the tunnel -------------------------------------------------------------------------------

    async def regions(self, io: OutsideIO) -> tuple[Region, ...]:
        """All regions of the list. Raises Failure."""
        listing = await self._list.current(io, FRESH)
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
        self._in_vain += again  # it took the last one, and was silent then
        try:
            return await self._configured(io, tunnel_type, offer, again=again)
        except Failure as error:
            self._in_vain += not error.anywhere
            raise
        finally:
            if self._in_vain >= IN_VAIN:
                self._list.suspect()

    async def _configured(self, io: OutsideIO, tunnel_type: str, offer: Offer, *, again: bool) -> Configuration:
        metas = self._list.metas(io, tuple(service.address for service in offer.services))
        if tunnel_type != "wireguard":
            return await self._login(io, offer, metas, again=again)
        machine = (offer.server_name, offer.endpoint.address)
        if machine not in self._keys:
            self._keys[machine] = key_pair(io.random_bytes(KEY_BYTES))
        keys = self._keys[machine]
        try:
            registered = await self._tokens.use(
                io, metas, lambda token: register(io, offer, self._authority, keys, token), names_first=False
            )
        except Untrusted:
            self._list.doubt()
            raise
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
        services = [Endpoint(each.address, LOGINS, Protocol.TCP) for each in metas[:METAS]]
        if service == WIREGUARD:
            services.insert(0, Endpoint(server.address, where, Protocol.TCP))
        return Offer(
            endpoint=Endpoint(server.address, where, protocol),
            identity="pia",
            server_name=server.name,
            place=f"{region.name} ({server.name})",
            services=tuple(services),
        )

    # -- the port ---------------------------------------------------------------------------------

    async def acquire(self, io: ProviderIO, tunnel: Tunnel, request: MappingRequest) -> Lease:
        """Get or renew a lease. Raises Failure."""
        lease = await self._ports.acquire(io, tunnel, request)
        self._in_vain = 0
        return lease

    async def release(self, io: ProviderIO, tunnel: Tunnel, lease: Lease) -> None:
        """PIA knows no such request: the port ends a quarter of an hour after it was bound last."""
        del io, tunnel, lease
