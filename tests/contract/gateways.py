"""What every provider must do that asks a gateway for mappings, by NAT-PMP or PCP: more than `providers.py`.

class TestMine(GatewayContract):
    plugin = Mine
    mode = "rfc"                               # of mock_provider.natpmp.Machine, the far side
    lifetime = 7200                            # what it grants at most
    wrong_options = (("gateway", "nowhere"),)  # each is rejected in words
"""

from __future__ import annotations

import asyncio
import itertools
import re
from typing import ClassVar

import pytest

from tests.contract.gateway_world import NatPmpWorld
from tests.contract.provider_world import EXIT, GATEWAY, World, mappings_of
from tests.contract.providers import RELEASE_LIMIT, ProviderContract
from vpnpf.errors import Failure, Misconfigured, NoAnswer, Refused, Transient, Unsupported
from vpnpf.model import BOTH, ForwardSpec, Protocol
from vpnpf.testing import FakeIO


class GatewayContract(ProviderContract):
    """The tests. A subclass whose name begins with Test runs them."""

    world_type: ClassVar[type[NatPmpWorld]] = NatPmpWorld
    mode: ClassVar[str]
    lifetime: ClassVar[int]
    slots: ClassVar[tuple[int, ...]] = (0, 1)
    hears_wishes: ClassVar[bool] = True
    refused: ClassVar[type[Failure]] = Misconfigured
    silence_hint: ClassVar[str] = "handshake"

    def make(self) -> World:
        return self.world_type(self.plugin, self.options, self.mode, self.lifetime)

    @pytest.fixture
    def world(self):
        made = self.make()
        yield made
        everything = [row for row in made.requests if row[1] == 0 and row[3] == 0]
        assert not everything, "it asked to delete all mappings of this machine"
        made.check_texts()

    # -- a lease ------------------------------------------------------------------------------

    async def test_an_exit_address_that_the_gateway_does_not_know_is_none(self, world):
        world.machine.exit_address = "0.0.0.0"
        assert (await world.acquire()).exit_address is None

    async def test_every_forward_with_a_local_port_of_its_own(self, world):
        most = self.plugin.manifest.max_forwards
        specs = [ForwardSpec(f"f{slot}", slot, internal_port=6881 + slot) for slot in range(most)]
        leases = [await world.acquire(spec) for spec in specs]
        assert len({lease.external_port for lease in leases}) == most
        assert world.mapped == mappings_of(*leases)
        assert sum(lease.internal_port != spec.internal_port for lease, spec in zip(leases, specs, strict=True)) <= 1

    # -- renewing -----------------------------------------------------------------------------

    async def test_a_renewal_brings_the_new_port_if_the_far_side_changed_it(self, world):
        held = await world.acquire()
        world.faults.rotate()
        fresh = await world.renew(held)
        assert fresh.external_port != held.external_port
        assert fresh.exit_address == EXIT
        assert world.mapped == mappings_of(fresh)
        assert await world.renew(fresh) == fresh

    async def test_a_new_port_is_no_less_ours_if_the_exit_address_cannot_be_asked_for(self, world):
        held = await world.acquire()
        world.faults.rotate()
        world.io.meets = lambda sent: sent.data[1] == 0
        world.io.drop = True
        fresh = await world.renew(held)
        assert fresh.exit_address is None
        assert world.mapped == mappings_of(fresh)

    async def test_a_renewal_at_a_gateway_that_forgot_everything_maps_anew(self, world):
        held = await world.acquire()
        world.machine.reset_epoch(world.clock.now())
        fresh = await world.renew(held)
        assert world.mapped == mappings_of(fresh)
        assert fresh.epoch < held.epoch

    async def test_refused_at_a_renewal_passes(self, world):
        held = await world.acquire()
        world.io.refuse = True
        with pytest.raises(Refused) as told:
            await world.renew(held)
        assert type(told.value) is Refused
        assert told.value.retry_after is None
        assert world.mapped == mappings_of(held)
        world.io.refuse = False
        assert (await world.renew(held)).external_port == held.external_port

    @pytest.mark.parametrize("result", [1, 2, 3, 4, 5, 6, 77])
    async def test_whatever_a_renewal_is_told_passes(self, world, result):
        held = await world.acquire()
        world.faults.result = result
        with pytest.raises(Transient, match=str(result)):
            await world.renew(held)
        world.faults.result = 0
        assert (await world.renew(held)).external_port == held.external_port

    @pytest.mark.parametrize("opcode", [1, 2])
    async def test_half_a_renewal_tears_nothing_down(self, world, opcode):
        held = await world.acquire()
        world.io.meets = lambda sent: sent.data[1] == opcode
        world.io.drop = True
        with pytest.raises(NoAnswer):
            await world.renew(held)
        assert world.mapped == mappings_of(held)

    async def test_two_ports_at_a_renewal_are_a_failure_that_gives_nothing_back(self, world):
        held = await world.acquire()
        world.faults.tcp_differs = True
        with pytest.raises(Transient):
            await world.renew(held)
        assert (Protocol.UDP, held.external_port, held.internal_port) in world.mapped
        assert not [row for row in world.requests if row[3] == 0]

    # -- what goes wrong ----------------------------------------------------------------------

    async def test_silence_names_the_gateway(self, world):
        world.silence()
        with pytest.raises(NoAnswer) as told:
            await world.acquire()
        assert GATEWAY in told.value.hint

    async def test_refused_at_first_is_tried_again_after_a_while(self, world):
        world.refuse()
        with pytest.raises(Misconfigured) as told:
            await world.acquire()
        assert told.value.retry_after is not None
        assert told.value.retry_after >= 60

    async def test_refused_for_a_moment_is_not(self, world):
        world.io.refuse_next(3)
        assert mappings_of(await world.acquire()) == world.mapped

    async def test_refused_by_a_gateway_that_has_answered_passes(self, world):
        world.io.meets = lambda sent: sent.data[1] != 0
        world.io.refuse = True
        with pytest.raises(Refused):
            await world.acquire()

    @pytest.mark.parametrize(("result", "kind"), [(2, Misconfigured), (3, Transient), (4, Transient), (5, Unsupported)])
    async def test_results_at_first(self, world, result, kind):
        world.faults.result = result
        with pytest.raises(kind) as told:
            await world.acquire()
        assert type(told.value) is kind
        assert f"result {result}" in told.value.cause
        assert told.value.hint

    async def test_two_ports_are_a_failure_and_nothing_stays_mapped(self, world):
        world.faults.tcp_differs = True
        with pytest.raises(Transient) as told:
            await world.acquire()
        assert re.search(r"\d+/tcp and \d+/udp", told.value.cause)
        assert not world.mapped

    async def test_a_device_that_is_gone(self, world):
        lease = await world.acquire()
        world.io.gone = True
        for attempt in (world.acquire(), world.renew(lease), world.release(lease)):
            with pytest.raises(Transient):
                await attempt

    @pytest.mark.parametrize("delay", [0.2, 0.3, 1.9])
    async def test_late_and_doubled_answers(self, world, delay):
        world.io.delay, world.io.duplicate = delay, True
        lease = await world.acquire()
        assert world.mapped == mappings_of(lease)
        world.clock.advance_to(lease.granted_at + self.lifetime / 2)
        assert mappings_of(await world.renew(lease)) == mappings_of(lease)

    @pytest.mark.parametrize("spoil", [FakeIO.drop_next, FakeIO.refuse_next], ids=["lost", "refused"])
    async def test_whichever_datagram_is_lost_or_refused_the_lease_comes_and_ends_no_later_than_the_mapping(
        self, world, spoil
    ):
        await world.release(await world.acquire())
        normal = len(world.io.sent)
        for number in range(normal):
            begun = itertools.count()
            world.io.meets = lambda _sent, begun=begun, number=number: next(begun) >= number
            spoil(world.io)
            lease = await world.acquire()
            assert world.mapped == mappings_of(lease)
            assert lease.expires_at <= world.machine.next_expiry
            world.io.meets = lambda _sent: True
            await world.release(lease)
            assert not world.mapped

    async def test_whenever_the_tunnel_dies_it_fails_as_designed_and_works_afterwards(self, world):
        await world.acquire()
        for number in range(len(world.io.sent)):
            world.machine.reset_epoch(world.clock.now())
            begun = itertools.count()
            world.io.meets = lambda _sent, begun=begun, number=number: next(begun) >= number
            world.io.drop = True
            with pytest.raises(NoAnswer):
                await world.acquire()
            world.io.drop = False
            assert mappings_of(await world.acquire()) <= world.mapped

    async def test_given_up_at_any_moment_it_works_afterwards(self, world):
        await world.acquire()
        for number in range(1, len(world.io.sent) + 1):
            begun, reached = itertools.count(1), asyncio.Event()
            obeys = world.io.far_side

            def notice(sent, *, begun=begun, reached=reached, number=number, obeys=obeys):
                if next(begun) == number:
                    reached.set()
                return obeys(sent)

            world.io.far_side = notice
            task = asyncio.create_task(world.acquire())
            await reached.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            world.io.far_side = obeys
            lease = await world.acquire()
            assert mappings_of(lease) <= world.mapped
            world.machine.reset_epoch(world.clock.now())

    # -- releasing ----------------------------------------------------------------------------

    @pytest.mark.parametrize("slot", [0, 1])
    @pytest.mark.parametrize("protocols", [BOTH, (Protocol.TCP,), (Protocol.UDP,)], ids="+".join)
    async def test_a_release_ends_the_mappings_and_no_others(self, world, slot, protocols):
        kept = await world.acquire(ForwardSpec("kept", 2))
        lease = await world.acquire(ForwardSpec("torrent", slot, protocols=protocols))
        await world.release(lease)
        assert world.mapped == mappings_of(kept)
        deletes = [row for row in world.requests if row[3] == 0]
        assert {row[0] for row in deletes} == set(protocols)
        assert all(wish == 0 for _, _, wish, _ in deletes)

    async def test_a_release_after_the_port_changed_ends_the_new_one(self, world):
        held = await world.acquire()
        world.faults.rotate()
        await world.release(await world.renew(held))
        assert not world.mapped

    async def test_a_release_that_nobody_answers_is_over_soon(self, world):
        lease = await world.acquire()
        world.io.drop = True
        began = world.clock.now()
        with pytest.raises(NoAnswer):
            await world.release(lease)
        assert world.clock.now() - began < RELEASE_LIMIT
        assert {row[0] for row in world.requests if row[3] == 0} == set(BOTH), "both were tried"
