"""The way in: what runs is found, one is shown at once, and of all else there is a list."""

from __future__ import annotations

import os
import socket
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.tui.pilots import snapshots, still
from tests.tui.snapshots import SIZES, compare
from vpnpf import launch
from vpnpf.cli.main import on_terminal, run_command_line
from vpnpf.control.seen import Seen, SeenProblem
from vpnpf.errors import Mistake, Unavailable
from vpnpf.tui import entry, found
from vpnpf.tui.app import Face
from vpnpf.tui.entry import Root, choose
from vpnpf.tui.found import Begin, Running, begin, running
from vpnpf.tui.screens import start as start_screen
from vpnpf.tui.screens import starting
from vpnpf.tui.screens.start import Start
from vpnpf.tui.sheets.died import Died
from vpnpf.tui.view import Reach

NOON = 1_777_896_000.0
WHEN = datetime.fromtimestamp(NOON, UTC)
CONFIG = Path("/etc/vpnpf/config.toml")
SEVERAL = Begin((Running("home"), Running("office", open=False)), ("home", "travel"), CONFIG)
BROKEN = Begin(
    config=CONFIG,
    mistakes=(
        Mistake("config.toml: profiles.home.provider", 'there is no provider "protonvn"', "did you mean protonvpn?"),
    ),
)
EXAMPLE = """
[profiles.travel]
provider = "router"
tunnel = { type = "none" }
forwards.web = {}
"""


@pytest.fixture
def listening(tmp_path):
    """Sockets as daemons have them: by name."""
    made = []

    def listen(profile, mode=0o600):
        one = socket.socket(socket.AF_UNIX)
        one.bind(str(tmp_path / f"control-{profile}.sock"))
        one.listen()
        (tmp_path / f"control-{profile}.sock").chmod(mode)
        made.append(one)
        return one

    yield listen
    for one in made:
        one.close()


def test_what_runs_is_found_and_what_was_killed_is_not(tmp_path, listening):
    listening("home")
    listening("killed").close()
    (tmp_path / "control-file.sock").touch()
    assert running(places=(tmp_path, tmp_path / "none")) == (Running("home"),)


def test_one_that_runs_is_shown_at_once_and_of_several_the_named_one():
    home, office = Running("home"), Running("office")
    assert choose(None, (home,)) == home
    assert choose(None, (home, office)) is None
    assert choose("office", (home, office)) == office
    assert choose("travel", (home, office)) is None
    assert choose(None, (Running("home", open=False),)) is None


def test_the_mistakes_of_a_configuration_are_found_with_their_place(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    config = tmp_path / "config.toml"
    config.write_text('[profiles.home]\nprovider = "protonvn"\n')
    there = begin(config)
    assert there.configured == ()
    assert any("provider" in each.where for each in there.mistakes)
    assert not there.nothing


def started(there, profile="", root=None):
    root = root or Root()
    return Face(None, lambda: NOON, first=lambda: Start(there, root, profile))


@pytest.fixture(autouse=True)
def _nothing_else(monkeypatch):
    """Another look finds what was there."""
    monkeypatch.setattr(Start, "_look", lambda self: None)


NOTHING = Begin(root=False)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("name", "there"), [("start-several", SEVERAL), ("start-broken", BROKEN), ("start-nothing", NOTHING)]
)
async def test_it_looks_as_it_did(name, there, size):
    async with started(there).run_test(size=size) as pilot:
        await still(pilot)
        compare(pilot.app, name)


async def test_enter_looks_at_one_that_runs(monkeypatch, daemon):
    monkeypatch.setattr(start_screen, "look_at", lambda app, profile: shown.append(profile))
    shown = []
    async with started(SEVERAL).run_test() as pilot:
        await pilot.press("enter")
        await pilot.pause()
    assert shown == ["home"]


async def test_the_named_profile_is_offered_first(monkeypatch):
    begun = []
    monkeypatch.setattr(start_screen, "start", lambda app, profile, config: begun.append((profile, config)))
    async with started(SEVERAL, "travel").run_test() as pilot:
        await pilot.press("enter")
        await pilot.pause()
    assert begun == [("travel", CONFIG)]


async def test_whoever_is_not_root_goes_on_with_sudo(monkeypatch):
    there = Begin((), ("home",), CONFIG, root=False)
    monkeypatch.setattr(entry.shutil, "which", lambda name: "/usr/bin/sudo")
    root = Root()
    ran = []
    monkeypatch.setattr(entry.os, "execv", lambda path, argv: ran.append((path, argv)))
    async with started(there, root=root).run_test() as pilot:
        await pilot.press("enter")
        await pilot.pause()
    assert root.wanted
    root.go()
    path, argv = ran[0]
    assert path == "/usr/bin/sudo"
    assert argv[1:] == ["--", entry.sys.executable, "-P", "-m", "vpnpf", "tui", "home", "--config", str(CONFIG)]


async def test_without_sudo_the_line_to_type_is_said(monkeypatch):
    there = Begin((Running("home", open=False),), root=False)
    monkeypatch.setattr(entry.shutil, "which", lambda name: None)
    root = Root()
    async with started(there, root=root).run_test() as pilot:
        await pilot.press("enter")
        while type(pilot.app.screen).__name__ != "Told":
            await pilot.pause()
        assert any("su -c" in str(each.render()) for each in pilot.app.screen.query("Line"))
    assert not root.wanted


async def test_what_needs_a_daemon_does_nothing_before_there_is_one():
    async with started(BROKEN).run_test() as pilot:
        await pilot.press("c", "n", "Q")
        assert pilot.app.clipboard == ""
        assert isinstance(pilot.app.screen, Start)
        await pilot.press("q")
    assert not pilot.app.return_value


async def test_ctrl_c_leaves():
    async with started(BROKEN).run_test() as pilot:
        await pilot.press("ctrl+c")
        await pilot.pause()
    assert pilot.app.return_code == 0


async def test_one_that_is_chosen_is_followed(daemon, monkeypatch):
    monkeypatch.setattr(starting, "SocketLink", lambda profile: daemon)
    async with started(SEVERAL).run_test() as pilot:
        await pilot.press("enter")
        while pilot.app.view.reach is not Reach.ATTACHED:
            await pilot.pause()
        assert len(pilot.app.screen_stack) == 1
        await pilot.press("q")
    assert "keeps port 40000" in pilot.app.return_value


async def test_one_that_ends_at_once_says_why_and_the_last_that_it_said(monkeypatch):
    def bring_up(profile, config, say, *, cancelled, wanted):
        say("error: reading the file: the key is wrong")
        say("  hint: download it again")
        raise Unavailable("starting vpnpf", "it ended at once, with status 78", "mend the configuration")

    monkeypatch.setattr(launch, "bring_up", bring_up)
    monkeypatch.setattr(starting, "running", lambda named: ())
    async with started(SEVERAL, "travel").run_test() as pilot:
        await pilot.press("enter")
        while not isinstance(pilot.app.screen, Died):
            await pilot.pause()
        said = " ".join(str(each.render()) for each in pilot.app.screen.query("Line"))
        assert "starting vpnpf: reading the file: the key is wrong" in said
        assert "What to do: download it again" in said
        assert "nothing is asked again" in said
        await snapshots(pilot, "died")
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Start)


async def test_one_with_a_problem_is_shown_with_what_to_do_instead_of_waited_for(monkeypatch, daemon):
    asked = []

    def bring_up(profile, config, say, *, cancelled, wanted):
        asked.append(wanted)

    monkeypatch.setattr(launch, "bring_up", bring_up)
    monkeypatch.setattr(starting, "running", lambda named: (Running("travel"),))
    monkeypatch.setattr(starting, "SocketLink", lambda profile: daemon)
    async with started(SEVERAL, "travel").run_test() as pilot:
        await pilot.press("enter")
        while pilot.app.view.reach is not Reach.ATTACHED:
            await pilot.pause()
    (wanted,) = asked
    assert not wanted(Seen(WHEN, "travel", "router", "connecting"))
    assert wanted(Seen(WHEN, "travel", "router", "connecting", problems=(SeenProblem("shaking hands", "transient"),)))
    assert wanted(Seen(WHEN, "travel", "router", "ready"))
    assert wanted(Seen(WHEN, "travel", "router", "failed"))


async def test_one_that_ended_is_tried_again_by_the_same_configuration(monkeypatch, daemon):
    tries = []

    def bring_up(profile, config, say, *, cancelled, wanted):
        tries.append((profile, config))
        if len(tries) == 1:
            raise Unavailable("starting vpnpf", "there is no wireguard-go", "install it")

    monkeypatch.setattr(launch, "bring_up", bring_up)
    monkeypatch.setattr(starting, "running", lambda named: (Running("travel"),) if len(tries) > 1 else ())
    monkeypatch.setattr(starting, "SocketLink", lambda profile: daemon)
    async with started(SEVERAL, "travel").run_test() as pilot:
        await pilot.press("enter")
        while not isinstance(pilot.app.screen, Died):
            await pilot.pause()
        await pilot.press("r")
        while pilot.app.view.reach is not Reach.ATTACHED:
            await pilot.pause()
        assert pilot.app.configs == {"travel": CONFIG}  # for when it is started from the dashboard
    assert tries == [("travel", CONFIG)] * 2


def entered(monkeypatch, config, runs):
    """What `vpnpf tui --config CONFIG` begins with while these run: a screen, or a profile."""
    seen = []

    def run(face):
        seen.append(face._first() if face._first else face.link.profile)

    monkeypatch.setattr(entry, "running", lambda named: runs)
    monkeypatch.setattr(found, "running", lambda named=(): runs)
    monkeypatch.setattr(Face, "run", run)
    entry._run(None, config, Root())
    return seen[0]


async def test_another_configuration_than_that_of_what_runs_is_not_passed_over(monkeypatch, tmp_path):
    config = tmp_path / "other.toml"
    config.write_text(EXAMPLE)
    assert entered(monkeypatch, config, (Running("travel"),)) == "travel"
    assert entered(monkeypatch, None, (Running("home"),)) == "home"
    screen = entered(monkeypatch, config, (Running("home"),))
    begun = []
    monkeypatch.setattr(start_screen, "start", lambda app, profile, config: begun.append((profile, config)))
    async with Face(None, lambda: NOON, first=lambda: screen).run_test(size=(200, 60)) as pilot:
        await pilot.pause()
        said = str(pilot.app.screen.query_one("#heading").render())
        assert said == f"home runs, and is not of {config}."
        await pilot.press("enter")
        await pilot.pause()
    assert begun == [("travel", config)]


async def test_who_stops_waiting_sees_it_as_it_is(monkeypatch, daemon):
    waiting, let_go = threading.Event(), threading.Event()

    def bring_up(profile, config, say, *, cancelled, wanted):
        say("travel: leasing")
        waiting.set()
        assert cancelled.wait(10)
        let_go.set()

    monkeypatch.setattr(launch, "bring_up", bring_up)
    monkeypatch.setattr(starting, "running", lambda named: (Running("travel"),))
    monkeypatch.setattr(starting, "SocketLink", lambda profile: daemon)
    async with started(SEVERAL, "travel").run_test() as pilot:
        await pilot.press("enter")
        while not waiting.is_set():
            await pilot.pause()
        await pilot.press("escape")
        while pilot.app.view.reach is not Reach.ATTACHED:
            await pilot.pause()
        assert len(pilot.app.screen_stack) == 1
        assert let_go.wait(5)


@pytest.mark.parametrize(("term", "words"), [("xterm", "no terminal"), ("dumb", "no terminal")])
def test_without_a_terminal_it_is_said(term, words, monkeypatch, capsys):
    monkeypatch.setenv("TERM", term)
    assert run_command_line(["tui"]) == 69
    assert words in capsys.readouterr().err


def test_a_terminal_that_cannot_move_its_cursor_is_said(monkeypatch, capsys):
    monkeypatch.setattr(os, "isatty", lambda number: True)
    monkeypatch.setenv("TERM", "dumb")
    assert not on_terminal()
    assert run_command_line(["tui"]) == 69
    said = capsys.readouterr().err
    assert 'TERM is "dumb"' in said
    assert "vpnpf status" in said


def test_bare_it_is_the_face_on_a_terminal_and_else_the_help(monkeypatch, capsys):
    assert run_command_line([]) in {0, 64}
    assert "Commands" in "".join(capsys.readouterr())
    entered = []
    monkeypatch.setattr(os, "isatty", lambda number: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(entry, "enter", lambda *given, sudo: entered.append(given) or "bye")
    assert run_command_line([]) == 0
    assert entered == [(None, None)]
