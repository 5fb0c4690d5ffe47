"""What a run answers beside its life, with a real provider's far side, rules and sockets."""

from __future__ import annotations

import asyncio

import pytest

from tests.system.namespace_world import program
from tests.system.pia_world import GAME_PORT, failed, ready, world
from tests.system.test_pia_run import Beside
from vpnpf.control.client import Connection
from vpnpf.errors import Unavailable, VpnpfError

__all__ = ["world"]
pytestmark = pytest.mark.system

LISTEN = """
import socket, sys
made = socket.create_server(("0.0.0.0", int(sys.argv[1])))
print(sys.argv[1], flush=True)
sys.stdin.read()
"""
CANARY = "canary-0ther-password"


def asking(world):
    connection = Connection(world.profile, (world.directory / "runtime",))

    async def ask(method, path, *body):
        return await asyncio.to_thread(getattr(connection, method), path, *body)

    return ask


async def test_a_wrong_password_is_mended_while_all_is_blocked(world):
    """Nothing but the services of the offer can be reached then: it is asked by them, with the tunnel's mark."""
    account, ask = world.pia.account, asking(world)
    world.configure(password="wrong")
    async with world.game(), world.run() as product:
        await product.until(failed)
        login = {"name": "pia", "username": account.username}
        with pytest.raises(VpnpfError, match="does not know this user name with this password") as refused:
            await ask("post", "/v1/login", {**login, "password": CANARY})
        assert refused.value.exit_code == 78
        assert world.logins == [401, 401]
        said = await ask("post", "/v1/login", {**login, "password": account.password})
        assert (said["tried"], said["kept"]) == (True, str(world.directory / "pia.account"))
        await product.until(ready)
        await world.reached(product)
        assert world.logins == [401, 401, 200]
        # Through the tunnel, now that it is up.
        assert (await ask("post", "/v1/login", {**login, "password": account.password}))["tried"] is True

        planned = await ask("post", "/v1/policy/plan", {"set": ["open-all"]})
        assert planned["ask"] is True
        assert planned["findings"][0]["severity"] != "note"
        exposed = await ask("get", "/v1/exposure")
        (port,) = [each for each in exposed["open"] if each["first"] == GAME_PORT and each["protocol"] == "tcp"]
        assert [each["port"] for each in port["listeners"]] == [GAME_PORT]
        await ask("put", "/v1/policy", {"policy": planned["policy"], "before": planned["before"]})
        report = await ask("text", "/v1/report")
        assert "policy" in report
        for secret in (CANARY, account.username, account.password):
            assert secret not in report
        assert await product.stop() == 0
    for secret in (CANARY, account.password):
        assert secret not in product.talk
        assert secret not in str(product.events)


async def test_from_a_namespace_of_its_own_it_looks_around_there_and_logs_in_outside(world):
    """In there nothing leads to the provider while there is no tunnel."""
    account, ask = world.pia.account, asking(world)
    config = world.configure(password="wrong")
    config.write_text(config.read_text().replace('type = "', 'namespace = true\ntype = "', 1))
    login = {"name": "pia", "username": account.username, "password": account.password}
    async with world.run() as product:
        await product.until(failed)
        assert (await ask("post", "/v1/login", login))["tried"] is True
        await product.until(lambda state: state["tunnel"] is not None)
        # Outside, a port that is not to be told; inside, one that is.
        async with (
            program(world.client, LISTEN, "8001") as out,
            program(Beside(product), LISTEN, str(GAME_PORT)) as within,
        ):
            assert (await out.says(), await within.says()) == (8001, GAME_PORT)
            await product.until(ready)
            exposed = await ask("get", "/v1/exposure")
            planned = await ask("post", "/v1/policy/plan", {"set": ["allow-list", "8001/tcp", f"{GAME_PORT}/tcp"]})
        assert [one["port"] for each in exposed["open"] for one in each["listeners"]] == [GAME_PORT]
        assert not any("8001" in each["title"] for each in planned["findings"])
        assert world.logins == [401, 200]
        await ask("post", "/v1/stop")
        await product.until(lambda state: state["phase"] == "stopped")
        with pytest.raises(Unavailable, match="is stopped"):
            await ask("get", "/v1/exposure")
        assert "== rules\nnone here" in await ask("text", "/v1/report")
        # Outside again, and with nothing to try: it is kept for the next start.
        assert (await ask("post", "/v1/login", login))["tried"] is True
        assert await product.stop() == 0
