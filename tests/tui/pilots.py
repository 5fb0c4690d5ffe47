"""What tests of the face wait for, and what they read off the screen."""

from __future__ import annotations

from contextlib import asynccontextmanager

from tests.tui.snapshots import SIZES, compare
from vpnpf.tui.app import Face
from vpnpf.tui.view import Reach


async def until(pilot, condition):
    """Returns once it holds; a test that waits in vain ends by its time limit."""
    while not condition():
        await pilot.pause()
    await still(pilot)


async def still(pilot):
    """Returns once nothing is on its way to the screen: a click before that may go to where its button was."""
    await pilot.pause()
    while _busy(pilot.app):
        await pilot.pause()


def _busy(app):
    if app._exit:
        return False  # what still waits, nobody takes any more
    if any(not footer.query("FooterKey") for footer in app.screen.query("Footer")):
        return True  # its keys come when it was told of them
    nodes = [app, *app.screen.walk_children(with_self=True)]
    return any(
        each.message_queue_size or each._next_callbacks or getattr(each, "_layout_required", False) for each in nodes
    ) or bool(app.screen._callbacks)


@asynccontextmanager
async def face(daemon, size=(80, 24)):
    """A face that follows the daemon and shows it."""
    async with Face(daemon, lambda: daemon.now).run_test(size=size) as pilot:
        await until(pilot, lambda: pilot.app.view.reach is Reach.ATTACHED)
        yield pilot


async def sheet(pilot, name):
    """Returns the sheet of that name, once it is on top."""
    await until(pilot, lambda: type(pilot.app.screen).__name__ == name)
    return pilot.app.screen


async def closed(pilot):
    """Returns once the dashboard is on top."""
    return await sheet(pilot, "Dashboard")


def said(pilot):
    """All that is notified, and all lines of the screen on top."""
    notified = [each.message for each in pilot.app._notifications]
    return "\n".join([*notified, *(str(each.render()) for each in pilot.app.screen.query("Line"))])


def asked(daemon, method, path):
    """The bodies that were sent there."""
    return [body for how, where, body in daemon.asked if (how, where) == (method, path)]


async def snapshots(pilot, name):
    """Hold the screen against what is kept, at all sizes."""
    for behind in pilot.app.screen_stack[0].children:
        behind.display = False  # it has snapshots of its own
    for field in pilot.app.screen.query("Input"):
        field.cursor_blink = False
    for width, height in SIZES:
        await pilot.resize_terminal(width, height)
        await still(pilot)
        compare(pilot.app, name)
