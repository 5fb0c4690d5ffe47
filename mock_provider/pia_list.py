"""The signed list of regions and servers, as it is served: a line of JSON, an empty line, a signature in base64.

catalogue = Catalogue(regions, key)
catalogue.trouble = ListTrouble.BAD_SIGNATURE
catalogue.answer()
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mock_provider.https import Answer
from mock_provider.pia_pki import SigningKey

WIREGUARD_PORT = 1337
OPENVPN_UDP_PORT, OPENVPN_TCP_PORT = 8080, 8443
META_PORT = 443
LINE = 76
"""Characters of base64 in a line."""
HUGE = 16 << 20
SERVICES = ("ikev2", "meta", "ovpntcp", "ovpnudp", "wg")


class ListTrouble(StrEnum):
    """What is wrong with the list."""

    NONE = ""
    BAD_SIGNATURE = "a server's address was changed after it was signed"
    OTHER_KEY = "signed by somebody else"
    NO_SIGNATURE = "JSON alone"
    BROKEN = "signed, but no JSON"
    EMPTY = "signed, but without regions"
    HUGE = "signed, and of megabytes"


@dataclass(frozen=True, slots=True)
class ListedServer:
    """A machine of a region."""

    address: str
    cn: str
    """Its name in certificates."""


@dataclass(frozen=True, slots=True)
class ListedRegion:
    """A region as the list has it."""

    id: str
    name: str
    country: str
    servers: tuple[ListedServer, ...]
    port_forward: bool = True
    offline: bool = False
    geo: bool = False


class Catalogue:
    """The list."""

    def __init__(self, regions: Sequence[ListedRegion], key: SigningKey) -> None:
        self.regions = list(regions)
        self._key = key
        self.trouble = ListTrouble.NONE

    def answer(self) -> Answer:
        """The list as it is served now."""
        return Answer(200, self._body(), {"Content-Type": "application/json"})

    def _body(self) -> bytes:
        text = self._json([] if self.trouble is ListTrouble.EMPTY else self.regions)
        match self.trouble:
            case ListTrouble.NO_SIGNATURE:
                return text + b"\n"
            case ListTrouble.BROKEN:
                text = text[: len(text) // 2]
            case ListTrouble.HUGE:
                text = text[:-1] + b" " * HUGE + b"}"
            case _:
                pass
        key = SigningKey() if self.trouble is ListTrouble.OTHER_KEY else self._key
        signature = base64.b64encode(key.sign(text)).decode()
        if self.trouble is ListTrouble.BAD_SIGNATURE:
            text = text.replace(self.regions[0].servers[0].address.encode(), b"203.0.113.80")
        lines = [signature[at : at + LINE] for at in range(0, len(signature), LINE)]
        return text + b"\n\n" + "\n".join(lines).encode() + b"\n"

    @staticmethod
    def _json(regions: Sequence[ListedRegion]) -> bytes:
        groups = {
            "ikev2": [{"name": "ikev2", "ports": [500, 4500]}],
            "meta": [{"name": "meta", "ports": [META_PORT, 8080]}],
            "ovpntcp": [{"name": "openvpn_tcp", "ports": [OPENVPN_TCP_PORT, 80, 443, 853]}],
            "ovpnudp": [{"name": "openvpn_udp", "ports": [OPENVPN_UDP_PORT, 853, 123, 53]}],
            "wg": [{"name": "wireguard", "ports": [WIREGUARD_PORT]}],
        }
        listed = [
            {
                "id": each.id,
                "name": each.name,
                "country": each.country,
                "auto_region": True,
                "dns": f"{each.id.replace('_', '-')}.privacy.network",
                "port_forward": each.port_forward,
                "geo": each.geo,
                "offline": each.offline,
                "servers": {
                    service: [{"ip": server.address, "cn": server.cn} for server in each.servers]
                    for service in SERVICES
                },
            }
            for each in regions
        ]
        return json.dumps({"groups": groups, "regions": listed}, separators=(",", ":")).encode()
