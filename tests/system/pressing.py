"""Keys pressed on a face that follows a real run, and which actions they were."""

from __future__ import annotations

import asyncio

from tests.tui.pilots import sheet, until
from vpnpf.tui.actions import BY_NAME
from vpnpf.tui.app import Face

LIMIT = 30.0
"""Seconds for what a key press brings."""
ON_ONE_PORT = frozenset({"renew", "new_port", "policy", "entries", "exposure", "report", "connect", "end"})
"""What `test_face_actions` has done, by the names of `ACTIONS`."""
ON_SEVERAL = frozenset(
    {
        "copy_port", "forward", "client", "theme", "help", "servers", "new_port", "renew", "policy", "login", "profiles",
        "connect", "leave",
    }
)  # fmt: skip
"""What `test_face_several` has done."""


class Pressed(Face):
    """A face that keeps which of its actions were asked for."""

    def __init__(self, link):
        super().__init__(link)
        self.pressed = set()

    async def run_action(self, action, default_namespace=None, namespaces=None):
        if action in BY_NAME and default_namespace in {None, self}:
            self.pressed.add(action)
        return await super().run_action(action, default_namespace, namespaces)


async def soon(pilot, condition):
    async with asyncio.timeout(LIMIT):
        await until(pilot, condition)


async def on_top(pilot, name):
    """Returns the sheet of that name once it is on top, which a daemon may have to be asked for."""
    async with asyncio.timeout(LIMIT):
        return await sheet(pilot, name)


async def applied(pilot):
    """Apply the plan on top, which may have to be read first."""
    screen = await planned(pilot)
    if screen.query_one("#apply").disabled:
        await pilot.click("#read")
        await soon(pilot, lambda: not screen.query_one("#apply").disabled)
    await pilot.click("#apply")


async def planned(pilot):
    """Returns the plan on top, once it is laid out."""
    screen = await on_top(pilot, "Plan")
    await soon(pilot, lambda: "Looking at" not in str(screen.query_one("#said").render()))
    return screen
