"""Who is connected to a port, and which side began: real connections through a kernel that tracks them."""

from __future__ import annotations

import contextlib
import os
import socket

import pytest

from mock_provider.topology import CLIENT, CLIENT6, ROUTER, ROUTER6
from vpnpf.io.sockets import KernelSockets
from vpnpf.model import Connection

pytestmark = pytest.mark.system

PORT, OUTER = 40000, 41000
TRACKED = f"""
table inet peers {{
    chain in {{ type filter hook input priority 0; ct state established accept; }}
    chain to {{ type nat hook prerouting priority -100; tcp dport {OUTER} redirect to :{PORT}; }}
}}
"""
WAYS = [(CLIENT, ROUTER), (CLIENT6, ROUTER6)]


@contextlib.contextmanager
def listener(host, address, port=PORT):
    """Listens as a torrent client does: others may use the port, too."""
    with host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((address, port))
        made.listen()
        made.settimeout(5)
        yield made


@contextlib.contextmanager
def dialled(host, near, far):
    """A connection from one address and port to another."""
    with host.socket(socket.AF_INET6 if ":" in near[0] else socket.AF_INET) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.settimeout(5)
        made.bind(near)
        made.connect(far)
        yield made.getsockname()[1]


@contextlib.contextmanager
def both_ways(lab, near, far):
    """One who came in, one who came in through a redirected port, and one that was dialled from the listen port."""
    with (
        listener(lab.client, near) as here,
        listener(lab.router, far, 50000) as there,
        dialled(lab.router, (far, 0), (near, PORT)) as first,
        here.accept()[0],
        dialled(lab.router, (far, 0), (near, OUTER if lab.tracked else PORT)) as second,
        here.accept()[0],
        dialled(lab.client, (near, PORT), (far, 50000)),
        there.accept()[0],
    ):
        yield first, second


async def seen(lab):
    with lab.client.inside():
        return set(await KernelSockets().connected(PORT))


@pytest.mark.parametrize(("near", "far"), WAYS)
async def test_who_came_in_is_told_from_whom_we_called(lab, near, far):
    lab.tracked = True
    await lab.client.must(("nft", "-f", "-"), stdin=TRACKED)
    with both_ways(lab, near, far) as came:
        assert await seen(lab) == {Connection(near, PORT, far, each, came_in=True) for each in came}


async def test_where_nothing_is_tracked_nobody_is_said_to_have_come_in(lab):
    lab.tracked = False
    with both_ways(lab, CLIENT, ROUTER) as came:
        ports = {*came, 50000}
        assert await seen(lab) == {Connection(CLIENT, PORT, ROUTER, each, came_in=False) for each in ports}


async def test_without_the_privilege_it_cannot_be_told(lab):
    lab.tracked = True
    await lab.client.must(("nft", "-f", "-"), stdin=TRACKED)
    with both_ways(lab, CLIENT, ROUTER) as came, lab.client.inside():
        os.seteuid(65534)
        try:
            found = await KernelSockets().connected(PORT)
        finally:
            os.seteuid(0)
        assert {(each.port, each.came_in) for each in found} == {(each, False) for each in (*came, 50000)}
