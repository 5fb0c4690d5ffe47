"""What every provider must do, as tests that a subclass of some lines adapts to one provider.

    class TestMine(ProviderContract):
        plugin = Mine
        world_type = MineWorld                     # a model of the far side, with the switches of `World`
        lifetime = 900                             # seconds that it grants; None: a lease has no end
        wrong_options = (("region", 7),)           # each is rejected in words

The provider is driven over `vpnpf.testing.FakeIO`, so time is virtual. Nothing here looks into a provider: only
at what it returns, at what it tells, and at which mappings stand on the far side. Every failure of every test is read: it is
printable, short, names the next step where the person has to act, and holds no secret.

A test that makes no sense for a provider is set to None in its subclass, with a comment that says why. Providers that speak
NAT-PMP or PCP have `tests/contract/gateways.py`.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import ClassVar

import pytest
from msgspec.structs import replace

from tests.contract.plugin_contract import PluginContract
from tests.contract.provider_world import EXIT, World, mappings_of, stored
from vpnpf.errors import Failure, LeaseLost, Misconfigured, NoAnswer, Transient, Unsupported
from vpnpf.model import BOTH, ForwardSpec, Lease, Protocol

PATIENCE = 4.0
"""Seconds until a person is told that nobody answers."""
RELEASE_LIMIT = 3.0
"""Seconds that the engine gives a release."""
SOONEST_AGAIN = 60.0
"""Seconds; what is for the person to mend is not tried again sooner, if at all."""
TOKENS = ("", "{", "null", "[1]", "{}", "1e999", "\0", "[" * 5000, '{"version": 99}', '{"payload": 1, "signature": []}')
"""What a store may hold: damaged, of another version, of another provider."""
VALUES: tuple[object, ...] = (None, 0, -1, 1e308, "", "\0\x1b[31m", "x" * 5000, [], [[]], {}, {"x": None}, True)
"""What may stand in place of any value that a provider stored."""
MOST_STEPS = 500
"""Turns of the event loop until a lease is there, with margin."""


class ProviderContract(PluginContract):
    """The tests. A subclass whose name begins with Test runs them."""

    world_type: ClassVar[type[World]]
    lifetime: ClassVar[int | None]
    slots: ClassVar[tuple[int, ...]] = (0,)
    """Which forwards are tried where it could make a difference."""
    exit_address: ClassVar[str | None] = EXIT
    """What it says of the address that the internet sees."""
    exact: ClassVar[bool] = True
    """Whether the far side forwards what leases say, and no more: not where it has no single protocols, or no end."""
    hears_wishes: ClassVar[bool] = False
    """Whether a port can be asked for by number, as long as nobody has it."""
    releases: ClassVar[bool] = True
    """Whether the far side knows a release."""
    refused: ClassVar[type[Failure]] = Transient
    """Told at first where nothing listens: Misconfigured, if that is how a missing right shows."""
    patience: ClassVar[float] = PATIENCE
    silence_hint: ClassVar[str] = "tunnel"
    """A word of what a person is told when nobody answers."""

    def make(self) -> World:
        """A world as it is before the first lease."""
        return self.world_type(self.plugin, self.options)  # type: ignore[call-arg] # what it needs beside that is its own

    @pytest.fixture
    def world(self):
        made = self.make()
        yield made
        made.check_texts()

    def pytest_generate_tests(self, metafunc):
        """The parameters that depend on the provider."""
        for name, values in (
            ("slot", self.slots),
            ("hostility", self.world_type.hostilities),
            ("token", TOKENS + self.world_type.tokens),
        ):
            if name in metafunc.fixturenames and not _given(metafunc, name):
                metafunc.parametrize(name, values, ids=range(len(values)) if name == "token" else str)

    def agrees(self, world: World, *leases: Lease) -> bool:
        """Whether the far side forwards what these leases say."""
        return mappings_of(*leases) == world.mapped if self.exact else mappings_of(*leases) <= world.mapped

    # -- a lease ------------------------------------------------------------------------------

    @pytest.mark.parametrize("protocols", [BOTH, (Protocol.TCP,), (Protocol.UDP,)], ids="+".join)
    async def test_a_lease_is_what_the_far_side_forwards(self, world, protocols):
        before = world.clock.now()
        lease = await world.acquire(ForwardSpec("torrent", protocols=protocols))
        assert 0 < lease.external_port < 65536
        assert lease.protocols == protocols
        assert lease.exit_address == self.exit_address
        assert before <= lease.granted_at <= world.clock.now()
        assert lease.lifetime == self.lifetime
        assert self.agrees(world, lease)

    async def test_a_wish(self, world):
        lease = await world.acquire(ForwardSpec("torrent", external_port=40000))
        assert (lease.external_port == 40000) == self.hears_wishes
        assert self.agrees(world, lease)

    async def test_every_forward_it_says_it_can_have(self, world):
        specs = [ForwardSpec(f"f{slot}", slot) for slot in range(self.plugin.manifest.max_forwards)]
        leases = await asyncio.gather(*map(world.acquire, specs))
        assert len({lease.external_port for lease in leases}) == len(specs)
        assert self.agrees(world, *leases)
        self.wait(world)
        renewed = [await world.renew(lease, spec) for lease, spec in zip(leases, specs, strict=True)]
        assert mappings_of(*renewed) == mappings_of(*leases)
        assert self.agrees(world, *renewed)

    # -- renewing -----------------------------------------------------------------------------

    def wait(self, world: World) -> None:
        """Let time pass until a lease is due to be renewed."""
        world.clock.advance((self.lifetime or 7200) / 2)

    @pytest.mark.parametrize("internal", [None, 6881])
    async def test_renewing_keeps_the_port_for_as_long_as_one_likes(self, world, slot, internal):
        spec = ForwardSpec("torrent", slot, internal_port=internal)
        first = held = await world.acquire(spec)
        for _ in range(50):
            self.wait(world)
            now = world.clock.now()
            held = await world.renew(held, spec)
            assert (held.external_port, held.internal_port) == (first.external_port, first.internal_port)
            assert held.granted_at >= now
            assert held.lifetime == self.lifetime
            assert held.exit_address == self.exit_address
            assert self.agrees(world, held)

    async def test_a_renewal_brings_the_new_port_if_the_far_side_changed_it(self, world):
        held = await world.acquire()
        world.change_port()
        fresh = await world.renew(held)
        assert fresh.external_port != held.external_port
        assert fresh.exit_address == self.exit_address
        assert self.agrees(world, fresh)
        again = await world.renew(fresh)
        assert mappings_of(again) == mappings_of(fresh)

    async def test_a_far_side_that_forgot_everything_gives_a_port_again(self, world):
        held = await world.acquire()
        world.lose()
        try:
            fresh = await world.renew(held)
        except LeaseLost:
            fresh = await world.acquire(previous=held)
        assert self.agrees(world, fresh)

    @pytest.mark.parametrize("trouble", ["refuse", "silence", "vanish"])
    async def test_a_renewal_that_finds_nobody_fails_soon_and_costs_nothing(self, world, trouble):
        held = await world.acquire()
        getattr(world, trouble)()
        began = world.clock.now()
        with pytest.raises(Transient) as told:
            await world.renew(held)
        assert told.value.retry_after is None
        assert world.clock.now() - began <= self.patience
        world.heal()
        assert self.agrees(world, held)
        assert (await world.renew(held)).external_port == held.external_port

    async def test_renewals_that_find_nobody_for_a_while_do_not_pile_up(self, world):
        held = await world.acquire()
        world.silence()
        for _ in range(5):
            with pytest.raises(Transient):
                await world.renew(held)
        world.heal()
        fresh = await world.acquire(previous=held)
        assert fresh.external_port == held.external_port
        assert self.agrees(world, fresh)

    # -- what goes wrong ----------------------------------------------------------------------

    async def test_a_missing_right_is_for_the_person_to_mend(self, world):
        world.deny()
        began = world.clock.now()
        with pytest.raises(Misconfigured) as told:
            await world.acquire()
        assert told.value.hint
        assert told.value.retry_after is None or told.value.retry_after >= SOONEST_AGAIN
        assert world.clock.now() - began <= self.patience

    async def test_a_server_that_forwards_no_ports_is_told_from_a_missing_right(self, world):
        world.forbid()
        began = world.clock.now()
        with pytest.raises(Unsupported) as told:
            await world.acquire()
        assert told.value.hint
        assert world.clock.now() - began <= self.patience
        world.heal()
        assert self.agrees(world, await world.acquire())

    async def test_where_nothing_listens_it_is_told_soon(self, world):
        world.refuse()
        began = world.clock.now()
        with pytest.raises(self.refused) as told:
            await world.acquire()
        assert told.value.hint
        assert told.value.retry_after is None or told.value.retry_after >= SOONEST_AGAIN
        assert world.clock.now() - began <= self.patience
        world.heal()
        assert self.agrees(world, await world.acquire())

    async def test_silence_is_told_soon_and_with_what_may_be_the_cause(self, world):
        world.silence()
        began = world.clock.now()
        with pytest.raises(NoAnswer) as told:
            await world.acquire()
        assert world.clock.now() - began <= self.patience
        assert self.silence_hint in told.value.hint
        world.heal()
        assert self.agrees(world, await world.acquire())

    async def test_a_device_that_is_gone_fails_as_such(self, world):
        lease = await world.acquire()
        world.vanish()
        for attempt in (world.acquire(), world.renew(lease)):
            with pytest.raises(Transient):
                await attempt
        with suppress(Transient):
            await world.release(lease)

    async def test_a_hostile_answer_at_first_is_a_failure_that_passes(self, world, hostility):
        world.hostile(hostility)
        began = world.clock.now()
        with pytest.raises((Transient, Misconfigured, Unsupported)):
            await world.acquire()
        assert world.clock.now() - began <= self.patience
        world.heal()
        assert self.agrees(world, await world.acquire())

    async def test_a_hostile_answer_at_a_renewal_costs_no_lease(self, world, hostility):
        held = await world.acquire()
        world.hostile(hostility)
        began = world.clock.now()
        with pytest.raises(Transient):
            await world.renew(held)
        assert world.clock.now() - began <= self.patience
        world.heal()
        assert (await world.renew(held)).external_port == held.external_port
        assert self.agrees(world, held)

    async def test_a_hostile_answer_to_a_release_is_no_crash(self, world, hostility):
        lease = await world.acquire()
        world.hostile(hostility)
        with suppress(Failure):
            await world.release(lease)
        world.heal()
        assert mappings_of(await world.acquire()) <= world.mapped

    @pytest.mark.parametrize("what", ["acquire", "renew", "release"])
    async def test_cancelled_at_any_await_it_works_afterwards(self, what):
        for turns in range(1, MOST_STEPS):
            world = self.make()
            held = None if what == "acquire" else await world.acquire()
            task = asyncio.create_task(getattr(world, what)(*(() if held is None else (held,))))
            for _ in range(turns):
                await asyncio.sleep(0)
            if task.done():
                await task
                asks = self.world_type.hostilities and (what != "release" or self.releases)
                assert turns > 1 or not asks
                return
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            lease = await world.acquire(previous=held)
            assert mappings_of(lease) <= world.mapped
            if what == "renew":
                assert held is not None
                assert lease.external_port == held.external_port
            world.check_texts()
        pytest.fail("it has no end")

    async def test_no_secret_is_in_what_is_told(self, world):
        await world.acquire()
        for trouble in ("deny", "forbid", "refuse", "silence", "vanish", *self.world_type.hostilities):
            world.restart()
            if trouble in self.world_type.hostilities:
                world.hostile(trouble)
            else:
                getattr(world, trouble)()
            for attempt in (world.acquire, world.acquire):
                with suppress(Failure):
                    await attempt()
            world.heal()
        assert world.told
        world.check_texts()

    # -- after a restart ----------------------------------------------------------------------

    @pytest.mark.parametrize("internal", [None, 6881])
    async def test_after_a_restart_the_mapping_that_still_stands_is_taken_over(self, world, slot, internal):
        spec = ForwardSpec("torrent", slot, internal_port=internal)
        lease = await world.acquire(spec)
        world.restart()
        for _ in range(8):
            again = await world.acquire(spec, stored(lease))
            assert mappings_of(again) == mappings_of(lease)
            assert self.agrees(world, again)

    async def test_every_forward_is_taken_over_after_a_restart(self, world):
        specs = [ForwardSpec(f"f{slot}", slot) for slot in range(self.plugin.manifest.max_forwards)]
        leases = [await world.acquire(spec) for spec in specs]
        world.restart()
        again = [await world.acquire(spec, stored(lease)) for spec, lease in zip(specs, leases, strict=True)]
        assert mappings_of(*again) == mappings_of(*leases)
        assert self.agrees(world, *again)

    async def test_a_port_that_ended_is_asked_for_again(self, world):
        lease = await world.acquire(ForwardSpec("torrent", external_port=41234))
        await world.release(lease)
        world.restart()
        again = await world.acquire(previous=stored(lease))
        assert self.agrees(world, again)
        if self.hears_wishes:
            assert again.external_port == lease.external_port == 41234

    async def test_whatever_token_the_store_has(self, world, slot, token):
        spec = ForwardSpec("torrent", slot)
        lease = await world.acquire(spec)
        again = await world.acquire(spec, replace(stored(lease), token=token))
        assert mappings_of(again) <= world.mapped
        with suppress(LeaseLost):
            await world.renew(replace(again, token=token), spec)
        await world.release(replace(again, token=token))
        if self.releases:
            assert not mappings_of(again) & world.mapped

    async def test_whatever_the_accounts_store_has(self, world):
        lease = await world.acquire()
        kept = dict(world.io.store.texts)
        for name, text in kept.items():
            whole = json.loads(text)
            spoilt = [{}, *({**whole, key: value} for key in whole for value in VALUES)]
            for one in spoilt:
                world.io.store.texts = {**kept, name: json.dumps(one)}
                world.restart()
                again = await world.acquire(previous=stored(lease))
                assert mappings_of(again) <= world.mapped

    # -- releasing ----------------------------------------------------------------------------

    @pytest.mark.parametrize("protocols", [BOTH, (Protocol.TCP,), (Protocol.UDP,)], ids="+".join)
    async def test_what_is_released_ends_and_nothing_else(self, world, protocols):
        last = self.plugin.manifest.max_forwards - 1
        kept = await world.acquire(ForwardSpec("kept", last)) if last else None
        lease = await world.acquire(ForwardSpec("torrent", protocols=protocols))
        await world.release(lease)
        assert mappings_of(*filter(None, [kept])) <= world.mapped
        if self.releases:
            assert not mappings_of(lease) & world.mapped

    async def test_a_release_after_the_port_changed_ends_the_new_one(self, world):
        held = await world.acquire()
        world.change_port()
        fresh = await world.renew(held)
        await world.release(fresh)
        if self.releases:
            assert not mappings_of(fresh) & world.mapped

    async def test_a_release_that_nobody_answers_is_over_soon(self, world):
        lease = await world.acquire()
        world.silence()
        began = world.clock.now()
        with suppress(NoAnswer):
            await world.release(lease)
        assert world.clock.now() - began < RELEASE_LIMIT

    async def test_releasing_twice_is_nothing_bad(self, world):
        lease = await world.acquire()
        await world.release(lease)
        await world.release(lease)


def _given(metafunc, name: str) -> bool:
    """Whether the test has a list of its own for this parameter."""
    return any(name in str(mark.args[0]) for mark in metafunc.definition.iter_markers("parametrize"))
