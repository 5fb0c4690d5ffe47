"""What a provider can do beside the tunnel: by the machine's own link, with the mark of the tunnel's own packets."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Mapping, Sequence
from functools import partial

from vpnpf.errors import NoAnswer, Refused, Transient
from vpnpf.interfaces import Account, Clock, Outside
from vpnpf.io.apart import SO_MARK, apart
from vpnpf.io.http import HttpClient
from vpnpf.io.of_account import OfAccount
from vpnpf.io.reaching import reached
from vpnpf.model import Endpoint

REACH = 2.0
"""Seconds for a connection that measures how far a server is."""


class BesideTunnel(OfAccount):
    """`interfaces.OutsideIO`. The mark is what the packet filter lets out to the services of an offer, and to nothing else.

    Mark 0 is none, and needs no privilege: for whoever asks while no packet filter stands. `outside` is the machine's own
    network namespace, if the tunnel has another one and we are in it: there are the sockets, and there names are looked up.
    """

    def __init__(self, account: Account, clock: Clock, mark: int = 0, outside: Outside | None = None) -> None:
        self._mark = mark
        self._enter = outside.enter if outside else None
        super().__init__(account, clock, HttpClient(mark=mark, enter=self._enter))

    async def reach(self, endpoint: Endpoint) -> float:
        """Seconds until a TCP connection stands; at most 2. Raises Refused, NoAnswer, Transient."""
        doing = f"connecting to {endpoint}"
        try:
            family = socket.AF_INET6 if ipaddress.ip_address(endpoint.address).version == 6 else socket.AF_INET  # noqa: PLR2004
        except ValueError:
            raise Transient(doing, "its address is none") from None
        try:
            made = partial(socket.socket, family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
            with await apart(made, self._enter, doing) if self._enter else made() as sock:
                sock.setblocking(False)
                if self._mark:
                    sock.setsockopt(socket.SOL_SOCKET, SO_MARK, self._mark)
                begun = self._clock.now()
                async with asyncio.timeout(REACH):
                    await asyncio.get_running_loop().sock_connect(sock, (endpoint.address, endpoint.port))
                return self._clock.now() - begun
        except TimeoutError:
            raise NoAnswer(doing, f"no answer in {REACH:g} s") from None
        except ConnectionRefusedError:
            raise Refused(doing, "connection refused") from None
        except OSError as error:
            raise Transient(doing, error.strerror or type(error).__name__) from None

    async def reach_all(self, endpoints: Sequence[Endpoint], within: float) -> Mapping[Endpoint, float]:
        """As `reach` for many; who does not answer in time is left out."""
        return await reached(self.reach, endpoints, within)
