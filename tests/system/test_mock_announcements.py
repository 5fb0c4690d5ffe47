"""What gateways multicast, with real packets: through the tunnel, and on the LAN of a home router."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time

import pytest

from mock_provider.home_router import HomeRouter
from mock_provider.host import Host
from mock_provider.natpmp import EPOCH
from mock_provider.player import playing
from mock_provider.scenario_text import parse
from mock_provider.topology import EXIT, ROUTER
from mock_provider.wireguard import GATEWAY
from vpnpf.protocol.natpmp import AddressAnswer, parse_address

pytestmark = pytest.mark.system

GROUP = ("224.0.0.1", 5350)


@contextlib.contextmanager
def listening(host: Host):
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(GROUP)
        yield sock


async def hear(sock: socket.socket, number: int, deadline: float = 2.0) -> list[tuple[bytes, tuple[str, int]]]:
    async with asyncio.timeout(deadline):
        return [await asyncio.get_running_loop().sock_recvfrom(sock, 100) for _ in range(number)]


async def shake_hands(host: Host) -> None:
    """A gateway cannot send to a customer that has not come yet."""
    with host.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((GATEWAY, 5351))
        sock.send(b"\0\0")
        async with asyncio.timeout(2):
            await asyncio.get_running_loop().sock_recv(sock, 100)


async def test_the_customer_hears_it_through_the_tunnel(provider):
    client = provider.lab.client
    await provider.server.bring_up(provider.customer, client)
    await shake_hands(client)
    with listening(client) as sock:
        began = time.monotonic()
        await provider.gateway.announce(3, gap=0.05)
        heard = await hear(sock, 3)
        assert time.monotonic() - began >= 0.15
        assert {sender for _, sender in heard} == {(GATEWAY, 5351)}
        assert {parse_address(data).address for data, _ in heard} == {EXIT}
        await provider.gateway.reset_epoch()
        provider.gateway.says_address = "198.51.100.12"
        await provider.gateway.announce(1)
        ((data, _),) = await hear(sock, 1)
        assert parse_address(data) == AddressAnswer(0, "198.51.100.12")
        async with playing(parse("at 0 announce 1"), provider.gateway):
            await hear(sock, 1)


async def test_only_the_first_customer_hears_it_also_when_the_server_was_restarted(provider):
    lab = provider.lab
    first = await provider.server.bring_up(provider.customer, lab.client)
    await provider.server.add_client()
    await provider.server.restart()
    await first.remove()
    await provider.server.bring_up(provider.customer, lab.client)
    await shake_hands(lab.client)
    with listening(lab.client) as sock:
        await provider.gateway.announce(1)
        assert len(await hear(sock, 1)) == 1


async def test_a_gateway_that_is_gone_says_nothing(provider):
    client = provider.lab.client
    await provider.server.bring_up(provider.customer, client)
    await shake_hands(client)
    with listening(client) as sock:
        await provider.gateway.vanish()
        await provider.gateway.announce(2, gap=0.01)
        await provider.gateway.until(lambda: provider.gateway.behaviour.next_due is None)
        await provider.gateway.come_back()
        await provider.gateway.announce(1, message=lambda _now: b"something else")
        assert (await hear(sock, 1))[0][0] == b"something else"


async def test_a_device_that_does_not_exist_is_an_error(provider):
    with pytest.raises(OSError, match="no interface with this name"):
        await provider.gateway.announce(1, interface="eth9")
    await provider.server.kill()
    provider.gateway.behaviour.announce(asyncio.get_running_loop().time(), 1, interface=provider.server.interface)
    await provider.gateway.forget()  # wakes it up
    await provider.gateway.until(lambda: provider.gateway.behaviour.next_due is None)


async def test_every_host_of_the_lan_hears_a_home_router(lab):
    async with HomeRouter(lab) as home:
        with listening(lab.client) as sock, listening(lab.client) as other:
            await home.gateway.announce(2, gap=0.02)
            for each in (sock, other):
                for data, sender in await hear(each, 2):
                    assert sender == (ROUTER, 5351)
                    assert struct.unpack("!BBHI4s", data)[3] >= EPOCH
                    assert parse_address(data).address == home.external_address
