"""The provider `natpmp` keeps the contract; and what is its own."""

from __future__ import annotations

import struct

import pytest

from tests.contract.gateway_world import NatPmpWorld
from tests.contract.gateways import GatewayContract
from tests.contract.provider_world import GATEWAY, US, mappings_of, stored
from vpnpf.errors import Misconfigured, NoAnswer
from vpnpf.model import BOTH, ForwardSpec, MappingRequest, Protocol
from vpnpf.testing import FakeIO, Sent, a_tunnel
from vpnpf_providers.natpmp import NatPmp

NEIGHBOUR = "10.2.0.3"


class TestNatPmp(GatewayContract):
    plugin = NatPmp
    mode = "rfc"
    lifetime = 7200
    good_options = (("gateway", "10.98.0.1"), ("lifetime", 1), ("lifetime", 86400))
    wrong_options = (
        ("gateway", ""),
        ("gateway", "vpn.example"),
        ("gateway", "10.2.0"),
        ("gateway", "10.2.0.256"),
        ("gateway", "010.2.0.1"),
        ("gateway", "0.0.0.0"),
        ("gateway", "127.0.0.1"),
        ("gateway", "224.0.0.1"),
        ("gateway", "2a07:b944::2:1"),
        ("lifetime", 0),
        ("lifetime", -60),
        ("lifetime", 86401),
    )


@pytest.fixture
def world():
    return NatPmpWorld(NatPmp, {}, "rfc", 7200)


def taken(world: NatPmpWorld, *ports: int) -> None:
    """A neighbour has these external ports."""
    for port in ports:
        for opcode in (1, 2):
            request = struct.pack("!BBHHHI", 0, opcode, 0, port, port, 7200)
            world.machine.handle(request, NEIGHBOUR, world.clock.now())


async def test_it_asks_as_the_rfc_has_it(world):
    lease = await world.acquire()
    assert world.io.sent[0].data == b"\0\0"
    assert world.requests == [(Protocol.TCP, 49152, 49152, 7200), (Protocol.UDP, 49152, 49152, 7200)]
    await world.renew(lease)
    assert world.requests[2:] == world.requests[:2]


async def test_the_same_port_is_wanted_inside_and_outside(world):
    taken(world, 49152, 49153)
    lease = await world.acquire()
    assert lease.external_port == lease.internal_port == 49154
    assert len(mappings_of(lease)) == 2
    assert {rule.internal_port for rule in world.machine.table if rule.address == US} == {49154}


async def test_but_not_where_a_local_port_is_fixed(world):
    taken(world, 40000)
    lease = await world.acquire(ForwardSpec("web", internal_port=8080, external_port=40000))
    assert (lease.internal_port, lease.external_port) == (8080, 40001)
    assert not [row for row in world.requests if row[3] == 0]


def one_off(sent: Sent) -> bytes:
    """A gateway whose external ports are always those inside plus one."""
    if sent.data == b"\0\0":
        return struct.pack("!BBHI4B", 0, 128, 0, 1, 198, 51, 100, 11)
    _, opcode, _, internal, _, lifetime = struct.unpack("!BBHHHI", sent.data)
    return struct.pack("!BBHIHHI", 0, 128 + opcode, 0, 1, internal, (internal + 1) * bool(lifetime), lifetime)


async def test_a_gateway_that_never_gives_the_same_port_is_asked_for_it_once_and_not_at_every_start():
    io, tunnel = FakeIO(one_off), a_tunnel(GATEWAY)
    lease = await NatPmp({}).acquire(io, tunnel, MappingRequest(ForwardSpec("torrent")))
    assert lease.external_port == lease.internal_port + 1
    io.sent.clear()
    again = await NatPmp({}).acquire(io, tunnel, MappingRequest(ForwardSpec("torrent"), stored(lease)))
    assert mappings_of(again) == mappings_of(lease)
    assert len(io.sent) == 3


async def test_a_new_wish_counts_more_than_the_port_held_last(world):
    lease = await world.acquire()
    await world.release(lease)
    again = await world.acquire(ForwardSpec("torrent", external_port=40000), stored(lease))
    assert (again.external_port, again.internal_port) == (40000, 40000)


async def test_a_new_local_port_keeps_the_external_one(world):
    lease = await world.acquire()
    await world.release(lease)
    again = await world.acquire(ForwardSpec("torrent", internal_port=8080), stored(lease))
    assert (again.external_port, again.internal_port) == (lease.external_port, 8080)


async def test_the_options_are_used():
    world = NatPmpWorld(NatPmp, {"gateway": GATEWAY, "lifetime": 600}, "rfc", 7200)
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    lease = await world.acquire()
    assert lease.lifetime == 600
    assert {row[3] for row in world.requests} == {600}
    await world.release(await world.renew(lease))
    assert not world.mapped
    assert {sent.address for sent in world.io.sent} == {GATEWAY}


@pytest.mark.parametrize("gateway", ["", "2a07:b944::2:1"])
async def test_a_tunnel_that_knows_no_ipv4_gateway_leads_to_the_option(world, gateway):
    world.tunnel = a_tunnel(gateway, f"{US}/32")
    with pytest.raises(Misconfigured, match=f'"{gateway}"') as told:
        await world.acquire()
    assert "options.gateway" in told.value.hint
    assert not world.io.sent


async def test_a_gateway_at_another_address_leads_to_the_option(world):
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    with pytest.raises(NoAnswer, match=r"asking 10\.98\.0\.1") as told:
        await world.acquire()
    assert "10.98.0.1" in told.value.hint
    assert "options.gateway" in told.value.hint


async def test_two_forwards_do_not_share_a_port(world):
    leases = [await world.acquire(ForwardSpec(name, slot)) for slot, name in enumerate(("one", "two"))]
    assert len(mappings_of(*leases)) == 2 * len(BOTH)
