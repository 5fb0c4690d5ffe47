"""Connect, disconnect, another server, the end, a new port and a renewal: by key, palette and mouse."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.face_world import FakeDaemon
from tests.tui.pilots import asked, closed, face, said, sheet, snapshots, until
from tests.unit.engine_world import World
from vpnpf.control.dialing import NotRunning
from vpnpf.control.messages import NotNow
from vpnpf.errors import ConfigError, Mistake, Transient
from vpnpf.tui import found
from vpnpf.tui.app import Face
from vpnpf.tui.screens import starting
from vpnpf.tui.sheets.working import Working
from vpnpf.tui.view import Reach

FOREIGN = "São Paulo [bold]東京[/bold] \x1b[31mred\x1b[0m " + "very long " * 9
SERVERS = [
    {"number": 1, "place": "Zürich, Switzerland", "endpoint": "203.0.113.5:51820", "current": True},
    {"number": 2, "place": "Reykjavík, Iceland", "endpoint": "203.0.113.6:51820", "current": False},
    {"number": 3, "place": FOREIGN, "endpoint": "[2001:db8::7]:51820", "current": False},
    {"number": 4, "place": None, "endpoint": None, "current": False},
]


@pytest.fixture
def daemon():
    return FakeDaemon(World().ready())


def stopped(daemon):
    daemon.world.stop()
    daemon.tell()
    return daemon


def start(daemon):
    """As the daemon does when it begins again."""
    later = World(now=daemon.world.now + 1)
    later.machine = World().machine
    daemon.world = later.ready()
    daemon.tell()
    return {}


async def test_connecting_shows_the_phases_until_the_port_is_there(daemon):
    stopped(daemon)
    daemon.answers["POST", "/v1/start"] = lambda body: start(daemon)
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.phase == "stopped")
        await pilot.press("d")
        await until(pilot, lambda: "Connected: the port is 40000" in said(pilot))
        await closed(pilot)
    assert asked(daemon, "POST", "/v1/start") == [None]


async def test_a_broken_configuration_is_shown_mistake_by_mistake_and_nothing_changed(daemon):
    stopped(daemon)
    mistakes = (
        Mistake("config.toml: profiles.home.policy.mode", 'there is no mode "alow-list"', 'did you mean "allow-list"?'),
        Mistake("config.toml: profiles.home.tunnel.config", "proton.conf is not there", "write where it is"),
        Mistake("config.toml: clients.qb", "[red]cleint[/red] is not known"),
    )
    daemon.answers["POST", "/v1/start"] = ConfigError(mistakes)
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.phase == "stopped")
        await pilot.press("d")
        await sheet(pilot, "Told")
        text = said(pilot)
        assert "3 mistakes" in text
        assert "Nothing was changed" in text
        assert all(each.what in text for each in mistakes)
        await snapshots(pilot, "mistakes")
        await pilot.press("escape")
        await closed(pilot)


async def test_what_stands_in_the_way_of_connecting_is_said(daemon):
    stopped(daemon)

    def refused(body):
        state = daemon.state() | {"phase": "failed", "phase_since": None}
        problem = {"doing": "asking for a port", "message": "the server refuses", "hint": "choose another server"}
        daemon.tell(state | {"problems": [problem]})
        return {}

    daemon.answers["POST", "/v1/start"] = refused
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.phase == "stopped")
        await pilot.press("d")
        await sheet(pilot, "Told")
        assert "the server refuses" in said(pilot)
        assert "choose another server" in said(pilot)


async def test_connecting_goes_on_though_nobody_waits(daemon):
    stopped(daemon)
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.phase == "stopped")
        await pilot.press("d")
        await sheet(pilot, "Working")
        await pilot.press("escape")
        await closed(pilot)
        assert "it goes on connecting" in said(pilot)


async def test_disconnecting_is_asked_about_first_and_says_not_protected(daemon):
    daemon.answers["POST", "/v1/stop"] = lambda body: stopped(daemon) and {}
    async with face(daemon) as pilot:
        await pilot.press("d")
        await sheet(pilot, "Confirm")
        assert "port 40000 is given back" in said(pilot)
        assert "NOT protected" in said(pilot)
        await snapshots(pilot, "disconnect")
        await pilot.press("enter")  # the first button goes back
        await closed(pilot)
        assert not asked(daemon, "POST", "/v1/stop")
        await pilot.press("d")
        await sheet(pilot, "Confirm")
        await pilot.click("#yes")
        await until(pilot, lambda: "Disconnected" in said(pilot))
        assert pilot.app.view.seen.phase == "stopped"


async def test_a_daemon_that_goes_away_while_it_is_waited_for_is_told(daemon):
    stopped(daemon)
    daemon.answers["POST", "/v1/start"] = lambda body: daemon.end() or {}
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.phase == "stopped")
        await pilot.press("d")
        await sheet(pilot, "Told")
        assert "vpnpf has ended" in said(pilot)
        assert "vpnpf up home" in said(pilot)


async def test_a_daemon_that_has_ended_is_offered_to_be_started(daemon, monkeypatch):
    started = []
    monkeypatch.setattr(found, "running", lambda named: ())
    monkeypatch.setattr(starting, "start", lambda app, profile, config: started.append((profile, config)))
    async with face(daemon) as pilot:
        daemon.end()
        await until(pilot, lambda: pilot.app.view.reach is Reach.AWAY)
        await pilot.press("d")
        await sheet(pilot, "Confirm")
        assert "The profile home is not running." in said(pilot)
        await snapshots(pilot, "start-it")
        assert not started
        await pilot.press("enter")
        await closed(pilot)
    assert started == [("home", None)]


async def test_a_daemon_that_runs_and_cannot_be_asked_is_told(daemon, monkeypatch):
    daemon.answers["GET", "/v1"] = {"api": 2}
    monkeypatch.setattr(found, "running", lambda named: (found.Running("home"),))
    async with Face(daemon, lambda: daemon.now).run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: pilot.app.view.trouble)
        await pilot.press("d")
        await sheet(pilot, "Told")
        assert "version 2" in said(pilot)


async def test_who_only_watches_is_told_so(daemon):
    daemon.answers["GET", "/v1"] |= {"role": "watcher"}
    async with face(daemon) as pilot:
        for key in "dsnrpaxlwQ":
            await pilot.press(key)
            assert "you may look on" in said(pilot)
            pilot.app.clear_notifications()
        await closed(pilot)
    assert all(path == "/v1" for _, path, _ in daemon.asked)


# -- servers ------------------------------------------------------------------------------------


async def test_a_server_is_searched_for_and_chosen(daemon):
    daemon.answers["GET", "/v1/servers"] = {"servers": SERVERS}

    def go(body):
        state = daemon.state()
        daemon.tell(state | {"phase_since": "2026-05-04T12:00:30.000Z", "server": {"number": 2, "of": 4}})
        return {}

    daemon.answers["POST", "/v1/server"] = go
    async with face(daemon) as pilot:
        await pilot.press("s")
        await sheet(pilot, "Servers")
        await snapshots(pilot, "servers")
        await pilot.press(*"iceland")
        await until(pilot, lambda: "1 of 4 servers" in said(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: "the port is 40000" in said(pilot))
    assert asked(daemon, "POST", "/v1/server") == [{"number": 2}]


async def test_the_next_server_by_arrow_and_enter_and_the_current_one_is_no_choice(daemon):
    daemon.answers["GET", "/v1/servers"] = {"servers": SERVERS}
    async with face(daemon) as pilot:
        await pilot.press("s")
        await sheet(pilot, "Servers")
        await pilot.press("down", "enter")
        assert "goes to this one already" in said(pilot)
        await pilot.press("up", "enter")
        await sheet(pilot, "Working")
        await pilot.press("escape")
        await closed(pilot)
    assert asked(daemon, "POST", "/v1/server") == [{"number": None}]


async def test_no_server_matches(daemon):
    daemon.answers["GET", "/v1/servers"] = {"servers": SERVERS}
    async with face(daemon) as pilot:
        await pilot.press("s")
        await sheet(pilot, "Servers")
        await pilot.press(*"zzz", "enter", "pagedown", "down")
        assert 'No server matches "zzz"' in said(pilot)
        assert type(pilot.app.screen).__name__ == "Servers"


async def test_one_server_only_is_said(daemon):
    daemon.answers["GET", "/v1/servers"] = {"servers": SERVERS[:1]}
    async with face(daemon) as pilot:
        await pilot.press("s")
        await until(pilot, lambda: "one server only: Zürich" in said(pilot))


# -- ports --------------------------------------------------------------------------------------


async def test_another_port_is_asked_about_and_its_result_said(daemon):
    daemon.answers["POST", "/v1/new-port"] = {"forwards": [{"name": "torrent", "external_port": 52110}]}
    async with face(daemon) as pilot:
        await pilot.press("n")
        await sheet(pilot, "Confirm")
        assert "Port 40000 is given back" in said(pilot)
        await pilot.press("right", "enter")
        await until(pilot, lambda: "40000 → 52110" in said(pilot))
    assert asked(daemon, "POST", "/v1/new-port") == [{"forward": None}]


async def test_a_renewal_by_the_palette(daemon):
    daemon.answers["POST", "/v1/renew"] = {"forwards": [{"name": "torrent", "external_port": 40000}]}
    async with face(daemon) as pilot:
        await pilot.press("ctrl+p")
        await sheet(pilot, "CommandPalette")
        await pilot.press(*"same port")
        await until(pilot, lambda: pilot.app.screen.query_one("CommandList").option_count == 1)
        await pilot.press("down", "enter")
        await until(pilot, lambda: "confirmed: 40000" in said(pilot))


async def test_of_several_forwards_one_can_be_chosen(daemon):
    state = daemon.state()
    two = state | {"forwards": [*state["forwards"], state["forwards"][0] | {"name": "game", "external_port": 40001}]}
    daemon.tell(two)
    daemon.answers["POST", "/v1/renew"] = {"forwards": [{"name": "game", "external_port": 40001}]}
    async with face(daemon) as pilot:
        await until(pilot, lambda: len(pilot.app.view.seen.forwards) == 2)
        await pilot.press("r")
        await sheet(pilot, "Choose")
        await snapshots(pilot, "which-forward")
        await pilot.press("down", "down", "enter")
        await until(pilot, lambda: "confirmed: 40001" in said(pilot))
    assert asked(daemon, "POST", "/v1/renew") == [{"forward": "game"}]


@pytest.mark.parametrize(
    "error",
    [
        NotNow("asking for the port", "the profile is stopped", "start it: vpnpf up home"),
        Transient("asking for the port", "not confirmed within 25 s", "look at `vpnpf status`"),
        NotRunning("asking vpnpf", "profile home is not running", "start it with: vpnpf run home"),
    ],
)
async def test_a_renewal_that_fails_is_told_with_what_to_do(daemon, error):
    daemon.answers["POST", "/v1/renew"] = error
    async with face(daemon) as pilot:
        await pilot.press("r")
        await sheet(pilot, "Told")
        assert error.cause in said(pilot)
        assert error.hint in said(pilot)


async def test_waiting_for_a_renewal_can_be_left(daemon, monkeypatch):
    # Neither a clock nor the bar's movement in the picture.
    monkeypatch.setattr(Working, "_tell", lambda sheet: sheet.query_one("#far").say(f"{sheet._said}, 7 s"))
    never = asyncio.Event()

    async def hangs():
        await never.wait()

    daemon.answers["POST", "/v1/renew"] = lambda body: hangs()
    async with face(daemon) as pilot:
        await pilot.press("r")
        await sheet(pilot, "Working")
        pilot.app.animation_level = "none"
        await snapshots(pilot, "working")
        await pilot.click("#cancel")
        await closed(pilot)
        assert "renewed all the same" in said(pilot)


# -- the end ------------------------------------------------------------------------------------


async def test_stopping_it_all_is_asked_about_and_leaves_with_a_sentence(daemon):
    daemon.answers["POST", "/v1/shutdown"] = lambda body: daemon.end() or {}
    async with face(daemon) as pilot:
        await pilot.press("Q")
        await sheet(pilot, "Confirm")
        assert "Port 40000 is given back" in said(pilot)
        await snapshots(pilot, "stop-all")
        await pilot.press("tab", "enter")
        await until(pilot, lambda: pilot.app.return_value is not None)
    assert pilot.app.return_value.startswith("vpnpf has ended (home)")


async def test_leaving_says_that_the_port_is_kept(daemon):
    async with face(daemon) as pilot:
        await pilot.press("q")
    assert "keeps port 40000" in pilot.app.return_value
    assert not [each for each in daemon.asked if each[0] != "GET"]
