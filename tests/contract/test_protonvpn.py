"""The provider `protonvpn` keeps the contract; and what is its own."""

from __future__ import annotations

import pytest

from tests.contract.gateway_world import NatPmpWorld
from tests.contract.gateways import GatewayContract
from tests.contract.provider_world import EXIT, GATEWAY, US, mappings_of, stored
from vpnpf.errors import Misconfigured, NoAnswer, Transient
from vpnpf.model import ForwardSpec, Protocol
from vpnpf.testing import Sent, a_tunnel
from vpnpf_providers.protonvpn import SLOTS, ProtonVpn

TCP, UDP = Protocol.TCP, Protocol.UDP


class TestProtonVpn(GatewayContract):
    plugin = ProtonVpn
    mode = "proton"
    lifetime = 60
    hears_wishes = False


@pytest.fixture
def world():
    return NatPmpWorld(ProtonVpn, {}, "proton", 60)


async def test_the_first_forward_byte_by_byte(world):
    lease = await world.acquire()
    assert [sent.data.hex() for sent in world.io.sent] == [
        "0000",
        "00020000000000010000003c",
        "00010000000000010000003c",
    ]
    assert lease.external_port == lease.internal_port
    world.io.sent.clear()
    renewed = await world.renew(lease)
    assert [sent.data.hex() for sent in world.io.sent] == ["00020000000000010000003c", "00010000000000010000003c"]
    world.io.sent.clear()
    await world.release(renewed)
    port = f"{lease.external_port:04x}"
    assert [sent.data.hex() for sent in world.io.sent] == [f"00020000{port}000000000000", f"00010000{port}000000000000"]


async def test_the_others_are_asymmetric_and_renewed_by_the_same_request(world):
    lease = await world.acquire(ForwardSpec("second", 1))
    assert lease.internal_port == 49152
    assert lease.external_port != lease.internal_port
    assert world.requests == [(TCP, 49152, 0, 60), (UDP, 49152, 0, 60)]
    await world.renew(lease)
    assert world.requests[2:] == world.requests[:2]
    await world.release(lease)
    assert world.requests[4:] == [(TCP, 49152, 0, 0), (UDP, 49152, 0, 0)]


async def test_a_fixed_local_port_arrives_there_but_for_the_first_forward(world):
    first = await world.acquire(ForwardSpec("first", 0, internal_port=6881))
    second = await world.acquire(ForwardSpec("second", 1, internal_port=6882))
    assert first.internal_port == first.external_port
    assert second.internal_port == 6882


async def test_the_sixth_is_refused_in_words_and_the_five_stay(world):
    leases = [await world.acquire(ForwardSpec(f"f{slot}", slot)) for slot in range(SLOTS)]
    with pytest.raises(Transient, match="out of resources") as told:
        await world.acquire(ForwardSpec("sixth", SLOTS))
    assert "mapped" in told.value.hint
    assert world.mapped == mappings_of(*leases)


async def test_after_a_restart_without_a_store_the_slots_are_free_again_within_a_lease(world):
    for slot in range(SLOTS):
        await world.acquire(ForwardSpec(f"f{slot}", slot))
    world.restart()
    with pytest.raises(Transient, match="out of resources"):
        await world.acquire(ForwardSpec("f1", 1))
    world.clock.advance(60)
    assert (await world.acquire(ForwardSpec("f1", 1))).lifetime == 60


async def test_a_forward_that_moved_to_another_slot_is_asked_for_as_that_slot_wants(world):
    symmetric, asymmetric = await world.acquire(), await world.acquire(ForwardSpec("second", 1))
    await world.acquire(ForwardSpec("second", 0), stored(asymmetric))
    assert world.requests[-1][1:3] == (0, 1)
    moved = await world.acquire(ForwardSpec("torrent", 2), stored(symmetric))
    assert moved.internal_port not in {0, symmetric.internal_port, asymmetric.internal_port}


# -- what the hints say ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("notes", "word"),
    [
        (("NAT-PMP (Port Forwarding) = off",), "was made with NAT-PMP off"),
        (("NetShield = 0", " nat-pmp (port forwarding)=OFF "), "was made with NAT-PMP off"),
        (("NAT-PMP (Port Forwarding) = on", "Moderate NAT = off"), "P2P"),
        ((), "+pmp"),
    ],
)
async def test_refused_says_what_the_file_says(world, notes, word):
    world.tunnel = a_tunnel(GATEWAY, f"{US}/32", notes=notes)
    world.io.refuse = True
    with pytest.raises(Misconfigured) as told:
        await world.acquire()
    assert word in told.value.hint
    world.io.refuse = False
    world.faults.result = 2
    with pytest.raises(Misconfigured, match="not authorized") as told:
        await world.acquire()
    assert word in told.value.hint


# -- where the gateway is -------------------------------------------------------------------------


@pytest.mark.parametrize("gateway", ["10.98.0.1", "", "2a07:b944::2:1"])
async def test_the_address_of_the_manual_is_asked_where_the_tunnels_does_not_answer(world, gateway):
    world.tunnel = a_tunnel(gateway, f"{US}/32")
    lease = await world.acquire()
    assert world.mapped == mappings_of(lease)
    world.io.sent.clear()
    await world.release(await world.renew(lease))
    assert not world.mapped
    assert {sent.address for sent in world.io.sent} == {GATEWAY}


async def test_the_tunnels_own_gateway_comes_first(world):
    obeys = world.io.far_side

    def elsewhere(sent: Sent):
        return obeys(Sent(sent.at, GATEWAY, sent.port, sent.data))

    world.io.far_side = elsewhere
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    lease = await world.acquire()
    await world.release(await world.renew(lease))
    assert {sent.address for sent in world.io.sent} == {"10.98.0.1"}


async def test_silence_of_both_names_both(world):
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    world.io.drop = True
    began = world.clock.now()
    with pytest.raises(NoAnswer) as told:
        await world.acquire()
    assert world.clock.now() - began == 7.5
    assert "10.98.0.1, 10.2.0.1" in told.value.hint
    assert "vpf-test" in told.value.hint


@pytest.mark.parametrize("refusing", ["10.98.0.1", GATEWAY])
async def test_a_refusal_says_more_than_silence(world, refusing):
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    world.io.meets = lambda sent: sent.address == refusing
    world.io.refuse = True
    obeys = world.io.far_side
    world.io.far_side = lambda sent: obeys(Sent(sent.at, "192.0.2.1", sent.port, sent.data))
    with pytest.raises(Misconfigured, match=refusing):
        await world.acquire()


async def test_a_lease_of_another_tunnel_is_renewed_at_the_gateway_of_this_one(world):
    obeys = world.io.far_side
    world.io.far_side = lambda sent: obeys(Sent(sent.at, GATEWAY, sent.port, sent.data))
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    held = await world.acquire()
    world.tunnel = a_tunnel("10.99.0.1", f"{US}/32")
    world.io.sent.clear()
    fresh = await world.renew(held)
    assert {sent.address for sent in world.io.sent} == {"10.99.0.1"}
    assert fresh.exit_address == EXIT
    await world.release(fresh)
    assert not world.mapped
