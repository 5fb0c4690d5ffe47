"""What every provider must do, as tests that a subclass of some lines adapts to one provider.

    class TestMine(ProviderContract):
        plugin = Mine
        mode = "rfc"                               # of mock_provider.natpmp.Machine, the far side
        lifetime = 7200                            # what it grants at most
        wrong_options = (("gateway", "nowhere"),)  # each is rejected in words

The provider is driven over `vpnpf.testing.FakeIO`, so time is virtual. Nothing here looks into a provider: only
at what it sends, what it returns, and which mappings stand on the far side.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import re
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest
from msgspec.structs import replace

from tests.contract.provider_world import EXIT, GATEWAY, World, imported_by, mappings_of, stored
from vpnpf import plugins
from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer, Refused, Transient, Unsupported
from vpnpf.interfaces import Provider
from vpnpf.model import BOTH, ForwardSpec, Protocol
from vpnpf.testing import FakeIO

PATIENCE = 4.0
"""Seconds until a person is told that nobody answers."""
RELEASE_LIMIT = 3.0
"""Seconds that the engine gives a release."""
TOKENS = (
    "",
    "{",
    "null",
    "[1]",
    "{}",
    "1e999",
    "\0",
    '{"gateway": 1, "internal": 0, "external": 1}',
    '{"gateway": "10.2.0.1", "internal": 70000, "external": 1}',
    '{"gateway": "10.2.0.1", "internal": -1, "external": 1}',
    '{"gateway": "192.0.2.1", "internal": 0, "external": 1}',
    '{"gateway": "", "internal": 49152, "external": 0}',
    '{"gateway": "10.2.0.1", "internal": null, "external": 1}',
)
"""What a store may hold: damaged, of another version, of another provider, of another tunnel."""


class ProviderContract:
    """The tests. A subclass whose name begins with Test runs them."""

    plugin: ClassVar[type[Provider]]
    mode: ClassVar[str]
    lifetime: ClassVar[int]
    options: ClassVar[dict[str, object]] = {}
    good_options: ClassVar[tuple[tuple[str, object], ...]] = ()
    wrong_options: ClassVar[tuple[tuple[str, object], ...]] = ()
    hears_wishes: ClassVar[bool] = True
    """Whether a port can be asked for by number, as long as nobody has it."""
    patience: ClassVar[float] = PATIENCE
    silence_hint: ClassVar[str] = "handshake"
    """A word of what a person is told when nobody answers."""

    @pytest.fixture
    def world(self):
        made = World(self.plugin, self.options, self.mode, self.lifetime)
        yield made
        everything = [row for row in made.requests if row[1] == 0 and row[3] == 0]
        assert not everything, "it asked to delete all mappings of this machine"

    # -- a lease ------------------------------------------------------------------------------

    @pytest.mark.parametrize("protocols", [BOTH, (Protocol.TCP,), (Protocol.UDP,)], ids="+".join)
    async def test_a_lease_is_what_the_gateway_forwards(self, world, protocols):
        before = world.clock.now()
        lease = await world.acquire(ForwardSpec("torrent", protocols=protocols))
        assert 0 < lease.external_port < 65536
        assert lease.protocols == protocols
        assert lease.exit_address == EXIT
        assert before <= lease.granted_at <= world.clock.now()
        assert lease.lifetime == self.lifetime
        assert world.mapped == mappings_of(lease)

    async def test_an_exit_address_that_the_gateway_does_not_know_is_none(self, world):
        world.machine.exit_address = "0.0.0.0"
        assert (await world.acquire()).exit_address is None

    async def test_a_wish(self, world):
        lease = await world.acquire(ForwardSpec("torrent", external_port=40000))
        assert (lease.external_port == 40000) == self.hears_wishes
        assert world.mapped == mappings_of(lease)

    async def test_every_forward_it_says_it_can_have(self, world):
        specs = [ForwardSpec(f"f{slot}", slot) for slot in range(self.plugin.manifest.max_forwards)]
        leases = await asyncio.gather(*map(world.acquire, specs))
        assert len({lease.external_port for lease in leases}) == len(specs)
        assert world.mapped == mappings_of(*leases)
        world.clock.advance(self.lifetime / 2)
        renewed = [await world.renew(lease, spec) for lease, spec in zip(leases, specs, strict=True)]
        assert mappings_of(*renewed) == mappings_of(*leases) == world.mapped

    async def test_every_forward_with_a_local_port_of_its_own(self, world):
        most = self.plugin.manifest.max_forwards
        specs = [ForwardSpec(f"f{slot}", slot, internal_port=6881 + slot) for slot in range(most)]
        leases = [await world.acquire(spec) for spec in specs]
        assert len({lease.external_port for lease in leases}) == most
        assert world.mapped == mappings_of(*leases)
        assert sum(lease.internal_port != spec.internal_port for lease, spec in zip(leases, specs, strict=True)) <= 1

    # -- renewing -----------------------------------------------------------------------------

    @pytest.mark.parametrize("slot", [0, 1])
    @pytest.mark.parametrize("internal", [None, 6881])
    async def test_renewing_keeps_the_port_for_as_long_as_one_likes(self, world, slot, internal):
        spec = ForwardSpec("torrent", slot, internal_port=internal)
        first = held = await world.acquire(spec)
        for _ in range(50):
            world.clock.advance(self.lifetime / 2)
            now = world.clock.now()
            held = await world.renew(held, spec)
            assert (held.external_port, held.internal_port) == (first.external_port, first.internal_port)
            assert held.granted_at >= now
            assert held.exit_address == EXIT
            assert world.mapped == mappings_of(held)

    async def test_a_renewal_brings_the_new_port_if_the_gateway_changed_it(self, world):
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

    async def test_refused_at_first_is_for_the_person_to_mend(self, world):
        world.io.refuse = True
        began = world.clock.now()
        with pytest.raises(Misconfigured) as told:
            await world.acquire()
        assert told.value.hint
        assert told.value.retry_after is not None
        assert told.value.retry_after >= 60
        assert world.clock.now() - began <= self.patience

    async def test_refused_for_a_moment_is_not(self, world):
        world.io.refuse_next(3)
        assert mappings_of(await world.acquire()) == world.mapped

    async def test_refused_by_a_gateway_that_has_answered_passes(self, world):
        world.io.meets = lambda sent: sent.data[1] != 0
        world.io.refuse = True
        with pytest.raises(Refused):
            await world.acquire()

    async def test_silence_is_told_soon_and_with_what_may_be_the_cause(self, world):
        world.io.drop = True
        began = world.clock.now()
        with pytest.raises(NoAnswer) as told:
            await world.acquire()
        assert world.clock.now() - began <= self.patience
        assert self.silence_hint in told.value.hint
        assert GATEWAY in told.value.hint

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

    # -- after a restart ----------------------------------------------------------------------

    @pytest.mark.parametrize("slot", [0, 1])
    @pytest.mark.parametrize("internal", [None, 6881])
    async def test_after_a_restart_the_mapping_that_still_stands_is_taken_over(self, world, slot, internal):
        spec = ForwardSpec("torrent", slot, internal_port=internal)
        lease = await world.acquire(spec)
        world.restart()
        for _ in range(8):
            again = await world.acquire(spec, stored(lease))
            assert mappings_of(again) == mappings_of(lease) == world.mapped

    async def test_every_forward_is_taken_over_after_a_restart(self, world):
        specs = [ForwardSpec(f"f{slot}", slot) for slot in range(self.plugin.manifest.max_forwards)]
        leases = [await world.acquire(spec) for spec in specs]
        world.restart()
        again = [await world.acquire(spec, stored(lease)) for spec, lease in zip(specs, leases, strict=True)]
        assert mappings_of(*again) == mappings_of(*leases) == world.mapped

    async def test_a_port_that_ended_is_asked_for_again(self, world):
        lease = await world.acquire(ForwardSpec("torrent", external_port=41234))
        await world.release(lease)
        again = await world.acquire(previous=stored(lease))
        assert world.mapped == mappings_of(again)
        if self.hears_wishes:
            assert again.external_port == lease.external_port == 41234

    @pytest.mark.parametrize("slot", [0, 1])
    @pytest.mark.parametrize("token", TOKENS, ids=range(len(TOKENS)))
    async def test_whatever_token_the_store_has(self, world, slot, token):
        spec = ForwardSpec("torrent", slot)
        lease = await world.acquire(spec)
        again = await world.acquire(spec, replace(stored(lease), token=token))
        assert mappings_of(again) <= world.mapped
        with suppress(LeaseLost):
            await world.renew(replace(again, token=token), spec)
        await world.release(replace(again, token=token))
        assert not mappings_of(again) & world.mapped

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

    async def test_releasing_twice_is_nothing_bad(self, world):
        lease = await world.acquire()
        await world.release(lease)
        await world.release(lease)

    # -- the plug-in itself -------------------------------------------------------------------

    def test_it_is_found_by_its_id_and_says_what_it_is(self):
        manifest = self.plugin.manifest
        assert plugins.provider(manifest.id) is self.plugin
        assert manifest.name
        assert manifest.summary
        assert not manifest.summary.endswith(".")
        assert manifest.verified
        assert manifest.max_forwards >= 1

    def test_good_options_are_taken_and_wrong_ones_rejected_in_words(self):
        options = {option.name: option for option in self.plugin.manifest.options}
        for name, value in self.good_options:
            assert type(value) is options[name].type
            assert options[name].check(value) == ""
            self.plugin({name: value})
        for name, value in self.wrong_options:
            assert options[name].check(value), f"{name} = {value!r} was taken"
        assert {name for name, _ in self.wrong_options} == set(options), "an option without an example of a wrong value"
        assert all(option.help for option in options.values())

    def test_it_sees_nothing_of_vpnpf_but_the_plug_in_surface(self):
        forbidden = {"asyncio", "threading", "socket", "time", "os", "subprocess", "pathlib", "random", "mock_provider"}
        for name in imported_by(Path(inspect.getfile(self.plugin))):
            root = name.partition(".")[0]
            assert root not in forbidden, "a plug-in has no timers, files or sockets of its own"
            assert root != "vpnpf" or name == "vpnpf.api", name
