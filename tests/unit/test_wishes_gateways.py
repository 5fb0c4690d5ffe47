"""Wishes with the real supervisor, workers and providers, in front of simulated gateways, in virtual time."""

from __future__ import annotations

import asyncio

import pytest

from tests.soak.months import PROVIDERS
from tests.soak.virtual import run
from tests.soak.world import Profile
from vpnpf.events import LeaseRenewed, NewPortWanted, PortLost, ProblemNoticed, RenewWanted
from vpnpf.model import Phase


async def until(condition, within=10.0):
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.01)


def lived(provider, story):
    """Tell a story beside a profile that is READY; returns what was heard."""
    heard = []

    async def main():
        made, gateway = PROVIDERS[provider]()
        async with Profile(made, lambda moment: heard.append(moment.notice), **gateway) as profile:
            await until(lambda: profile.phase is Phase.READY)
            await story(profile)
            assert profile.phase is Phase.READY
            assert profile.has_port()

    run(main())
    return heard


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_the_gateway_takes_the_port_back_and_gives_another(provider):
    async def story(profile):
        old, protocols = profile.lease.external_port, profile.lease.protocols
        profile.supervisor.post(NewPortWanted())
        await until(lambda: profile.lease is not None and profile.lease.external_port != old)
        await until(lambda: profile.phase is Phase.READY)
        assert profile.client.settings.port == profile.lease.external_port
        assert not profile.network.holds(old, protocols), "the gateway still forwards the old port"

    heard = lived(provider, story)
    assert [type(notice) for notice in heard if isinstance(notice, PortLost | ProblemNoticed)] == [PortLost]


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_the_gateway_renews_at_once_what_is_held(provider):
    async def story(profile):
        await asyncio.sleep(5)
        before = profile.lease
        asked = profile.clock.now()
        profile.supervisor.post(RenewWanted())
        await until(lambda: profile.lease.granted_at >= asked)
        assert profile.lease.external_port == before.external_port

    heard = lived(provider, story)
    assert len([notice for notice in heard if isinstance(notice, LeaseRenewed)]) == 1


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_gateway_that_is_silent_keeps_nobody_from_trying(provider):
    async def story(profile):
        profile.network.cut = True
        profile.supervisor.post(NewPortWanted())
        await until(lambda: profile.lease is None)
        profile.network.cut = False
        await until(lambda: profile.phase is Phase.READY, 60)

    lived(provider, story)
