"""Configurations for PIA's servers: a WireGuard key registered at one, or OpenVPN with a token as login.

Sources: the scripts of PIA's manual-connections (connect_to_wireguard_with_token.sh, connect_to_openvpn_with_token.sh) and its
OpenVPN files of the kind "strong".
"""

from __future__ import annotations

import base64
from typing import NamedTuple
from urllib.parse import quote

from vpnpf.api import AccountIO, Configuration, HttpResponse, KeyPair, Offer, Protocol, Transient, Untrusted
from vpnpf_providers.pia_answer import (
    UNAUTHORIZED,
    address,
    distrusted,
    fields_of,
    is_good,
    message_of,
    port,
    said,
    unexpected,
)
from vpnpf_providers.pia_token import TokenRefused

KEEPALIVE = 25
KEY_LENGTH = 32
USER = 62
"""Characters of a token that are the user name for OpenVPN; the rest is the password."""
_MOST_RESOLVERS = 4
_DOING = "registering a key at {}"
_RETRY = 300.0


class Registered(NamedTuple):
    """What a WireGuard server said of a key."""

    public_key: str
    """The server's."""
    port: int
    gateway: str
    """The server's address in the tunnel."""
    address: str
    """Ours."""
    resolvers: tuple[str, ...]


async def register(io: AccountIO, offer: Offer, authority: str, keys: KeyPair, token: str) -> Registered:
    """Make a WireGuard server know our key. Raises TokenRefused, Untrusted, Transient, and Failure of the request."""
    doing = _DOING.format(offer.server_name)
    query = f"pt={quote(token, safe='')}&pubkey={quote(keys.public, safe='')}"
    url = f"https://{offer.server_name}:{offer.endpoint.port}/addKey?{query}"
    try:
        response = await io.http.request("GET", url, connect_to=offer.endpoint.address, ca=authority)
    except Untrusted as error:
        raise distrusted(doing, error) from None
    if response.status == UNAUTHORIZED or "login failed" in message_of(response):
        hint = "is the subscription still good? vpnpf login pia tries the login anew"
        raise TokenRefused(doing, f"it takes no login by a new token: {said(response, token)}", hint, _RETRY)
    if not is_good(response):
        raise unexpected(doing, response, token, keys.public)
    return read(response, offer, keys.public)


def read(response: HttpResponse, offer: Offer, public_key: str) -> Registered:
    """The answer, all of it checked: it becomes the configuration of a device. Raises Transient."""
    fields = fields_of(response)
    peer = fields.get("peer_ip")
    own = address(peer.removesuffix("/32")) if isinstance(peer, str) else None
    gateway, where, number = (
        address(fields.get("server_vip")),
        address(fields.get("server_ip")),
        port(fields.get("server_port")),
    )
    given = fields.get("dns_servers")
    listed = [address(each) for each in given[:_MOST_RESOLVERS]] if isinstance(given, list) else []
    resolvers = tuple(each for each in listed if each is not None)
    server_key = fields.get("server_key")
    checks = (
        ("server_key", isinstance(server_key, str) and is_key(server_key) and server_key != public_key),
        ("server_ip", where == offer.endpoint.address),
        ("server_port", number == offer.endpoint.port),
        ("server_vip", gateway is not None and gateway != where),
        ("peer_ip", own is not None and own not in {gateway, where}),
        ("peer_pubkey", fields.get("peer_pubkey") == public_key),
        ("dns_servers", bool(resolvers) and len(resolvers) == len(listed)),
    )
    wrong = [name for name, good in checks if not good]
    if wrong or not isinstance(server_key, str) or gateway is None or own is None or number is None:
        hint = "it is tried again; another server may do better"
        raise Transient(_DOING.format(offer.server_name), f"its answer is wrong in {', '.join(wrong)}", hint)
    return Registered(server_key, number, gateway, own, resolvers)


def wireguard(offer: Offer, keys: KeyPair, registered: Registered) -> Configuration:
    """The tunnel to a server that knows our key."""
    lines = (
        "[Interface]",
        f"PrivateKey = {keys.private}",
        f"Address = {registered.address}/32",
        f"DNS = {', '.join(registered.resolvers)}",
        "[Peer]",
        f"PublicKey = {registered.public_key}",
        "AllowedIPs = 0.0.0.0/0",
        f"Endpoint = {offer.endpoint.address}:{registered.port}",
        f"PersistentKeepalive = {KEEPALIVE}",
    )
    return Configuration("\n".join(lines) + "\n", gateway=registered.gateway)


def openvpn(offer: Offer, authority: str, token: str) -> Configuration:
    """The tunnel to a server that takes the token."""
    lines = (
        "client",
        "dev tun",
        f"proto {'tcp' if offer.endpoint.protocol is Protocol.TCP else 'udp'}",
        f"remote {offer.endpoint.address} {offer.endpoint.port}",
        "nobind",
        "data-ciphers AES-256-GCM:AES-128-GCM:AES-256-CBC",
        "cipher AES-256-CBC",
        "auth SHA256",
        "remote-cert-tls server",
        f"verify-x509-name {offer.server_name} name",
        "auth-user-pass",
        "compress",
        # The token ends after a day, the tunnel need not.
        "reneg-sec 0",
        "<ca>",
        authority.strip(),
        "</ca>",
    )
    user = USER if len(token) > USER else len(token) // 2
    return Configuration("\n".join(lines) + "\n", username=token[:user], password=token[user:])


def is_key(text: str) -> bool:
    """Whether it is a key of WireGuard, in base64 of one spelling."""
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return len(raw) == KEY_LENGTH and any(raw) and base64.b64encode(raw).decode() == text
