"""A provider that makes the tunnel's configuration, over the lab's real servers: the API is a plain HTTP service at each
server's public address, and a key that it is told is let in.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Self
from urllib.parse import parse_qsl

from mock_provider.capture import leak
from mock_provider.openvpn import PASSWORD, USERNAME
from mock_provider.sites import Site
from vpnpf.api import Manifest, Misconfigured, Transient
from vpnpf.interfaces import Configuration, Offer, OutsideIO, Region
from vpnpf.io.clock import BootClock
from vpnpf.model import Endpoint, Protocol
from vpnpf.supply import Supply
from vpnpf.testing import FakeAccount
from vpnpf_providers.natpmp import NatPmp

API = 1337
IDENTITY = "counter alice"


class Counter(NatPmp):
    """`provider = "counter"`: not shipped; tests hand it in, or register it for a run."""

    manifest: ClassVar[Manifest] = Manifest(
        id="counter",
        name="Counter",
        summary="a provider that makes the configuration",
        verified="mock",
        supplies=("wireguard", "openvpn"),
        max_forwards=4,
    )
    servers: ClassVar[tuple[tuple[str, int], ...]] = (("198.51.100.10", 51820),)
    """Public addresses, and the ports of their tunnels."""
    transport: ClassVar[Protocol] = Protocol.UDP

    async def regions(self, io: OutsideIO) -> tuple[Region, ...]:
        """One."""
        del io
        return (Region("lab", "Lab", "NL", forwards=True),)

    async def offers(self, io: OutsideIO, tunnel_type: str) -> tuple[Offer, ...]:
        """All that are known."""
        del io, tunnel_type
        return tuple(
            Offer(
                Endpoint(address, port, self.transport), IDENTITY, f"lab{number}", f"Lab {number}", (service(address),)
            )
            for number, (address, port) in enumerate(self.servers, 1)
        )

    async def configure(self, io: OutsideIO, tunnel_type: str, offer: Offer, *, again: bool = False) -> Configuration:
        """Tell the server our key, if it was not told before or has forgotten it."""
        name = f"key-{offer.endpoint.address}"
        kept = io.store.load(name)
        if kept is None or "text" not in kept or again:
            private = str(kept["private"]) if kept else await asyncio.to_thread(wg, "genkey")
            io.store.save(name, {"private": private})
            public = await asyncio.to_thread(wg, "pubkey", private)
            form = {"key": public, "type": tunnel_type, "again": str(again)}
            answer = await io.http.request("POST", f"http://{offer.endpoint.address}:{API}/", form=form)
            if answer.status == 403:
                raise Misconfigured("telling the key", "the account is closed", "pay")
            if answer.status != 200:
                raise Transient("telling the key", f"HTTP {answer.status}")
            kept = {**json.loads(answer.body), "private": private}
            io.store.save(name, kept)
        text = str(kept["text"]).replace("PRIVATE", str(kept["private"]))
        return Configuration(text, str(kept["gateway"]), str(kept["username"]), str(kept["password"]))


def service(address: str) -> Endpoint:
    """The API of a server."""
    return Endpoint(address, API, Protocol.TCP)


def wg(command: str, text: str = "") -> str:
    return subprocess.run(("wg", command), input=text, text=True, capture_output=True, check=True).stdout.strip()


def supply(profile: str, provider: Counter | None = None, *, tunnel_type: str = "wireguard") -> Supply:
    """As wiring makes it, with an account that is remembered by this process alone; it can be pickled."""
    return Supply(provider or Counter({}), tunnel_type, profile, FakeAccount(), BootClock())


def past_both(packet: Any) -> bool:
    """What leaves beside the tunnel, and is not for the API."""
    return leak()(packet) and (packet.destination, packet.destination_port) != ("198.51.100.10", API)


class Registrar:
    """The API of one server; an async context manager."""

    def __init__(self, site: Site, port: int = API) -> None:
        self._site = site
        self._port = port
        self.keys: dict[str, str] = {}
        """Address in the tunnel by key, of those that are let in."""
        self.asked: list[Mapping[str, str]] = []
        self.renumber = False
        """Whether a key that comes again gets another address."""
        self.status = 200
        self.endpoint = ""
        """Of the text that is given out; empty: as it is."""
        self.password = PASSWORD
        self._next = 50
        self._changed = asyncio.Event()

    async def __aenter__(self) -> Self:
        listening = self._site.server.host.socket(socket.AF_INET, socket.SOCK_STREAM)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self._site.place.address, self._port))
        self._server = await asyncio.start_server(self._talk, sock=listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def forget(self) -> None:
        """Nobody's key is known any more."""
        for key in self.keys:
            await self._site.server.revoke(replace(self._site.customer, public_key=key))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds of what was asked. Raises TimeoutError."""
        async with asyncio.timeout(10):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.partition("content-length:")[2].partition("\r\n")[0] or 0)
            body = (await reader.readexactly(length)).decode()
            form = dict(parse_qsl(body))
            self.asked.append(form)
            self._changed.set()
            said = json.dumps(await self._answer(form) if self.status == 200 else {}).encode()
            writer.write(f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(said)}\r\n\r\n".encode() + said)
            await writer.drain()
        writer.close()

    async def _answer(self, form: Mapping[str, str]) -> dict[str, str]:
        customer, place = self._site.customer, self._site.place
        answer = {"gateway": place.gateway, "username": "", "password": ""}
        if form["type"] == "openvpn":
            return {**answer, "text": customer.config, "username": USERNAME, "password": self.password}
        key = form["key"]
        if key not in self.keys or self.renumber:
            self.keys[key] = f"{place.gateway[:-1]}{self._next}"
            self._next += 1
        await self._site.server.admit(replace(customer, public_key=key, address=self.keys[key]))
        text = (
            f"[Interface]\nPrivateKey = PRIVATE\nAddress = {self.keys[key]}/32\nDNS = {place.gateway}\n"
            f"[Peer]\nPublicKey = {customer.server_key}\nAllowedIPs = 0.0.0.0/0\n"
            f"Endpoint = {self.endpoint or f'{place.address}:{place.port}'}\n"
        )
        return {**answer, "text": text}


def register(directory: Path) -> dict[str, str]:
    """Make a package that registers the provider, below a directory; returns the environment for a run that is to find it."""
    info = directory / "counter-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: counter\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vpnpf.providers]\ncounter = {Counter.__module__}:{Counter.__name__}\n")
    root = Path(__file__).parents[2]
    return {"PYTHONPATH": f"{directory}:{root}:{root / 'providers'}"}
