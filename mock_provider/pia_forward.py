"""The port-forward API: https://CN:19999 at the gateway in the tunnel, and at the server's address through the tunnel.

    GET /getSignature?token=TOKEN              a new port with each call, as a signed payload
    GET /bindPort?payload=P&signature=S        forwards the port to whoever asks; to be repeated, or the forward ends
    GET /ping                                  for those who look for the gateway

forwards.bind_for = 3.0                        # seconds that a bind lasts (900 on the real ones)
forwards.forwards                              # what is forwarded now, by port
await forwards.drop()                          # the server loses its forwards, and says nothing
await forwards.occupy(51999)                   # somebody else has the port
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mock_provider.https import Answer, Asked
from mock_provider.nat import Nat
from mock_provider.natpmp import Dnat
from mock_provider.pia_account import PiaAccount
from vpnpf.model import Protocol

PORT = 19999
BIND_FOR = 900.0
"""Seconds that a forward stays without another bind."""
LEASE_FOR = 62 * 86400.0
"""Seconds that a payload is good for."""
FIRST, LAST = 20000, 59999
"""Ports that are given out."""
SOMEBODY = "192.0.2.1"
"""Another customer, for ports that are taken."""

UNAUTHORIZED_CLIENT = Answer(401, {"status": "ERROR", "message": "Unauthorized client"})
BAD_SIGNATURE = Answer(401, {"message": "bad signature"})
PORT_EXPIRED = Answer(400, {"status": "ERROR", "message": "port expired"})
"""Its status is not known; a client has to go by the text."""


def busy(port: int, *, capital: bool = True) -> Answer:
    """The port is somebody else's on this server; the text begins either way, and there is no status."""
    return Answer(409, {"message": f"{'P' if capital else 'p'}ort {port} is busy. Please use another server"})


@dataclass(frozen=True, slots=True)
class Bound:
    """A bind that succeeded."""

    port: int
    address: str
    message: str
    at: float = field(default_factory=time.monotonic)


@dataclass(slots=True)
class Forward:
    """A port that is forwarded now."""

    port: int
    address: str
    payload: str
    timer: asyncio.TimerHandle | None = None

    @property
    def rules(self) -> tuple[Dnat, ...]:
        return tuple(Dnat(protocol, self.port, self.address, self.port) for protocol in Protocol)


class Signer:
    """Makes payloads, and knows its own again: one for all servers of the provider."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self.lease_for = LEASE_FOR
        """Seconds that the next payloads are good for."""
        self._given: set[int] = set()

    def make(self, port: int | None = None) -> tuple[str, str]:
        """Payload and signature, of a port that was not given out before if none is named."""
        while port is None or (port in self._given and len(self._given) < LAST - FIRST):
            port = FIRST + secrets.randbelow(LAST - FIRST + 1)
        self._given.add(port)
        # Nine digits of the second, as the real ones write it.
        until = datetime.fromtimestamp(int(time.time() + self.lease_for), UTC)
        stamp = f"{until:%Y-%m-%dT%H:%M:%S}.{secrets.randbelow(10**9):09d}Z"
        said = {"token": secrets.token_hex(32), "port": port, "expires_at": stamp}
        payload = base64.b64encode(json.dumps(said).encode()).decode()
        return payload, self._sign(payload)

    def read(self, payload: str, signature: str) -> tuple[int, datetime] | None:
        """Port and end of a payload; None: not one of ours to the byte."""
        if not hmac.compare_digest(signature.encode(), self._sign(payload).encode()):
            return None
        said = json.loads(base64.b64decode(payload))
        return said["port"], datetime.fromisoformat(said["expires_at"])

    def _sign(self, payload: str) -> str:
        return base64.b64encode(hmac.digest(self._key, payload.encode(), hashlib.sha512)).decode()


class PortForwarding:
    """The API of one server, and the forwards that come of it."""

    def __init__(self, nat: Nat, account: PiaAccount, signer: Signer, has: Callable[[str], bool]) -> None:
        self._nat = nat
        self._account = account
        self._signer = signer
        self._has = has
        """Whether an address is one of this server's tunnels."""
        self.bind_for = BIND_FOR
        self.forwards: dict[int, Forward] = {}
        """What is forwarded now, by port."""
        self.bound: list[Bound] = []
        """Every bind that succeeded, in order."""
        self.ended: list[int] = []
        """Ports whose time was up, in order."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._lock = asyncio.Lock()
        """The kernel's rules are changed by one at a time."""

    async def answer(self, asked: Asked) -> Answer:
        """One request."""
        match asked.path:
            case "/ping":
                return Answer(200, {"status": "OK"})
            case "/getSignature" if self._has(asked.client) and self._account.valid(asked.query.get("token", "")):
                payload, signature = self._signer.make()
                return Answer(200, {"status": "OK", "payload": payload, "signature": signature})
            case "/bindPort" if self._has(asked.client):
                return await self._bind(asked)
            case "/getSignature" | "/bindPort":
                return UNAUTHORIZED_CLIENT
            case _:
                return Answer(404, {"status": "ERROR", "message": "not found"})

    async def _bind(self, asked: Asked) -> Answer:
        payload = asked.query.get("payload", "")
        read = self._signer.read(payload, asked.query.get("signature", ""))
        if read is None:
            return BAD_SIGNATURE
        port, until = read
        if until < datetime.now(UTC):
            return PORT_EXPIRED
        async with self._lock:
            there = self.forwards.get(port)
            if there and there.payload != payload:
                return busy(port, capital=bool(port % 2))
            if there and there.address == asked.client:
                message = "timer refreshed"
            else:
                # A connection has one port: what it had before is gone.
                old = [each for each in self.forwards.values() if each.address == asked.client or each is there]
                await self._remove(*old)
                there = self.forwards[port] = Forward(port, asked.client, payload)
                await self._nat.apply((), there.rules)
                message = "port scheduled for add"
            self._wind(there)
        self.bound.append(Bound(port, asked.client, message))
        self._changed.set()
        return Answer(200, {"status": "OK", "message": message})

    async def until(self, condition: Callable[[], object], deadline: float = 10.0) -> None:
        """Wait until something holds of the forwards, or of the binds. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def occupy(self, port: int) -> None:
        """Another customer of this server has the port, from now on and for good."""
        async with self._lock:
            if there := self.forwards.get(port):
                await self._remove(there)
            self.forwards[port] = taken = Forward(port, SOMEBODY, "")
            await self._nat.apply((), taken.rules)

    async def drop(self, *ports: int) -> None:
        """Forget these forwards, or all, and say nothing."""
        async with self._lock:
            await self._remove(*(each for each in list(self.forwards.values()) if not ports or each.port in ports))

    async def stop(self) -> None:
        """No timer goes off any more."""
        for each in self.forwards.values():
            if each.timer:
                each.timer.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _wind(self, forward: Forward) -> None:
        if forward.timer:
            forward.timer.cancel()
        forward.timer = asyncio.get_running_loop().call_later(self.bind_for, self._run_out, forward)

    def _run_out(self, forward: Forward) -> None:
        task = asyncio.create_task(self._end(forward))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end(self, forward: Forward) -> None:
        async with self._lock:
            # It may have been bound again while this waited.
            loop = asyncio.get_running_loop()
            if self.forwards.get(forward.port) is forward and forward.timer and forward.timer.when() <= loop.time():
                self.ended.append(forward.port)
                await self._remove(forward)

    async def _remove(self, *forwards: Forward) -> None:
        for each in forwards:
            if each.timer:
                each.timer.cancel()
            self.forwards.pop(each.port, None)
            await self._nat.apply(each.rules, ())
        self._changed.set()
