"""`vpnpf run` with Private Internet Access: logins that fail, lists that are not to be trusted, regions without ports."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mock_provider.pia_account import DENIED, ENDED, too_many
from mock_provider.pia_config import write_account
from mock_provider.pia_list import ListTrouble
from tests.system.pia_world import failed, ready, world

__all__ = ["world"]
pytestmark = pytest.mark.system


def problem(product):
    return product.state["problems"][0]


async def refused(world):
    """Run it to its end, which comes before anything is changed; returns what it said."""
    async with world.run() as product:
        assert await product.ended() != 0
    assert not product.events
    return product.talk


async def test_a_wrong_password_is_tried_once_and_not_again_before_it_changes(world):
    pia = world.pia
    world.configure(password="wrong")
    world.patch("vpnpf.errors", AGAIN=1.0)
    world.patch("vpnpf_providers.pia_token", LOOK_AGAIN=1.0)
    async with world.run() as product:
        await product.until(failed)
        assert "password" in problem(product)["message"]
        assert "vpnpf login" in problem(product)["hint"]
        # The engine tries again now and then, and nothing leaves.
        tries = problem(product)["failures"]
        await product.until(lambda _: problem(product)["failures"] > tries + 1)
        assert world.logins == [401]
        assert await product.stop() == 0
    assert "wrong" not in product.talk
    async with world.game(), world.run() as product:
        await product.until(failed)
        assert "refused" in problem(product)["message"]
        assert world.logins == [401]
        write_account(world.directory, pia.account.username, pia.account.password)
        await product.until(ready)
        await world.reached(product)
        assert await product.stop() == 0
    assert world.logins == [401, 200]


@pytest.mark.parametrize("restart", [False, True])
async def test_too_many_logins_are_waited_for(world, restart):
    account = world.pia.account
    account.fail_next(too_many(2))
    async with world.run() as product:
        await product.until(lambda state: bool(state["problems"]))
        assert "too many" in problem(product)["message"]
        if restart:
            assert await product.stop() == 0
        else:
            await product.until(ready)
    if restart:
        async with world.run() as product:
            await product.until(ready)
            assert await product.stop() == 0
    assert world.logins == [429, 200]
    first, second = account.attempts
    assert 2.0 <= second.at - first.at < 10.0


async def test_without_a_time_to_wait_it_is_about_a_minute(world):
    world.pia.account.fail_next(too_many())
    async with world.run() as product:
        await product.until(lambda state: bool(state["problems"]))
        assert "59 seconds" in problem(product)["message"]
        assert await product.stop() == 0
    async with world.run() as product:
        await product.until(lambda state: bool(state["problems"]))
        left = datetime.fromisoformat(problem(product)["retry_at"]) - datetime.now(UTC)
        assert timedelta(seconds=40) < left < timedelta(seconds=62)
        assert await product.stop() == 0
    assert world.logins == [429]


async def test_a_subscription_that_ended_is_said(world):
    world.pia.account.trouble = ENDED
    async with world.run() as product:
        await product.until(failed)
        assert "subscription" in problem(product)["message"]
        assert "expired" in problem(product)["message"]
        assert "renew" in problem(product)["hint"]
        assert await product.stop() == 0
    assert world.logins == [402]
    async with world.run() as product:
        await product.until(lambda state: bool(state["problems"]))
        assert await product.stop() == 0
    assert world.logins == [402]


async def test_a_token_that_ended_is_replaced_once(world):
    pia = world.pia
    async with world.run() as product:
        await product.until(ready)
        assert await product.stop() == 0
    pia.account.end_tokens()
    async with world.game(), world.run() as product:
        await product.until(ready)
        await world.reached(product)
        assert await product.stop() == 0
    assert world.logins == [200, 200]
    # Whose login is refused meanwhile is out.
    pia.account.end_tokens()
    pia.account.trouble = DENIED
    async with world.run() as product:
        await product.until(failed)
        assert await product.stop() == 0
    assert world.logins == [200, 200, 401]


async def test_a_list_that_is_not_signed_is_not_used_and_the_kept_one_is(world):
    catalogue, listed = world.pia.catalogue, world.pia.web.list
    for number, trouble in enumerate(
        (ListTrouble.BAD_SIGNATURE, ListTrouble.OTHER_KEY, ListTrouble.NO_SIGNATURE, ListTrouble.HUGE), 1
    ):
        catalogue.trouble = trouble
        said = await refused(world)
        assert len(listed.asked) == number
        assert "server list" in said or "vpninfo" in said
        assert not world.logins
        if trouble in {ListTrouble.BAD_SIGNATURE, ListTrouble.OTHER_KEY}:
            assert "signature" in said
    # Control: the same list, as it was signed.
    catalogue.trouble = ListTrouble.NONE
    async with world.game():
        async with world.run() as product:
            await product.until(ready)
            port = await world.reached(product)
            assert await product.stop() == 0
        text = world.age_list(days=8)
        catalogue.trouble = ListTrouble.BAD_SIGNATURE
        asked = len(listed.asked)
        async with world.run() as product:
            await product.until(ready)
            assert await world.reached(product) == port
            assert len(listed.asked) == asked + 1
            assert await product.stop() == 0
        assert world.age_list(days=0) == text
        # What is kept is looked at again, too.
        world.age_list(days=0, changed=("198.51.100.10", "203.0.113.80"))
        assert "signature" in await refused(world)


@pytest.mark.parametrize(("region", "why"), [("be_brussels", "no port forwarding"), ("US Chicago", "United States")])
async def test_a_region_without_port_forwarding_names_the_nearest_with_it(world, region, why):
    world.configure(region=region)
    said = await refused(world)
    assert why in said
    assert 'options.region = "nl_amsterdam"' in said
    assert not world.logins


async def test_a_region_that_is_off_or_unknown(world):
    world.configure(region="pt_lisbon")
    assert "is off" in await refused(world)
    world.configure(region="nl_amsterdan")
    assert 'did you mean "nl_amsterdam"' in await refused(world)


async def test_the_nearest_region_is_taken_if_none_is_named(world):
    world.configure(region="auto")
    async with world.game(), world.run() as product:
        await product.until(ready)
        await world.reached(product)
        assert await product.stop() == 0
