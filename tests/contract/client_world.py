"""Where the contract of torrent clients is tested: a device, the kernel's sockets, HTTP that is noted or cut off."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from vpnpf.api import Failure, Protocol
from vpnpf.io.http import HttpClient
from vpnpf.io.sockets import KernelSockets

DEVICE, ADDRESS = "vpn0", "10.2.0.2"
PORT, OTHER_PORT = 41001, 41005
ANY = ("0.0.0.0", "::")
SECRET = "s3cret-that-nobody-sees"


class Call(Struct, frozen=True):
    """A request that was made."""

    path: str
    status: int
    password: bool
    """Whether it carried one."""


class Recorder:
    """The real HTTP, and what was asked."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._http = HttpClient()

    async def request(self, method, url, **more):
        answer = await self._http.request(method, url, **more)
        secret = "password" in (more.get("form") or {}) or "authorization" in (more.get("headers") or {})
        self.calls.append(Call(urlsplit(url).path, answer.status, secret))
        return answer

    def count(self, part: str) -> int:
        return sum(part in call.path for call in self.calls)


class Cut:
    """The real HTTP, that stops for ever before or after the n-th request."""

    def __init__(self, number: int, *, after: bool) -> None:
        self.reached = asyncio.Event()
        self._left = number
        self._after = after
        self._http = HttpClient()

    async def request(self, method, url, **more):
        self._left -= 1
        if self._left == 0 and not self._after:
            await self._stop()
        answer = await self._http.request(method, url, **more)
        if self._left == 0 and self._after:
            await self._stop()
        return answer

    async def _stop(self):
        self.reached.set()
        await asyncio.Event().wait()


def add_device() -> None:
    """The stand-in for the tunnel's device, in the namespace of the calling thread."""
    ip(f"tuntap add dev {DEVICE} mode tun")
    ip(f"addr add {ADDRESS}/32 dev {DEVICE}")
    ip(f"link set {DEVICE} up")


async def until(condition: Callable[[], Awaitable[Any]], deadline: float = 10.0) -> Any:
    """Look until it is true; returns what it says."""
    end = time.monotonic() + deadline
    while not (seen := await condition()):
        assert time.monotonic() < end, "it did not come about in time"
        await asyncio.sleep(0.01)
    return seen


def listening(port: int, *protocols: Protocol) -> Callable[[], Awaitable[Any]]:
    async def look():
        found = await KernelSockets().listening(port)
        return found if {socket.protocol for socket in found} == set(protocols) else ()

    return look


def nothing_on(port: int) -> Callable[[], Awaitable[Any]]:
    async def look():
        return not await KernelSockets().listening(port)

    return look


def inodes(port: int) -> set[str]:
    """The sockets on a port by their inodes, as /proc/net has them: sockets bound anew are others."""
    found = set()
    for table, waiting in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07")):
        for line in Path("/proc/thread-self/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if int(fields[1].rpartition(":")[2], 16) == port and fields[3] == waiting:
                found.add(fields[9])
    return found


def text_of(error: Failure) -> str:
    return f"{error} {error.hint}"


async def true(value: Any) -> Any:
    return value


def ip(arguments: str) -> None:
    subprocess.run(["/usr/sbin/ip", *arguments.split()], check=True, capture_output=True)
