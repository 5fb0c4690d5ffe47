"""Where a WireGuard key is registered: GET https://CN:1337/addKey?pt=TOKEN&pubkey=KEY at the server's own address.

registry.fail_next(LOGIN_FAILED)
registry.spoil_next(peer_pubkey="...")     # this reply differs in these fields
registry.move_next()                       # the next to register gets another address
await registry.forget(key)                 # the server does not know it any more
registry.registered                        # every successful call, the oldest first

The key is that of a peer of the real WireGuard server from then on.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from mock_provider.https import Answer, Asked
from mock_provider.pia_account import PiaAccount
from mock_provider.wireguard import Client, WireGuardServer

LOGIN_FAILED = Answer(200, {"status": "ERROR", "message": "Login failed!"})
UNAUTHORIZED = Answer(401, "Unauthorized\n")
LAST = 250
"""The last octet of the last address that is handed out."""


@dataclass(frozen=True, slots=True)
class Registered:
    """A key that was let in."""

    key: str
    address: str
    token: str


class Registry:
    """Keys of one server."""

    def __init__(self, server: WireGuardServer, account: PiaAccount, dns: tuple[str, ...]) -> None:
        self._server = server
        self._account = account
        self._dns = dns
        self.registered: list[Registered] = []
        """Every key that was let in, in order, again if it came again."""
        self.one_a_token = True
        """Whether a token's earlier key is forgotten when it registers another."""
        self._clients: dict[str, Client] = {}
        self._tokens: dict[str, str] = {}
        self._spoilt: list[dict[str, object]] = []
        self._number = 1
        self._move = False

    @property
    def keys(self) -> tuple[str, ...]:
        """Those that the server knows now."""
        return tuple(self._clients)

    def has(self, address: str) -> bool:
        """Whether a tunnel's address was handed out, and is still good."""
        return any(client.address == address for client in self._clients.values())

    def spoil_next(self, **fields: object) -> None:
        """The next reply says this in these fields, and nothing that is None."""
        self._spoilt.append(fields)

    def move_next(self) -> None:
        """The next to register gets an address that he did not have before."""
        self._move = True

    async def forget(self, key: str = "") -> None:
        """Forget a key, or all of them: their handshakes are not answered any more, and nobody is told."""
        for each in (key,) if key else self.keys:
            client = self._clients.pop(each)
            self._server.clients.remove(client)
            await self._server.revoke(client)

    async def answer(self, asked: Asked) -> Answer:
        """One request."""
        if asked.path != "/addKey" or asked.method != "GET":
            return Answer(404, "Not Found\n")
        token, key = asked.query.get("pt", ""), asked.query.get("pubkey", "")
        if not self._account.valid(token):
            return LOGIN_FAILED
        if not _is_key(key):
            return Answer(200, {"status": "ERROR", "message": "Invalid pubkey"})
        client = await self._admit(key, token)
        place = self._server.place
        reply: dict[str, object] = {
            "status": "OK",
            "server_key": self._server.public_key,
            "server_port": place.port,
            "server_ip": place.address,
            "server_vip": place.gateway,
            "peer_ip": client.address,
            "peer_pubkey": key,
            "dns_servers": list(self._dns),
        }
        reply |= self._spoilt.pop(0) if self._spoilt else {}
        return Answer(200, {name: value for name, value in reply.items() if value is not None})

    async def _admit(self, key: str, token: str) -> Client:
        if self.one_a_token and (earlier := self._tokens.get(token)) and earlier != key and earlier in self._clients:
            await self.forget(earlier)
        known = next((each.address for each in reversed(self.registered) if each.key == key), "")
        if not known or self._move:
            self._number, self._move = self._number + 1, False
            known = f"{self._server.place.gateway[:-1]}{self._number}"
        assert self._number <= LAST
        if key in self._clients:
            await self.forget(key)
        place = self._server.place
        client = Client("", key, self._server.public_key, known, endpoint=f"{place.address}:{place.port}", place=place)
        self._clients[key], self._tokens[token] = client, key
        self._server.clients.append(client)
        await self._server.admit(client)
        self.registered.append(Registered(key, known, token))
        return client


def _is_key(text: str) -> bool:
    try:
        return len(base64.b64decode(text, validate=True)) == 32
    except binascii.Error:
        return False
