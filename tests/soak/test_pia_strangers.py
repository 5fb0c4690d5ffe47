"""PIA with somebody else in the place of its machines: engine and provider together, until the certificates are right again."""

from __future__ import annotations

import asyncio
import copy

import pytest

from tests.contract.pia_world import LIST, REGIONS
from tests.soak.pia_profile import Profile
from tests.soak.virtual import run
from vpnpf.core.view import view
from vpnpf.model import FailureKind, Phase

AGAIN = 300.0
"""Seconds after which such a machine is looked at again."""


async def lives(profile, seconds):
    await asyncio.sleep(seconds)
    return view(profile.supervisor.machine)


@pytest.mark.parametrize("service", ["addKey", "gateway"])
def test_each_server_is_tried_once_then_one_every_five_minutes_and_it_comes_back_by_itself(service):
    async def story():
        profile = Profile(1, lambda _: None)
        far = profile.far
        far.strangers = {service}
        profile.start()
        began = profile.clock.now()
        state = await lives(profile, 100)
        assert not profile.has_port()
        at_once = [host for at, _, host in far.met if at - began < 100]
        assert len(at_once) >= 4
        assert len(set(at_once)) == 4, "each of them"
        (problem,) = [each for each in state.problems if "certificate" in each.message]
        name = at_once[-1]
        assert problem.doing == (f"registering a key at {name}" if service == "addKey" else f"asking {name} for a port")
        assert problem.kind is FailureKind.MISCONFIGURED
        assert "nothing was told to it" in problem.hint
        assert "name the host" not in problem.hint
        assert problem.retry_at is not None
        assert 0 < problem.retry_at - profile.clock.now() <= AGAIN
        before = len(far.met)
        await lives(profile, 2000)
        later = [at for at, _, _ in far.met[before:]]
        assert 2000 / AGAIN - 1 <= len(later) <= 2000 / AGAIN + 1
        # The login is no stranger's: a token is had once.
        assert len(far.logins) == 1
        far.strangers.clear()
        state = await lives(profile, AGAIN + 10)
        assert profile.has_port()
        assert state.phase is Phase.READY
        assert not state.problems
        await profile.stop()

    run(story())


def test_while_nobody_that_gives_tokens_is_who_he_should_be_the_services_are_left_in_peace():
    async def story():
        profile = Profile(1, lambda _: None)
        far = profile.far
        far.strangers = {"meta", "name"}
        profile.start()
        state = await lives(profile, 3600)
        (problem,) = state.problems
        assert problem.doing == "logging in to PIA"
        assert "certificate" in problem.message
        assert "nothing was told to it" in problem.hint
        assert problem.retry_at is not None
        met = [(service, host) for _, service, host in far.met]
        assert not far.logins
        assert max(met.count(each) for each in set(met)) <= 2 * 4 * 12, "two paths, and each server has its turn"
        far.strangers.clear()
        state = await lives(profile, AGAIN + 70)
        assert profile.has_port()
        assert state.phase is Phase.READY
        await profile.stop()

    run(story())


def test_a_login_page_at_the_first_start_passes():
    async def story():
        profile = Profile(1, lambda _: None)
        profile.far.strangers = {"list", "name", "meta", "addKey"}
        profile.start()
        state = await lives(profile, 600)
        (problem,) = state.problems
        assert problem.doing == "reading PIA's server list"
        assert "login page" in problem.hint
        profile.far.strangers.clear()
        await lives(profile, 70)
        assert profile.has_port()
        await profile.stop()

    run(story())


def renamed():
    """The regions, with machines that have other names by now."""
    regions = copy.deepcopy(REGIONS)
    for region in regions:
        for machines in region["servers"].values():
            for machine in machines:
                machine["cn"] = machine["cn"].replace("40", "41")
    return list(regions)


@pytest.mark.parametrize("reached", [True, False])
def test_a_list_that_is_old_is_replaced_at_the_next_chance(reached):
    async def story():
        profile = Profile(1, lambda _: None)
        far = profile.far
        profile.start()
        await lives(profile, 60)
        assert profile.has_port()
        await profile.stop()
        far.regions = renamed()
        if not reached:
            far.down.add(LIST)
        profile.start()
        await lives(profile, 60)
        assert profile.has_port() == reached
        far.down.clear()
        await lives(profile, AGAIN + 60)
        assert profile.has_port()
        assert far.current.endswith(("410", "411"))
        await profile.stop()

    run(story())
