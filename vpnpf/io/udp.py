"""Datagram exchanges, and HTTP, that cannot leave by another way than the tunnel.

The socket is bound to the tunnel device and address and connected to the gateway, so the kernel drops
answers from any other address or port, and a dead tunnel gives ENODEV instead of a packet to the home
router, which might answer and open a port there.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import socket
from typing import TypeVar

from vpnpf.errors import NoAnswer, Refused, Transient, Unsupported
from vpnpf.interfaces import Account, Clock, Igd
from vpnpf.io import upnp
from vpnpf.io.http import HttpClient
from vpnpf.io.of_account import OfAccount
from vpnpf.model import Tunnel
from vpnpf.protocol import announcement, natpmp
from vpnpf.protocol.announcement import Announcement
from vpnpf.protocol.exchange import Exchange, Transmission

T = TypeVar("T")

_LARGEST = 1100
"""Bytes; the longest message of NAT-PMP or PCP (RFC 6887 section 7)."""
_DYNAMIC_PORTS = range(49152, 65536)


class TunnelIO(OfAccount):
    """What a provider may do to the world (`interfaces.ProviderIO`), through one tunnel."""

    def __init__(self, tunnel: Tunnel, clock: Clock, account: Account) -> None:
        # What goes to the gateway is encrypted by the tunnel, if there is one.
        inside = "" if tunnel.plan.direct else tunnel.gateway
        super().__init__(account, clock, HttpClient(device=tunnel.interface, inside=inside))
        self._tunnel = tunnel

    def random_port(self) -> int:
        """A port from the dynamic range, 49152 to 65535 (RFC 6335 section 6)."""
        return self._random.choice(_DYNAMIC_PORTS)

    def own_address(self, gateway: str) -> str:
        """The address that `exchange` binds to for this gateway. Raises Unsupported."""
        return self._own_address(f"asking {gateway}", gateway)

    async def exchange(self, exchange: Exchange[T], address: str, port: int) -> T:
        """Send until the matching answer comes. Raises NoAnswer, Refused, Transient, Unsupported."""
        own = self._own_address(exchange.doing, address)
        try:
            with self._open(own, address, port) as sock:
                transmission = Transmission(exchange, self._clock.now())
                while not transmission.over(self._clock.now()):
                    answer = await self._one_try(sock, transmission)
                    if answer is not None:
                        return answer
        except OSError as error:
            raise self._no_way(exchange.doing, error) from error
        if transmission.refused:
            raise Refused(exchange.doing, "connection refused: nothing listens on that port")
        raise NoAnswer(exchange.doing, f"no answer in {exchange.schedule.total:g} s")

    async def hear(self, address: str) -> Announcement:
        """Wait for a gateway's announcement; datagrams from another address or port are dropped. Raises Transient."""
        doing = f"listening for announcements of {address}"
        loop = asyncio.get_running_loop()
        own = self._own_address(doing, address)
        try:
            with self._join(own) as sock:
                while True:
                    data, sender = await loop.sock_recvfrom(sock, _LARGEST + 1)
                    heard = announcement.parse(data)
                    if heard is not None and sender[:2] == (address, natpmp.PORT):
                        return heard
                    await asyncio.sleep(0)
        except OSError as error:
            raise self._no_way(doing, error) from error

    async def igd(self, gateway_address: str) -> Igd:
        """Find the internet gateway device (UPnP). Raises NoAnswer, Refused, Transient, Unsupported."""
        own = self._own_address(f"looking for a UPnP gateway at {gateway_address}", gateway_address)
        return await upnp.find(self._tunnel.interface, own, gateway_address)

    async def _one_try(self, sock: socket.socket, transmission: Transmission[T]) -> T | None:
        """Send if it is due, then wait for the answer until the next try is due. Raises OSError."""
        loop = asyncio.get_running_loop()
        datagram = transmission.due(self._clock.now())
        if datagram is not None:
            try:
                await loop.sock_sendall(sock, datagram)
            except ConnectionRefusedError:
                # It was about an earlier try, and the kernel has told it instead of sending.
                transmission.refusals += 1
                await _send_unless_refused(sock, datagram)
        while (wait := transmission.deadline - self._clock.now()) > 0:
            try:
                async with asyncio.timeout(wait):
                    received = await loop.sock_recv(sock, _LARGEST + 1)
            except TimeoutError:
                break
            except ConnectionRefusedError:
                # Often over at the next try, and the answer to another try may be on its way: the wait goes on.
                transmission.refusals += 1
            else:
                answer = transmission.exchange.parse(received)
                if answer is not None:
                    return answer
            await asyncio.sleep(0)  # whoever sends us rubbish without end must not keep the others from running
        return None

    def _own_address(self, doing: str, gateway: str) -> str:
        """The tunnel's own address of the gateway's family; no name is ever looked up here. Raises Unsupported."""
        try:
            version = ipaddress.ip_address(gateway).version
        except ValueError:
            raise Unsupported(doing, f'the gateway "{gateway}" is not an IP address') from None
        for address in self._tunnel.plan.addresses:
            own = ipaddress.ip_interface(address).ip
            if own.version == version:
                return str(own)
        raise Unsupported(doing, f"the tunnel has no IPv{version} address")

    def _open(self, own: str, address: str, port: int) -> socket.socket:
        """A socket that can neither send elsewhere nor hear anybody else. Raises OSError."""
        made = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.setblocking(False)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._tunnel.interface.encode())
            made.bind((own, 0))
            made.connect((address, port))
        except OSError:
            made.close()
            raise
        return made

    def _join(self, own: str) -> socket.socket:
        """A socket in the group that gateways speak to, on the tunnel's device alone. Raises OSError."""
        made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            made.setblocking(False)
            # Other programs of this machine listen there too (RFC 6886 section 3.2.1).
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, self._tunnel.interface.encode())
            made.bind((announcement.GROUP, announcement.PORT))
            member = socket.inet_aton(announcement.GROUP) + socket.inet_aton(own)
            made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
        except OSError:
            made.close()
            raise
        return made

    def _no_way(self, doing: str, error: OSError) -> Transient:
        hint = f"the tunnel device {self._tunnel.interface} is gone, or has no address or no route to the gateway"
        if isinstance(error, PermissionError):
            hint = "a packet filter of this machine drops it, or the right to bind to a device is missing (CAP_NET_RAW)"
        return Transient(doing, error.strerror or str(error), hint)


async def _send_unless_refused(sock: socket.socket, datagram: bytes) -> None:
    with contextlib.suppress(ConnectionRefusedError):
        await asyncio.get_running_loop().sock_sendall(sock, datagram)
