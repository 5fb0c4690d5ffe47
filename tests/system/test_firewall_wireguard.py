"""The rules under a real WireGuard tunnel: it comes up through them, carries traffic, and its death leaks nothing."""

from __future__ import annotations

import pytest

from tests.system.firewall_lab import (
    ENDPOINT,
    GATEWAY,
    TUNNEL,
    Lab,
    boottime,
    connect,
    connected,
    forward,
    policy,
    received,
    send,
)
from tests.system.tunnel_lab import device_name, plan_of, real_tunnel
from vpnpf.firewall.nft import Nft
from vpnpf.model import FirewallStage

pytestmark = pytest.mark.system


@pytest.fixture
def lab():
    made = Lab()
    yield made
    made.close()


async def test_a_real_tunnel_comes_up_while_connecting_and_its_death_leaks_nothing(lab):
    nft = Nft(prefix=lab.prefix)
    near = device_name()
    assert (await nft.apply(policy(FirewallStage.CONNECTING, **plan_of(near)), boottime())).intact
    with real_tunnel(lab, near) as tunnel:
        # While connecting only the tunnel's own packets pass, so the keepalive is what makes the handshake.
        tunnel.handshake()
        await nft.apply(policy(FirewallStage.CONNECTED, forward(40000), **plan_of(near)), boottime())

        web = lab.listen(lab.router, "tcp", 80, GATEWAY)
        caller = lab.socket(lab.client, "tcp", TUNNEL)
        connect(caller, GATEWAY, 80)
        assert connected([caller]) == [caller]
        assert received([web])
        torrent = lab.listen(lab.client, "udp", 40000)
        send(lab.socket(lab.router, "udp", GATEWAY), TUNNEL, 40000)
        assert received([torrent]) == [torrent]
        hits = {str(protocol): hits.packets for _, protocol, hits in (await nft.read()).hits}
        assert hits == {"tcp": 0, "udp": 1}

        watch = lab.watch(lab.router, "lan0")
        everything = lab.socket(lab.client, "udp", "0.0.0.0")
        send(everything, "203.0.113.80", 443)
        assert {each[1:] for each in watch.seen()} <= {(ENDPOINT, 51820)}
        tunnel.daemon.kill()
        tunnel.daemon.wait()
        for _ in range(50):
            send(everything, "203.0.113.80", 443)
        assert {each[1:] for each in watch.seen()} <= {(ENDPOINT, 51820)}
        await nft.remove()
        send(everything, "203.0.113.80", 443)
        assert ("udp", "203.0.113.80", 443) in watch.seen(), "control: without the rules it takes the uplink"
