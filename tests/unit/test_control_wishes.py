"""Wishes for ports over the control socket: answered once the gateway has said yes, by the real engine."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import FORWARD, PLAN, SPEC, START, World
from vpnpf.control import wishes as module
from vpnpf.control.peers import Role
from vpnpf.control.wishes import server, wishes
from vpnpf.core.state import initial
from vpnpf.core.view import view
from vpnpf.core.wishes import why_not_port, why_not_renew
from vpnpf.errors import Transient, UsageError
from vpnpf.events import Acquire, ServerWanted
from vpnpf.hub import Hub, Moment
from vpnpf.model import FailureKind, Phase


class Run:
    """An engine in a world, a hub, and the routes beside it."""

    def __init__(self):
        self.hub = Hub()
        self.world = World(initial(SPEC, PLAN, START), plan=PLAN).ready()
        self.publish()
        self.routes = wishes(
            self.hub,
            lambda event: asyncio.get_running_loop().call_soon(self.take, event),
            lambda name: why_not_renew(self.world.machine, name),
            lambda name: why_not_port(self.world.machine, name),
        )

    def take(self, event):
        self.world.take(event)
        self.publish()
        self.world.settle()
        self.publish()

    def publish(self):
        notices, self.world.notices = self.world.notices, []
        self.hub.publish(view(self.world.machine), tuple(Moment(self.world.now, each) for each in notices))

    async def ask(self, what, body):
        return await self.routes["POST", f"/v1/{what}"].answer(body, Role.OWNER)

    @property
    def asked(self):
        return [order.work.request.previous for order in self.world.orders if isinstance(order.work, Acquire)]


@pytest.fixture
def run(monkeypatch):
    monkeypatch.setattr(module, "APART", 0.0)
    return Run()


@pytest.mark.parametrize("name", [None, FORWARD.name])
async def test_the_same_port_is_confirmed(run, name):
    before = len(run.asked)
    held = run.world.machine.forwards[0].lease.external_port
    assert await run.ask("renew", {"forward": name}) == {"forwards": [{"name": FORWARD.name, "external_port": held}]}
    assert len(run.asked) == before + 1
    assert run.asked[-1].external_port == held


async def test_another_port_is_asked_for_as_if_none_were_held(run):
    said = await run.ask("new-port", {})
    assert said["forwards"][0]["external_port"] == run.world.machine.forwards[0].lease.external_port
    assert run.asked[-1] is None


async def test_what_cannot_be_is_said_before_it_is_asked_for(run):
    before = len(run.asked)
    with pytest.raises(Transient, match="there is no forward other"):
        await run.ask("renew", {"forward": "other"})
    with pytest.raises(UsageError, match="no name"):
        await run.ask("new-port", {"forward": 5})
    assert len(run.asked) == before


@pytest.mark.parametrize("what", ["renew", "new-port"])
async def test_a_gateway_that_says_no_is_told(run, monkeypatch, what):
    monkeypatch.setattr(module, "SOON", 0.05)
    run.world.fail(Acquire, FailureKind.TRANSIENT)
    with pytest.raises(Transient, match="it was transient"):
        await run.ask(what, {})


async def test_two_wishes_of_one_kind_are_apart_for_the_engine(run, monkeypatch):
    monkeypatch.setattr(module, "APART", 0.05)
    loop = asyncio.get_running_loop()
    await run.ask("renew", {})
    began = loop.time()
    run.world.now += 2
    await run.ask("renew", {})
    assert loop.time() - began > 0.03
    assert module.SOON < module._LONGEST < 30


async def test_another_server_is_taken_on_or_refused_with_the_reason():
    posted = []
    why_not = {9: "there is no server 9"}
    route = server(Hub(), posted.append, lambda number: why_not.get(number, ""))["POST", "/v1/server"]
    assert (route.status, route.role) == (202, Role.OWNER)
    assert await route.answer({"number": 2}, Role.OWNER) == {}
    assert await route.answer({}, Role.OWNER) == {}
    with pytest.raises(Transient, match="no server 9") as refused:
        await route.answer({"number": 9}, Role.OWNER)
    assert refused.value.hint == "the list: vpnpf server"
    for bad in (True, "2", 2.0, [2]):
        with pytest.raises(UsageError):
            await route.answer({"number": bad}, Role.OWNER)
    assert posted == [ServerWanted(2), ServerWanted(None)]


@pytest.mark.parametrize("what", ["renew", "new-port", "server"])
async def test_a_wish_of_one_that_is_stopped_is_told_how_to_start_it(what):
    run = Run()
    run.hub.publish(replace(view(run.world.machine), phase=Phase.STOPPED), ())

    def stopped(_):
        return "the profile is stopped"

    routes = {**wishes(run.hub, run.take, stopped, stopped), **server(run.hub, run.take, stopped)}
    with pytest.raises(Transient, match="is stopped") as refused:
        await routes["POST", f"/v1/{what}"].answer({}, Role.OWNER)
    assert refused.value.hint == f"start it again: vpnpf up {SPEC.name}"
