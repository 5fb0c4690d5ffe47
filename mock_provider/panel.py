"""The provider's panel: a port switch that belongs to the customer's account, over HTTP in the tunnel, and enforced.

    panel.delay = 2.0                       # seconds from a request to what the kernel does
    await panel.put(ProviderPolicy(PolicyMode.BLOCK_ALL))    # as the customer would on the provider's site
    panel.trouble = Trouble.REFUSED         # see Trouble
    await panel.until(lambda: panel.asked)

    GET /v1/policy, PUT /v1/policy          {"mode": "allow-list", "ports": ["6881/tcp", "8000-8010/udp"]}
    Authorization: Bearer TOKEN

The three options are rules of the server's namespace, before anything gets to the customer: whatever the customer's
own filter says. New flows that are kept out are answered with ICMP administratively prohibited, which tells them
from what the customer's filter drops in silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Self

from mock_provider.host import Host
from mock_provider.mock_vpn import PATH, MockVpn, policy_from, policy_json
from mock_provider.wireguard import Client
from vpnpf.model import PolicyMode, Protocol, ProviderPolicy

PORT = 80
TOKEN = "mock-account-0123456789"
LONGEST = 256 * 1024
"""Bytes of a request."""
PATIENCE = 5.0
"""Seconds that a request may take to come in."""
OPEN_ALL = ProviderPolicy(PolicyMode.OPEN_ALL)

RULES = """
table inet {table} {{
  set open_tcp {{
    type inet_service
    flags interval
    auto-merge
  }}
  set open_udp {{
    type inet_service
    flags interval
    auto-merge
  }}
  chain switch {{
  }}
  chain forward {{
    type filter hook forward priority filter; policy accept
    {customers}
  }}
}}
"""
KEEP_OUT = "reject with icmpx type admin-prohibited"


class Trouble(StrEnum):
    """What is wrong with the panel's answers."""

    NONE = ""
    REFUSED = "401 to every token"
    BUSY = "429, try again in a second"
    BROKEN = "500"
    SLOW = "no answer ever"
    RUBBISH = "a page instead of JSON"
    WRONG_MODE = "a mode that nobody knows"
    WRONG_PORT = "ports that are none"
    DEEP = "JSON nested without end"
    HUGE = "an answer of megabytes"
    ELSEWHERE = "a redirect to the host on the internet"
    CUT_OFF = "half an answer"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that came in."""

    method: str
    client: str
    status: int
    """As answered; 0: not at all."""
    policy: ProviderPolicy | None = None
    """What was asked for, if that was one."""


class Panel:
    """One account's switch; an async context manager."""

    def __init__(
        self,
        host: Host,
        gateway: str,
        customer: Client,
        suffix: str = "",
        *,
        delay: float = 0.0,
        policy: ProviderPolicy = OPEN_ALL,
    ) -> None:
        self._host = host
        self.gateway = gateway
        self.customer = customer
        self._table = f"mock_panel{suffix}"
        self.delay = delay
        """Seconds from a request to what is enforced, and said."""
        self.policy = policy
        """In force."""
        self.token = TOKEN
        self.trouble = Trouble.NONE
        self.asked: list[Asked] = []
        """Every request, in order."""
        self._changed = asyncio.Event()
        self._coming: asyncio.Task[None] | None = None
        self._talks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        customer = self.customer
        lines = [f"ct state new ip daddr {customer.address} jump switch"]
        if customer.address6:
            lines.append(f"ct state new ip6 daddr {customer.address6} jump switch")
        rules = RULES.format(table=self._table, customers="\n    ".join(lines))
        await self._host.must(("nft", "-f", "-"), stdin=rules)
        for name in ("net.ipv4.icmp_ratelimit", "net.ipv6.icmp.ratelimit"):
            self._host.sysctl(name, 0)  # every knock gets its answer, however many there are
        await self.put(self.policy)
        listening = self._host.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind((self.gateway, PORT))
            self._server = await asyncio.start_server(self._accept, sock=listening)
        except BaseException:
            listening.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        tasks = [*self._talks, *([self._coming] if self._coming else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def put(self, policy: ProviderPolicy) -> None:
        """Put a policy in force now, and forget what was asked for before. Raises Transient."""
        if self._coming and self._coming is not asyncio.current_task():
            self._coming.cancel()
        await self._host.must(("nft", "-f", "-"), stdin=_transaction(self._table, policy))
        self.policy = policy
        self._changed.set()

    async def until(self, condition: Callable[[], object], deadline: float = 5.0) -> None:
        """Wait until something holds of requests or policy. Raises TimeoutError."""
        async with asyncio.timeout(deadline):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._talks.add(task)
        try:
            with contextlib.suppress(OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await self._talk(reader, writer)
        finally:
            self._talks.discard(task)
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            method, path, headers = _request(head)
            length = headers.get("content-length", "0")
            body = await reader.readexactly(min(LONGEST, int(length) if length.isdigit() else 0))
        wanted = _policy(body)
        status, said = self._answer(method, path, headers.get("authorization", ""), wanted)
        client = writer.get_extra_info("peername")[0]
        slow = self.trouble is Trouble.SLOW
        self.asked.append(Asked(method, client, 0 if slow else status, wanted))
        self._changed.set()
        if slow:
            await reader.read()  # until the other side gives up
            return
        writer.write(_spoilt(self.trouble, status, said))
        await writer.drain()

    def _answer(self, method: str, path: str, token: str, wanted: ProviderPolicy | None) -> tuple[int, object]:  # noqa: PLR0911 - one rule a line
        troubles = {Trouble.REFUSED: 401, Trouble.BUSY: 429, Trouble.BROKEN: 500, Trouble.ELSEWHERE: 302}
        if self.trouble in troubles:
            return troubles[self.trouble], {}
        if path != PATH:
            return 404, {}
        if token != f"Bearer {self.token}":
            return 401, {}
        if method == "GET":
            return 200, policy_json(self.policy)
        if method != "PUT":
            return 405, {}
        if wanted is None:
            return 400, {}
        if self._coming:
            self._coming.cancel()
        self._coming = asyncio.create_task(self._later(wanted))
        return 202, {}

    async def _later(self, policy: ProviderPolicy) -> None:
        await asyncio.sleep(self.delay)
        await self.put(policy)


def _transaction(table: str, policy: ProviderPolicy) -> str:
    """All of the switch at once: no moment in which it is neither the old nor the new."""
    lines = [f"flush chain inet {table} switch"]
    lines += [f"flush set inet {table} open_{protocol}" for protocol in Protocol]
    match policy.mode:
        case PolicyMode.OPEN_ALL:
            pass
        case PolicyMode.BLOCK_ALL:
            lines.append(f"add rule inet {table} switch {KEEP_OUT}")
        case PolicyMode.ALLOW_LIST:
            for protocol in Protocol:
                ports = [f"{each.first}-{each.last}" for each in policy.ports if each.protocol is protocol]
                if ports:
                    lines.append(f"add element inet {table} open_{protocol} {{ {', '.join(ports)} }}")
                # The port that the internet knocked at, not the one that it was rewritten to.
                match = f"meta l4proto {protocol} ct original proto-dst @open_{protocol}"
                lines.append(f"add rule inet {table} switch {match} accept")
            lines.append(f"add rule inet {table} switch {KEEP_OUT}")
    return "\n".join(lines) + "\n"


def _request(head: str) -> tuple[str, str, dict[str, str]]:
    """Method, path and headers (names in lower case) of a request."""
    first, *rest = head.split("\r\n")
    method, path, *_ = (*first.split(" "), "", "")
    pairs = (line.partition(":") for line in rest if line)
    return method, path, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _policy(body: bytes) -> ProviderPolicy | None:
    try:
        return policy_from(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _spoilt(trouble: Trouble, status: int, said: object) -> bytes:
    """An answer as it goes out, with what is wrong with it."""
    body = json.dumps(said).encode()
    more = ""
    match trouble:
        case Trouble.BUSY:
            more = "Retry-After: 1\r\n"
        case Trouble.ELSEWHERE:
            more = "Location: http://203.0.113.80/v1/policy\r\n"
        case Trouble.RUBBISH:
            body = b"<html>maintenance</html>"
        case Trouble.WRONG_MODE:
            body = b'{"mode": "open-sesame", "ports": []}'
        case Trouble.WRONG_PORT:
            body = b'{"mode": "allow-list", "ports": ["0/tcp", "70000/udp", "9-3/tcp"]}'
        case Trouble.DEEP:
            body = b'{"mode": ' + b"[" * 30_000
        case Trouble.HUGE:
            body = b'{"mode": "open-all", "ports": [' + b'"1/tcp",' * 1_000_000
        case _:
            pass
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{more}\r\n".encode()
    return head + (body[: len(body) // 2] if trouble is Trouble.CUT_OFF else body)


def register(directory: Path) -> dict[str, str]:
    """Make a package that registers the plug-in, below a directory; returns the environment for a run that is to find it."""
    info = directory / "mock_vpn-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mock_vpn\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[vpnpf.providers]\nmock_vpn = {MockVpn.__module__}:{MockVpn.__name__}\n")
    root = Path(__file__).parents[1]
    return {"PYTHONPATH": f"{directory}:{root}:{root / 'providers'}"}
