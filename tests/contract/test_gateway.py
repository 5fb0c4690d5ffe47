"""The providers `gateway` and `router` keep the contract in each protocol; and what is their own."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.contract.gateway_world import FakeIgd, GatewayWorld
from tests.contract.gateways import GatewayContract
from tests.contract.provider_world import EXIT, GATEWAY, US, mappings_of, stored
from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer, Refused, Transient, Unsupported, WishRefused
from vpnpf.model import BOTH, EpochRule, ForwardSpec, Protocol
from vpnpf.protocol.announcement import Announcement
from vpnpf.testing import a_tunnel
from vpnpf_providers.gateway import Gateway
from vpnpf_providers.natpmp import NatPmp
from vpnpf_providers.router import Router

TCP, UDP = BOTH
WRONG = (
    ("gateway", ""),
    ("gateway", "vpn.example"),
    ("gateway", "2a07:b944::2:1"),
    ("gateway", "127.0.0.1"),
    ("protocol", ""),
    ("protocol", "PCP"),
    ("lifetime", 0),
    ("lifetime", 86401),
)
GOOD = (("gateway", "10.98.0.1"), ("lifetime", 1), ("protocol", "auto"), ("protocol", "nat-pmp"), ("protocol", "upnp"))


class AnyProtocol(GatewayContract):
    plugin = Gateway
    mode = "rfc"
    lifetime = 7200
    speaks = "both"
    good_options = GOOD
    wrong_options = WRONG
    patience = 8.0  # a budget for each protocol over datagrams

    def make(self):
        return GatewayWorld(self.plugin, self.options, self.speaks, self.lifetime)

    @pytest.fixture
    def world(self):
        made = self.make()
        yield made
        made.check_texts()
        assert not [row for row in made.requests if row[1] == 0], "it asked for all ports of this machine"


class OverPcp(AnyProtocol):
    """What PCP has otherwise than NAT-PMP."""

    async def test_a_new_port_is_no_less_ours_if_the_exit_address_cannot_be_asked_for(self, world):
        held = await world.acquire()
        world.faults.rotate()
        world.machine.exit_address = "0.0.0.0"
        fresh = await world.renew(held)
        assert fresh.exit_address is None
        assert world.mapped == mappings_of(fresh)

    @pytest.mark.parametrize("number", [6, 17])
    async def test_half_a_renewal_tears_nothing_down(self, world, number):
        held = await world.acquire()
        world.io.meets = lambda sent: sent.data[36] == number
        world.io.drop = True
        with pytest.raises(NoAnswer):
            await world.renew(held)
        assert world.mapped == mappings_of(held)

    async def test_two_ports_at_a_renewal_are_a_failure_that_gives_nothing_back(self, world):
        held = await world.acquire()
        world.faults.tcp_differs = True
        with pytest.raises(WishRefused):
            await world.renew(held)
        assert (UDP, held.external_port, held.internal_port) in world.mapped
        assert not [row for row in world.requests if row[3] == 0]

    async def test_two_ports_are_a_failure_and_nothing_stays_mapped(self, world):
        world.faults.tcp_differs = True
        with pytest.raises(Transient):
            await world.acquire()
        assert not world.mapped

    async def test_refused_by_a_gateway_that_has_answered_passes(self, world):
        lease = await world.acquire()
        await world.release(lease)
        world.io.refuse = True
        with pytest.raises((Refused, Misconfigured)):
            await world.acquire()
        world.io.refuse = False
        assert mappings_of(await world.acquire()) == world.mapped

    @pytest.mark.parametrize(
        ("result", "kind"), [(2, Misconfigured), (5, Unsupported), (7, Transient), (8, Transient), (10, Transient)]
    )
    async def test_results_at_first(self, world, result, kind):
        world.faults.result = result
        with pytest.raises(kind) as told:
            await world.acquire()
        assert type(told.value) is kind
        assert f"result {result}" in told.value.cause
        assert told.value.hint

    async def test_the_lease_has_epoch_and_rule(self, world):
        lease = await world.acquire()
        assert (lease.epoch_rule, lease.epoch_at) == (EpochRule.PCP, world.clock.now())
        assert lease.epoch is not None


class TestBoth(OverPcp):
    pass


class TestPcpOnly(OverPcp):
    speaks = "pcp-only"

    async def test_refused_for_a_moment_is_not(self, world):
        world.io.refuse_next(3)
        with pytest.raises(Refused):
            await world.acquire()
        assert mappings_of(await world.acquire()) == world.mapped


async def met(world):
    """It knows that the gateway speaks NAT-PMP: every further lease takes the same datagrams."""
    await world.release(await world.acquire())
    world.io.sent.clear()


class TestNatPmpOnly(AnyProtocol):
    speaks = "natpmp-only"

    async def test_whenever_the_tunnel_dies_it_fails_as_designed_and_works_afterwards(self, world):
        await met(world)
        await super().test_whenever_the_tunnel_dies_it_fails_as_designed_and_works_afterwards(world)

    async def test_given_up_at_any_moment_it_works_afterwards(self, world):
        await met(world)
        await super().test_given_up_at_any_moment_it_works_afterwards(world)


class TestRouter(OverPcp):
    plugin = Router
    silence_hint = "your router"


@pytest.fixture
def world(request):
    return GatewayWorld(Gateway, {}, getattr(request, "param", "both"), 7200)


def only(igd: FakeIgd, options: dict[str, object] | None = None) -> GatewayWorld:
    """A gateway that speaks UPnP only."""
    made = GatewayWorld(Gateway, options or {}, "both", 7200)
    made.io.meets = lambda _sent: True
    made.io.drop = True
    made.io.igds[GATEWAY] = igd
    return made


async def test_pcp_is_asked_first_and_alone(world):
    await world.renew(await world.acquire())
    assert set(world.versions) == {2}


@pytest.mark.parametrize("world", ["natpmp-only"], indirect=True)
async def test_a_gateway_of_version_0_is_asked_by_nat_pmp_at_once_and_from_then_on(world):
    began = world.clock.now()
    lease = await world.acquire()
    assert world.clock.now() == began
    assert world.versions == [2, 0, 0, 0]
    assert (lease.epoch_rule, lease.epoch_at) == (EpochRule.NATPMP, began)
    await world.acquire(ForwardSpec("other", 1))
    assert set(world.versions[4:]) == {0}
    world.restart()
    asked = len(world.versions)
    await world.acquire(previous=stored(lease))
    assert set(world.versions[asked:]) == {0}


async def test_a_gateway_that_changed_its_protocol_is_asked_in_the_others(world):
    lease = await world.acquire()
    world.machine.speaks = "natpmp-only"
    world.machine.reset_epoch(world.clock.now())
    assert mappings_of(await world.acquire(previous=stored(lease))) == world.mapped
    world.machine.speaks = "pcp-only"
    world.machine.reset_epoch(world.clock.now())
    assert mappings_of(await world.acquire()) == world.mapped


@pytest.mark.parametrize(("option", "version"), [("pcp", 2), ("nat-pmp", 0)])
async def test_the_option_decides(option, version):
    world = GatewayWorld(Gateway, {"protocol": option, "lifetime": 600, "gateway": GATEWAY}, "both", 7200)
    world.tunnel = a_tunnel("10.98.0.1", f"{US}/32")
    lease = await world.acquire()
    assert lease.lifetime == 600
    assert set(world.versions) == {version}
    await world.release(lease)
    assert not world.mapped


async def test_after_a_restart_without_its_token_another_port_is_had(world):
    lease = await world.acquire()
    world.restart()
    again = await world.acquire(previous=replace(stored(lease), token=""))
    assert again.internal_port != lease.internal_port
    assert mappings_of(again) <= world.mapped


@pytest.mark.parametrize("token", ["", '{"gateway": "192.0.2.1", "protocol": "nat-pmp", "nonce": ""}'])
async def test_after_a_restart_what_is_not_known_can_be_neither_renewed_nor_released(world, token):
    lease = replace(await world.acquire(), token=token)
    world.restart()
    with pytest.raises(LeaseLost):
        await world.renew(lease)
    with pytest.raises(LeaseLost):
        await world.release(lease)


async def test_tries_without_an_answer_do_not_pile_up(world):
    world.io.drop_answers = True
    for _ in range(3):
        with pytest.raises(NoAnswer):
            await world.acquire()
    assert len({internal for _, internal, _ in world.mapped}) == 1
    world.io.drop_answers = False
    assert mappings_of(await world.acquire()) <= world.mapped


@pytest.mark.parametrize("plugin", [Gateway, NatPmp, Router])
async def test_it_listens_to_the_gateway(plugin):
    world = GatewayWorld(plugin, {}, "both", 7200)
    assert plugin.manifest.announces
    heard = Announcement(0, 7, EXIT)
    world.io.announcements.put_nowait(heard)
    assert await world.provider.listen(world.io, world.tunnel) == heard


# -- UPnP -----------------------------------------------------------------------------------------


async def test_upnp_is_the_last_that_is_tried_and_then_the_first():
    igd = FakeIgd()
    world = only(igd)
    lease = await world.acquire()
    assert mappings_of(lease) == igd.mapped
    assert lease.external_port == lease.internal_port
    assert (lease.lifetime, lease.exit_address, lease.epoch) == (7200, EXIT, None)
    asked = len(world.io.sent)
    world.clock.advance(3600)
    renewed = await world.renew(lease)
    assert renewed == replace(lease, granted_at=world.clock.now())
    world.restart()
    assert mappings_of(await world.acquire(previous=stored(renewed))) == igd.mapped
    assert len(world.io.sent) == asked
    await world.release(renewed)
    assert not igd.mapped


async def test_a_mapping_that_stays_has_no_end():
    world = only(FakeIgd(permanent=True))
    assert (await world.acquire()).lifetime is None


async def test_a_port_that_another_has_in_one_protocol_is_evaded_in_both():
    igd = FakeIgd()
    igd.taken.add((UDP, 40000))
    lease = await only(igd).acquire(ForwardSpec("torrent", external_port=40000))
    assert (lease.external_port, lease.internal_port) == (40001, 40001)
    assert mappings_of(lease) == igd.mapped


async def test_half_of_what_was_asked_for_is_given_back():
    igd = FakeIgd()
    igd.fails.add(UDP)
    with pytest.raises(Transient, match="501"):
        await only(igd).acquire()
    assert not igd.mapped


async def test_a_renewal_that_fails_gives_nothing_back():
    igd = FakeIgd()
    world = only(igd)
    lease = await world.acquire()
    igd.fails.add(UDP)
    with pytest.raises(Transient, match="501"):
        await world.renew(lease)
    assert igd.mapped == mappings_of(lease)
    world.io.igds.clear()
    with pytest.raises(NoAnswer):
        await world.renew(lease)


async def test_an_address_that_is_not_known_is_none():
    assert (await only(FakeIgd(None)).acquire()).exit_address is None


async def test_a_fixed_local_port_stays():
    igd = FakeIgd()
    lease = await only(igd, {"protocol": "upnp"}).acquire(
        ForwardSpec("web", protocols=(Protocol.TCP,), internal_port=80)
    )
    assert lease.internal_port == 80
    assert igd.mapped == mappings_of(lease)
