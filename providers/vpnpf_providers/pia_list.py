"""PIA's signed list of regions and servers: fetched, verified, kept.

A line of JSON, and after it the signature in base64: RSA PKCS#1 v1.5, SHA-256, over the line without its end. What is kept
is verified again when it is read, so a changed file is no way in.
"""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, cast

from vpnpf.api import AccountIO, Failure, Misconfigured, Transient, Unavailable, Untrusted, verified
from vpnpf_providers.pia_answer import OK, address, distrusted, number, port, said, server_name, shown

URL = "https://serverlist.piaservers.net/vpninfo/servers/v6"
LIMIT = 1 << 20
"""Bytes of the list, headers included."""
FRESH, GOOD = 86400.0, 7 * 86400.0
"""Seconds: an older list than the first is refreshed where that costs no time, which is in the tunnel; one that is older than the
second is asked for before there is one. If none can be had the last one is used, however old: whoever is at its addresses has to
have PIA's certificate all the same."""
APART, DOUBTED_APART = 3600.0, 300.0
"""Seconds between two tries to get a fresher one: usually, and while there is reason to doubt it."""
META, WIREGUARD, OPENVPN_UDP, OPENVPN_TCP = "meta", "wg", "ovpnudp", "ovpntcp"
"""Services, as the list calls them."""
LOGINS = 443
"""The port at which those give tokens, whatever other ports the list says that they have."""
METAS = 2
"""Servers that are asked for a token by their address."""
_PORTS = {META: LOGINS, WIREGUARD: 1337, OPENVPN_UDP: 8080, OPENVPN_TCP: 8443}
"""Where they are if the list does not say."""
_DOING = "reading PIA's server list"
_KEPT = "list"
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_COUNTRY = re.compile(r"[A-Za-z]{2}", re.ASCII)
_RETRY, _SOON = 300.0, 60.0


class Server(NamedTuple):
    """A machine."""

    address: str
    name: str
    """In its certificate."""


class Listed(NamedTuple):
    """A region."""

    id: str
    name: str
    country: str
    """Two letters, upper case; empty: the list does not say."""
    forwards: bool
    offline: bool
    automatic: bool
    """Whether PIA's own client chooses it by itself."""
    virtual: bool
    servers: Mapping[str, tuple[Server, ...]]
    """By service."""


class Listing(NamedTuple):
    """The list."""

    regions: tuple[Listed, ...]
    ports: Mapping[str, int]
    """By service."""

    def place_of(self, server: str) -> tuple[Listed, Server] | None:
        """The region and the server of an address."""
        for region in self.regions:
            for servers in region.servers.values():
                for each in servers:
                    if each.address == server:
                        return region, each
        return None


def split(body: bytes) -> tuple[bytes, bytes]:
    """What is signed, and the signature. Raises ValueError."""
    text, newline, rest = body.partition(b"\n")
    if not newline:
        raise ValueError("no signature")
    return text.removesuffix(b"\r"), base64.b64decode(b"".join(rest.split()), validate=True)


def parse(text: bytes) -> Listing:
    """Read what was signed; what is not understood is left out. Raises ValueError if nothing is left."""
    try:
        whole = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(whole, dict):
        raise ValueError("not an object")  # noqa: TRY004 - it is the value of a text
    found = {region.id: region for region in _regions(whole.get("regions"))}
    if not found:
        raise ValueError("no regions")
    return Listing(tuple(found.values()), _ports(whole.get("groups")))


class ServerList:
    """The list that is used."""

    def __init__(self, key: str) -> None:
        self._key = key
        """The key that it is signed with, in PEM."""
        self._have: tuple[Listing, float] | None = None
        """With the wall clock when it was fetched."""
        self._tried_at: float | None = None
        self._doubted = False
        self._suspect = False

    def suspect(self) -> None:
        """A server of the list was of no use: a list that is older than an hour is refreshed before the next choice."""
        self._suspect = True

    def kept(self, io: AccountIO) -> Listing | None:
        """The list that is there without asking anybody, however old. Raises Misconfigured."""
        if self._have is None:
            self._have = self._load(io)
        return self._have[0] if self._have else None

    def metas(
        self, io: AccountIO, addresses: tuple[str, ...] = (), rank: Callable[[Listed], tuple[float, ...]] | None = None
    ) -> tuple[Server, ...]:
        """Servers that give tokens and can be asked by their address: those at these, else two of the list, by `rank` of their region."""
        listing = self.kept(io)
        regions = listing.regions if listing else ()
        found = [each for region in (sorted(regions, key=rank) if rank else regions) for each in region.servers[META]]
        return tuple(dict.fromkeys(each for each in found if not addresses or each.address in addresses))[:METAS]

    async def current(self, io: AccountIO, good: float = GOOD) -> Listing:
        """A list not older than `good` seconds if it can be had, else the last one. Raises Failure if there is none at all."""
        kept = self.kept(io)
        if kept is not None and not self._due(io, good):
            return kept
        try:
            return await self._fetch(io)
        except Failure:
            if kept is None:
                raise
            return kept

    async def refresh(self, io: AccountIO) -> None:
        """Get a fresher list if it is time for that; what there is stays if none can be had."""
        with contextlib.suppress(Failure):
            self.kept(io)
            if self._due(io, FRESH):
                await self._fetch(io)

    def doubt(self) -> None:
        """A machine is not what the list says of it: a fresher list is wanted, however young this one is."""
        self._doubted = True

    def _due(self, io: AccountIO, good: float) -> bool:
        """Whether what there is, if anything, is too old, and that was not tried to be mended just now."""
        # A clock that went back says nothing of the age.
        good = APART if self._suspect else good
        fresh = self._have is not None and 0 <= io.wall() - self._have[1] < good and not self._doubted
        apart = DOUBTED_APART if self._doubted else APART
        return not fresh and (self._tried_at is None or io.now() - self._tried_at >= apart)

    def _load(self, io: AccountIO) -> tuple[Listing, float] | None:
        kept = io.store.load(_KEPT) or {}
        text, signature, at = kept.get("text"), kept.get("signature"), number(kept.get("at"))
        if not (isinstance(text, str) and isinstance(signature, str) and at is not None):
            return None
        try:
            data = text.encode()
            if not self._is_signed(data, base64.b64decode(signature, validate=True)):
                return None
            return parse(data), at
        except ValueError:
            return None

    async def _fetch(self, io: AccountIO) -> Listing:
        self._tried_at = io.now()
        try:
            response = await io.http.request("GET", URL, limit=LIMIT)
        except Untrusted as error:
            raise distrusted(_DOING, error, _SOON) from None
        if response.status != OK:
            raise Transient(_DOING, f"PIA answered {said(response)}", "it is tried again")
        try:
            text, signature = split(response.body)
        except ValueError:
            hint = "somebody between here and PIA may have answered: is there a login page on this network?"
            raise Transient(_DOING, f"what came is no signed list: {said(response)}", hint) from None
        if not self._is_signed(text, signature):
            hint = "somebody changed it on its way, or PIA has a new key: then set that one as options.list_key"
            raise Misconfigured(_DOING, "its signature is not PIA's, so it is not used", hint, _RETRY)
        try:
            listing = parse(text)
        except ValueError:
            hint = "PIA may have changed its format: is there a newer vpnpf?"
            raise Transient(_DOING, "it is signed, but there are no servers in it", hint) from None
        wall = io.wall()
        with contextlib.suppress(Unavailable):  # it is good for this run all the same
            signed = base64.b64encode(signature).decode()
            io.store.save(_KEPT, {"text": text.decode(), "signature": signed, "at": wall})
        self._have, self._doubted, self._suspect = (listing, wall), False, False
        return listing

    def _is_signed(self, text: bytes, signature: bytes) -> bool:
        try:
            return verified(text, signature, self._key)
        except ValueError:
            hint = "give it as PEM, from BEGIN PUBLIC KEY to END PUBLIC KEY, or remove options.list_key"
            raise Misconfigured(_DOING, "options.list_key is no RSA key", hint) from None


def _regions(value: object) -> Iterator[Listed]:
    for each in value if isinstance(value, list) else ():
        if not isinstance(each, dict):
            continue
        region, name, country = each.get("id"), each.get("name"), each.get("country")
        if not (isinstance(region, str) and _ID.fullmatch(region)):
            continue
        yield Listed(
            id=region,
            name=(shown(name) if isinstance(name, str) else "") or region,
            country=country.upper() if isinstance(country, str) and _COUNTRY.fullmatch(country) else "",
            forwards=each.get("port_forward") is True,
            offline=each.get("offline") is True,
            automatic=each.get("auto_region") is not False,
            virtual=each.get("geo") is True,
            servers=_servers(each.get("servers")),
        )


def _servers(value: object) -> Mapping[str, tuple[Server, ...]]:
    by_service = cast("dict[object, object]", value) if isinstance(value, dict) else {}
    return {service: tuple(dict.fromkeys(_machines(by_service.get(service)))) for service in _PORTS}


def _machines(value: object) -> Iterator[Server]:
    for each in value if isinstance(value, list) else ():
        if isinstance(each, dict):
            where, name = address(each.get("ip")), server_name(each.get("cn"))
            if where is not None and name is not None:
                yield Server(where, name)


def _ports(groups: object) -> Mapping[str, int]:
    by_service = cast("dict[object, object]", groups) if isinstance(groups, dict) else {}
    return {service: _first_port(by_service.get(service)) or usual for service, usual in _PORTS.items()}


def _first_port(value: object) -> int | None:
    for each in value if isinstance(value, list) else ():
        numbers = each.get("ports") if isinstance(each, dict) else None
        for listed in numbers if isinstance(numbers, list) else ():
            if (found := port(listed)) is not None:
                return found
    return None
