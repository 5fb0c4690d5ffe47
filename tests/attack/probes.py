"""Probes: packets that must not be seen, sent without a pause by a program of their own, and known again on a cable."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from mock_provider.capture import Packet
from mock_provider.host import Host
from mock_provider.topology import INTERNET, INTERNET6, ROUTER, ROUTER6
from vpnpf.io.process import find

SOURCE = Path(__file__).with_name("sender.py").read_text()
NUMBERS = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}
RATE = 1000
"""Rounds a second; with ten probes 10,000 packets a second."""
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--no-new-privs")


class Probe(Struct, frozen=True):
    """One kind of packet."""

    name: str
    protocol: str
    target: str
    port: int
    device: str = ""
    """Bound to it; empty: the routes decide."""
    mark: int = 0

    def seen_in(self, packet: Packet) -> bool:
        """Whether a packet is one of these."""
        if packet.protocol != NUMBERS[self.protocol]:
            return False
        if (packet.destination, packet.destination_port) != (self.target, self.port):
            return False
        return self.protocol == "tcp" or f"vpnpf-probe {self.name}.".encode() in packet.payload


def bound(probe: Probe, device: str = "eth0") -> Probe:
    """The same from a socket that is bound to the uplink."""
    return replace(probe, name=f"{probe.name} by {device}", port=probe.port + 1, device=device)


UDP = Probe("udp", "udp", INTERNET, 4440)
TCP = Probe("tcp", "tcp", INTERNET, 4450)
UDP6 = Probe("udp6", "udp", INTERNET6, 4460)
TCP6 = Probe("tcp6", "tcp", INTERNET6, 4470)
DNS_LAN = Probe("dns lan", "udp", ROUTER, 53)
DNS_LAN6 = Probe("dns lan6", "udp", ROUTER6, 53)
DNS_LAN_TCP = Probe("dns lan tcp", "tcp", ROUTER, 53)
DOT_LAN = Probe("dot lan", "tcp", ROUTER, 853)
DNS_THIRD = Probe("dns third", "udp", INTERNET, 53)
DNS_UPLINK = Probe("dns by eth0", "udp", INTERNET, 53, device="eth0")
DOT_THIRD = Probe("dot third", "tcp", INTERNET, 853)


class Tally:
    """What is being sent."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._rounds = 0
        self._heard = asyncio.Event()
        self._listening = asyncio.create_task(self._listen())
        self.counts: dict[str, int] = {}
        """By probe; when it has ended."""

    @property
    def sent(self) -> int:
        """All tries; when it has ended."""
        return sum(self.counts.values())

    async def more(self, rounds: int = 300, deadline: float = 20.0) -> None:
        """Wait until that many rounds more were sent. Raises TimeoutError, or AssertionError if the sender ended."""
        wanted = self._rounds + rounds + 25  # what is sent now is told with the next line
        async with asyncio.timeout(deadline):
            while self._rounds < wanted:
                assert not self._listening.done(), "the sender of probes has ended"
                self._heard.clear()
                await self._heard.wait()

    async def end(self) -> None:
        """Stop sending, and learn how many there were."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._listening
        await self._process.wait()
        assert self.counts, "the sender of probes said no counts"

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            said = json.loads(line)
            if isinstance(said, dict):
                self.counts = said
            else:
                self._rounds = said
            self._heard.set()
        self._heard.set()


@asynccontextmanager
async def probing(host: Host, probes: Sequence[Probe], *, rate: float = RATE, wrap: Sequence[str] = ()):
    """Send these while the body runs; yields the tally."""
    # The system's own, which any user can run.
    argv = (*wrap, find("python3"), "-SE", "-c", SOURCE, json.dumps(to_builtins(probes)), str(rate))
    process = await host.popen(argv, stdin=asyncio.subprocess.PIPE, stderr=None)
    tally = Tally(process)
    try:
        await tally.more(1)
        yield tally
        await tally.end()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
