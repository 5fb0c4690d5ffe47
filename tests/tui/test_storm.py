"""A thousand changes of the state a second: the screen ends on the newest, and the engine beside it is not held up."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest
from msgspec.structs import replace

from tests.tui import situations
from tests.tui.face_world import OFFSET
from tests.unit.engine_world import START
from vpnpf.control.routes import watching
from vpnpf.control.seen import read
from vpnpf.core.view import view
from vpnpf.hub import Hub
from vpnpf.tui.app import APART, Face
from vpnpf.tui.link import HubLink
from vpnpf.tui.view import Reach, worth_a_picture

CHANGES = 3000
RATE = 1000.0
"""A second."""
LATE = 0.1
"""Seconds that whoever shares the loop may be kept waiting; a renewal has half of a lease's life."""


def changed(state, number):
    """Another port, and another phase each time: nothing that could be passed over."""
    state = {**state, "phase": ("ready", "leasing")[number % 2], "phase_cause": f"change {number}"}
    state["forwards"] = [{**state["forwards"][0], "external_port": 10000 + number}]
    return state


async def attached(pilot):
    while pilot.app.view.reach is not Reach.ATTACHED:
        await pilot.pause()


async def test_the_screen_ends_on_the_newest_state():
    daemon = situations.ready()
    pictures = []
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        await attached(pilot)
        shown = pilot.app.screen.show
        pilot.app.screen.show = lambda seen: (pictures.append(seen.port), shown(seen))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(CHANGES):
            daemon.tell(changed(daemon.state(), number))
            if loop.time() < begun + number / RATE:
                await asyncio.sleep(0.001)
        newest = str(10000 + CHANGES - 1)
        while pilot.app.screen.query_one("#digits").value != newest:
            await pilot.pause()
        took = loop.time() - begun
        assert f"change {CHANGES - 1}" in str(pilot.app.screen.query_one("#happening").render())
    assert len(pictures) <= took / APART + took + 3, "more pictures than anybody can see"


class Clock:
    def now(self):
        return asyncio.get_running_loop().time()

    def wall(self):
        return self.now() + OFFSET + START


@pytest.mark.alone
async def test_who_shares_the_loop_with_the_face_is_not_held_up():
    hub = Hub()
    world = situations.world()
    world.ready()
    state = view(world.machine)
    hub.publish(state, ())
    link = HubLink("home", watching(SimpleNamespace(profile="home", hub=hub, clock=Clock())))
    link_ask = link.ask

    async def ask(method, path, body=None):
        return {**await link_ask(method, path, body), "role": "owner"}

    link.ask = ask
    waits = []
    async with Face(link).run_test(size=(120, 40)) as pilot:
        await attached(pilot)
        while pilot.app.screen.query_one("#digits").value != "40000":
            await pilot.pause()
        loop = asyncio.get_running_loop()
        begun = loop.time()
        for number in range(CHANGES):  # the engine's part
            due = begun + number / RATE
            if loop.time() < due:
                await asyncio.sleep(due - loop.time())
            waits.append(loop.time() - due)
            hub.publish(replace(state, phase_cause=f"change {number}"), ())
        while f"change {CHANGES - 1}" not in str(pilot.app.screen.query_one("#happening").render()):
            await pilot.pause()
        hub.close()
    waits.sort()
    assert waits[-1] < LATE, f"kept waiting for {waits[-1]:.3f} s, in the middle {waits[len(waits) // 2]:.4f} s"


def test_ages_and_counters_alone_make_no_picture_of_their_own():
    world = situations.world()
    daemon = situations.FakeDaemon(world)
    world.ready()
    one = read(daemon.state())
    tunnel = replace(one.tunnel, received=5)
    older = replace(
        one.forwards[0], packets=7, proofs={k: replace(v, checked=None) for k, v in one.forwards[0].proofs.items()}
    )
    assert not worth_a_picture(one, replace(one, tunnel=tunnel, forwards=(older,)))
    assert worth_a_picture(None, one)
    assert worth_a_picture(one, replace(one, phase_cause="another"))
    lost = {**one.forwards[0].proofs, "tunnel": replace(one.forwards[0].proofs["tunnel"], ok=False)}
    assert worth_a_picture(one, replace(one, forwards=(replace(one.forwards[0], proofs=lost),)))
    assert worth_a_picture(one, replace(one, forwards=(replace(one.forwards[0], external_port=1),)))
