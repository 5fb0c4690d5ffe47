"""The face follows a daemon, shows it, and says what it cannot do."""

from __future__ import annotations

import pytest

from tests.tui.face_world import FakeDaemon
from tests.unit.engine_world import World
from vpnpf.errors import Unavailable
from vpnpf.tui.app import Face
from vpnpf.tui.panels.timeline import TimelinePanel
from vpnpf.tui.view import Reach


@pytest.fixture
def daemon():
    world = World()
    world.ready()
    return FakeDaemon(world)


async def attached(pilot):
    while pilot.app.view.reach is not Reach.ATTACHED:
        await pilot.pause()


async def test_the_port_is_shown_and_copied(daemon):
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        await attached(pilot)
        pilot.app._show()
        assert pilot.app.screen.query_one("#digits").value == str(pilot.app.view.port) == "40000"
        await pilot.press("c")
        assert pilot.app.clipboard == "40000"
        await pilot.press("q")
    assert "keeps port 40000" in pilot.app.return_value


async def test_without_a_port_nothing_is_copied():
    daemon = FakeDaemon()
    daemon.news.get_nowait()
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        await pilot.press("c")
        assert pilot.app.clipboard == ""
        assert any("no port" in each.message for each in pilot.app._notifications)


async def test_a_daemon_that_goes_away_and_comes_back_is_followed(daemon):
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        await attached(pilot)
        daemon.end()
        while pilot.app.view.reach is not Reach.AWAY:
            await pilot.pause()
        assert pilot.app.view.trouble == "vpnpf has ended"
        daemon.tell()
        await attached(pilot)
        assert not pilot.app.view.trouble


async def test_another_version_is_said(daemon):
    daemon.answers["GET", "/v1"] = {"api": 2}
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        while not pilot.app.view.trouble:
            await pilot.pause()
        assert "version 2" in pilot.app.view.trouble
        assert "same version" in pilot.app.view.hint


async def test_what_went_wrong_is_told_with_what_to_do(daemon):
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        await attached(pilot)
        error = Unavailable("asking for the port", "the gateway does not answer", "look at the tunnel")

        async def failing(say):
            raise error

        pilot.app.work("Asking for the port", failing, lambda value: None)
        while type(pilot.app.screen).__name__ != "Told":
            await pilot.pause()
        shown = pilot.app.screen.query("Line")
        assert any("look at the tunnel" in str(each.render()) for each in shown)


async def test_a_terminal_too_small_is_said(daemon):
    async with Face(daemon, lambda: daemon.now).run_test(size=(60, 12)) as pilot:
        await attached(pilot)
        await pilot.pause()
        pilot.app._show()
        said = str(pilot.app.screen.query_one("#small").render())
        assert "60x12" in said
        assert "40000" in said


async def test_leaving_while_the_panels_come_is_no_crash(daemon, monkeypatch):
    """Who leaves then ends them before they have their parts."""
    monkeypatch.setattr(TimelinePanel, "compose", lambda panel: ())
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        # Not `until`: the footer never has its keys here, so nothing comes to rest.
        while not pilot.app.screen.query("Footer"):
            await pilot.pause()
        await pilot.app.run_action("leave")
    assert pilot.app.return_code == 0
