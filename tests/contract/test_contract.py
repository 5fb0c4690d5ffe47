"""The provider contract finds what it is there for: providers that are wrong in one way each fail in a test of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import ClassVar

import pytest
from _pytest.outcomes import Failed
from msgspec.structs import replace

from tests.contract.gateway_world import NatPmpWorld
from tests.contract.gateways import GatewayContract
from vpnpf.errors import Failure, LeaseLost, Misconfigured, NoAnswer, Transient
from vpnpf.model import Lease, MappingRequest, Tunnel
from vpnpf_providers.natpmp import NatPmp

SECRET = "canary-0123456789"
FOUND = (AssertionError, Failed, Failure, ValueError)
"""How a test of the contract fails."""


class Honest(NatPmp):
    """Nothing is wrong with it."""


class Tells(NatPmp):
    """A secret is in what it tells."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        try:
            return await super().acquire(io, tunnel, request)
        except NoAnswer as error:
            raise NoAnswer(error.doing, f"{error.cause} (sent {SECRET})", error.hint) from None


class TellsByItsCause(NatPmp):
    """A secret is in the exception that caused what it tells."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        try:
            return await super().acquire(io, tunnel, request)
        except NoAnswer as error:
            raise error from ValueError(SECRET)


class Shows(NatPmp):
    """A secret is in its repr."""

    def __repr__(self) -> str:
        return f"Shows({SECRET})"


class Echoes(NatPmp):
    """What somebody sends is repeated as it is."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        try:
            return await super().acquire(io, tunnel, request)
        except NoAnswer as error:
            raise NoAnswer(error.doing, "it said \x1b[2Jhello", error.hint) from None


class Waits(NatPmp):
    """It asks for ever."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        for _ in range(3):
            try:
                return await super().acquire(io, tunnel, request)
            except NoAnswer:
                pass
        return await super().acquire(io, tunnel, request)


class Crashes(NatPmp):
    """It trusts what is stored."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        if request.previous and not request.renewal:
            json.loads(request.previous.token)
        return await super().acquire(io, tunnel, request)


class GivesUp(NatPmp):
    """A failed renewal costs the lease."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        try:
            return await super().acquire(io, tunnel, request)
        except Transient as error:
            if request.renewal:
                raise LeaseLost(error.doing, error.cause) from None
            raise


class Sulks(NatPmp):
    """Once given up, it never works again."""

    def __init__(self, options: Mapping[str, object]) -> None:
        super().__init__(options)
        self._busy = asyncio.Lock()

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        if self._busy.locked():
            raise Transient("asking", "busy")
        await self._busy.acquire()
        lease = await super().acquire(io, tunnel, request)
        self._busy.release()
        return lease


class Keeps(NatPmp):
    """A release releases nothing."""

    async def release(self, io, tunnel: Tunnel, lease: Lease) -> None:
        pass


class Wanders(NatPmp):
    """Each renewal brings another port."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        if request.renewal:
            request = MappingRequest(request.spec)
        return await super().acquire(io, tunnel, request)


class Invents(NatPmp):
    """Its lease is not what is forwarded."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        lease = await super().acquire(io, tunnel, request)
        return replace(lease, external_port=lease.external_port % 65535 + 1)


class Shrugs(NatPmp):
    """What the person has to mend comes without a word of how."""

    async def acquire(self, io, tunnel: Tunnel, request: MappingRequest) -> Lease:
        try:
            return await super().acquire(io, tunnel, request)
        except Misconfigured as error:
            raise Misconfigured(error.doing, error.cause) from None


def contract(made: type[NatPmp]) -> GatewayContract:
    class Contract(GatewayContract):
        plugin: ClassVar = made
        mode: ClassVar = "rfc"
        lifetime: ClassVar = 7200

    return Contract()


SILENCE = "test_silence_is_told_soon_and_with_what_may_be_the_cause"
CASES = (
    (Tells, SILENCE, {}),
    (TellsByItsCause, SILENCE, {}),
    (Shows, "test_a_wish", {}),
    (Echoes, SILENCE, {}),
    (Waits, SILENCE, {}),
    (Waits, "test_a_hostile_answer_at_first_is_a_failure_that_passes", {"hostility": "zeros"}),
    (Crashes, "test_whatever_token_the_store_has", {"slot": 0, "token": "{"}),
    (GivesUp, "test_a_renewal_that_finds_nobody_fails_soon_and_costs_nothing", {"trouble": "silence"}),
    (GivesUp, "test_a_hostile_answer_at_a_renewal_costs_no_lease", {"hostility": "zeros"}),
    (Sulks, "test_cancelled_at_any_await_it_works_afterwards", {"what": "acquire"}),
    (Keeps, "test_what_is_released_ends_and_nothing_else", {"protocols": ("tcp",)}),
    (Wanders, "test_renewing_keeps_the_port_for_as_long_as_one_likes", {"slot": 0, "internal": None}),
    (Invents, "test_every_forward_it_says_it_can_have", {}),
    (Shrugs, "test_a_missing_right_is_for_the_person_to_mend", {}),
)


async def run(made: type[NatPmp], test: str, parameters: dict[str, object]) -> None:
    """One test of the contract, with the look at all texts that its fixture takes afterwards."""
    suite = contract(made)
    world = suite.make()
    assert isinstance(world, NatPmpWorld)
    world.secrets.add(SECRET)
    given = dict(parameters)
    if test != "test_cancelled_at_any_await_it_works_afterwards":
        given["world"] = world
    await getattr(suite, test)(**given)
    world.check_texts()


@pytest.mark.parametrize(("made", "test", "parameters"), CASES, ids=lambda value: getattr(value, "__name__", ""))
async def test_what_is_wrong_is_found(made, test, parameters):
    await run(Honest, test, parameters)
    with pytest.raises(FOUND):
        await run(made, test, parameters)


def test_a_provider_that_sees_more_than_the_plug_in_surface_is_found():
    suite = contract(Tells)  # this file imports all that a provider may not
    with pytest.raises(AssertionError):
        suite.test_it_sees_nothing_of_vpnpf_but_the_plug_in_surface()
