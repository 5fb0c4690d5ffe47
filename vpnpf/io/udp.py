"""Datagram exchanges that cannot leave by another way than the tunnel.

The socket is bound to the tunnel device and address and connected to the gateway, so the kernel drops
answers from any other address or port, and a dead tunnel gives ENODEV instead of a packet to the home
router, which might answer and open a port there.
"""

from __future__ import annotations

import asyncio
import random
import socket
from typing import TypeVar

from vpnpf.errors import NoAnswer, Refused, Transient, Unavailable
from vpnpf.interfaces import Clock
from vpnpf.model import Tunnel
from vpnpf.protocol.exchange import Exchange, Transmission

T = TypeVar("T")

_LARGEST = 1100
"""Bytes; the longest message of NAT-PMP or PCP (RFC 6887 section 7)."""
_DYNAMIC_PORTS = range(49152, 65536)


class TunnelIO:
    """What a provider may do to the world (`interfaces.ProviderIO`), through one tunnel."""

    def __init__(self, tunnel: Tunnel, clock: Clock) -> None:
        self._tunnel = tunnel
        self._clock = clock
        self._random = random.SystemRandom()

    def now(self) -> float:
        """Seconds on CLOCK_BOOTTIME."""
        return self._clock.now()

    def random_port(self) -> int:
        """A port from the dynamic range, 49152 to 65535 (RFC 6335 section 6)."""
        return self._random.choice(_DYNAMIC_PORTS)

    async def exchange(self, exchange: Exchange[T], address: str, port: int) -> T:
        """Send until the matching answer comes. Raises NoAnswer, Refused, Transient."""
        with self._connect(exchange.doing, address, port) as sock:
            transmission = Transmission(exchange, self._clock.now())
            while not transmission.over(self._clock.now()):
                answer = await self._one_try(sock, transmission)
                if answer is not None:
                    return answer
        if transmission.refused:
            raise Refused(exchange.doing, "connection refused: nothing listens on that port")
        raise NoAnswer(exchange.doing, f"no answer in {exchange.schedule.total:g} s")

    async def _one_try(self, sock: socket.socket, transmission: Transmission[T]) -> T | None:
        """Send if it is due, then wait for the answer until the next try is due."""
        loop = asyncio.get_running_loop()
        try:
            datagram = transmission.due(self._clock.now())
            if datagram is not None:
                await loop.sock_sendall(sock, datagram)
            while (wait := transmission.deadline - self._clock.now()) > 0:
                async with asyncio.timeout(wait):
                    answer = transmission.exchange.parse(await loop.sock_recv(sock, _LARGEST + 1))
                if answer is not None:
                    return answer
        except TimeoutError:
            pass
        except ConnectionRefusedError:
            # A refusal is often over at the next try, so it only ends the exchange if all tries meet one.
            transmission.refusals += 1
            await asyncio.sleep(max(0.0, transmission.deadline - self._clock.now()))
        except OSError as error:
            raise self._gone(transmission.exchange.doing, error) from error
        return None

    def _connect(self, doing: str, address: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._tunnel.interface.encode())
            sock.bind((self._tunnel.address, 0))
            sock.connect((address, port))
        except OSError as error:
            sock.close()
            raise self._gone(doing, error) from error
        return sock

    def _gone(self, doing: str, error: OSError) -> Transient | Unavailable:
        hint = f"the tunnel device {self._tunnel.interface} is gone or has no route to the gateway"
        return Transient(doing, error.strerror or str(error), hint)
