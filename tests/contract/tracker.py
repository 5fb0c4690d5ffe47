"""A BitTorrent tracker (BEP 3) at the far end of the device `vpn0`, and a torrent that is announced there."""

import asyncio
import contextlib
import subprocess
import time
import urllib.parse

from msgspec import Struct

from mock_provider.host import Host
from mock_provider.swarm import Torrent

DEVICE, NEAR, FAR, PORT = "vpn0", "10.2.0.2", "10.2.0.1", 6969
ANSWER = b"d8:intervali1800e12:min intervali1e5:peers0:e"
"""Come again in half an hour, and not before a second has gone by."""


class Announce(Struct, frozen=True):
    """One announcement."""

    at: float
    """On time.monotonic()."""
    port: int
    event: str


class Tracker:
    """A tracker that listens; an async context manager. The calling thread has to be in the client's namespace."""

    def __init__(self, client: Host) -> None:
        self.announces: list[Announce] = []
        self._client = client
        self._host = Host("tracker", f"{client.name}t")
        self._new = asyncio.Event()

    async def __aenter__(self):
        _ip(f"netns add {self._host.name}")
        with contextlib.ExitStack() as stack:
            stack.callback(_ip, f"netns del {self._host.name}")
            _ip(f"link del {DEVICE}")
            _ip(f"link add {DEVICE} type veth peer name far netns {self._host.name}")
            _ip(f"addr add {NEAR}/32 dev {DEVICE}")
            _ip(f"link set {DEVICE} up")
            _ip(f"route add {FAR}/32 dev {DEVICE} src {NEAR}")
            for words in (f"addr add {FAR}/24 dev far", "link set far up"):
                _ip(f"-n {self._host.name} {words}")
            while not self._client.running(DEVICE):  # noqa: ASYNC110 - the kernel says it when asked
                await asyncio.sleep(0.01)
            listener = self._host.socket()
            listener.bind((FAR, PORT))
            self._server = await asyncio.start_server(self._serve, sock=listener)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_):
        self._server.close()
        await self._server.wait_closed()
        self._stack.close()

    async def heard(self, port: int, deadline: float) -> Announce:
        """Wait until somebody announces this port; returns the first such announcement."""
        async with asyncio.timeout(deadline):
            while not (found := [each for each in self.announces if each.port == port]):
                self._new.clear()
                await self._new.wait()
        return found[0]

    async def _serve(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            path = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split(" ")[1]
            asked = urllib.parse.parse_qs(urllib.parse.urlsplit(path).query, encoding="latin-1")
            self.announces.append(Announce(time.monotonic(), int(asked["port"][0]), asked.get("event", [""])[0]))
            self._new.set()
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(ANSWER) + ANSWER)
            await writer.drain()
        writer.close()


def torrent() -> bytes:
    """A torrent of one small file that nobody has, announced at the tracker."""
    return Torrent.made(f"http://{FAR}:{PORT}/announce").file


def _ip(arguments: str) -> None:
    subprocess.run(["/usr/sbin/ip", *arguments.split()], check=True, capture_output=True)
