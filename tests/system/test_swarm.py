"""Strangers with a torrent: a real client takes them in, each from an address of its own, and they are seen there."""

from __future__ import annotations

import asyncio

import pytest

from mock_provider.qbittorrent import QBittorrent
from mock_provider.swarm import ADDRESSES, Swarm, Torrent
from mock_provider.topology import CLIENT, Lab
from vpnpf.io.sockets import KernelSockets

pytestmark = pytest.mark.system
MANY = 4


async def test_a_client_with_the_torrent_takes_strangers_in_and_one_without_it_does_not(tmp_path):
    torrent = Torrent.made()
    async with Lab() as lab, QBittorrent(lab.client, tmp_path / "qb") as client, Swarm(lab, torrent) as swarm:
        swarm.visit(CLIENT, client.listen_port)
        async with asyncio.timeout(10):
            await swarm.left()  # sent away at once
        assert swarm.taken_in == 0
        await client.add_torrent(torrent.file)
        async with asyncio.timeout(20):
            while swarm.taken_in < MANY:
                if swarm.there < MANY:
                    swarm.visit(CLIENT, client.listen_port)
                await asyncio.sleep(0.1)
        with lab.client.inside():
            seen = await KernelSockets().connected(client.listen_port)
    assert len({each.address for each in seen} & set(ADDRESSES)) >= MANY
