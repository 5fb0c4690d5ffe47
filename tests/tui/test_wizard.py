"""The first start on the screen: one question a page, back and forth, and nothing written before it was seen."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from textual.widgets import Input, OptionList

from tests.tui.pilots import still
from tests.tui.snapshots import SIZES, compare
from vpnpf.errors import ConfigError, Mistake
from vpnpf.plugins import Group
from vpnpf.setup import finding, trying
from vpnpf.setup.found import Found, FoundClient, TunnelFile
from vpnpf.setup.placing import Written
from vpnpf.setup.trying import Trial
from vpnpf.tui.app import Face
from vpnpf.tui.entry import Root
from vpnpf.tui.found import Begin
from vpnpf.tui.screens import wizard
from vpnpf.tui.screens.start import Start
from vpnpf.tui.screens.wizard import Wizard
from vpnpf.tui.screens.wizard_last import LastPage
from vpnpf.tui.screens.wizard_page import Page

NOON = 1_777_896_000.0
DOWNLOADS = Path("/home/ada/Downloads")
GOOD = TunnelFile(DOWNLOADS / "proton-nl-9.conf", "wireguard", "198.51.100.10:51820", "protonvpn")
OFF = TunnelFile(
    DOWNLOADS / "proton-old.conf",
    "wireguard",
    "198.51.100.20:51820",
    "protonvpn",
    no_ports="its key was made with NAT-PMP (Port Forwarding) off",
    hint="make another with it switched on",
)
CLIENT = FoundClient("qbittorrent", "http://127.0.0.1:8080", "admin", asks_login=True, runs=True)


def found(**more):
    return Found(
        providers=finding._manifests(Group.PROVIDERS),
        client_types=finding._manifests(Group.CLIENTS),
        directory=Path("/etc/vpnpf"),
        files=(GOOD, OFF),
        clients=(CLIENT,),
        root=True,
        **more,
    )


@pytest.fixture
def machine(monkeypatch):
    """What is found on it, what the client says, and what is written and started."""

    class Machine:
        def __init__(self):
            self.found = found()
            self.trials = [Trial(good=True, said="qBittorrent v5.1.0")]
            self.written, self.started, self.tried = [], [], []

    machine = Machine()

    async def look(into=None):
        if isinstance(machine.found, Exception):
            raise machine.found
        return machine.found

    async def client(answers):
        machine.tried.append(answers.client_secret)
        return machine.trials.pop(0)

    async def write(course):
        machine.written.append(course.answers)
        return Written(Path("/etc/vpnpf/config.toml"), course.answers.name), []

    monkeypatch.setattr(finding, "look", look)
    monkeypatch.setattr(trying, "client", client)
    monkeypatch.setattr(wizard, "write", write)
    monkeypatch.setattr(wizard, "start", lambda app, profile, config: machine.started.append((profile, config)))
    monkeypatch.setattr(Start, "_look", lambda self: None)
    return machine


def face():
    return Face(None, lambda: NOON, first=lambda: Start(Begin(), Root()))


async def page(pilot, key):
    """Wait for the page of a question; "last" is the one behind them."""
    while True:
        await pilot.pause()
        screen = pilot.app.screen
        shown = screen._page if isinstance(screen, Wizard) and not screen._busy else None
        if isinstance(shown, LastPage) if key == "last" else isinstance(shown, Page) and shown.question.key == key:
            await still(pilot)
            return shown


async def to_the_client(pilot):
    await page(pilot, "provider")
    await pilot.press("enter")
    await page(pilot, "files")
    await pilot.press("enter")
    return await page(pilot, "client")


async def type_secret(pilot, text):
    await pilot.press("enter")
    await page(pilot, "client_secret")
    pilot.app.screen.query_one(Input).value = text
    await pilot.press("enter")


async def test_enter_alone_takes_what_was_found_and_it_is_written_and_started(machine):
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await type_secret(pilot, "hunter2")
        await page(pilot, "policy")
        await pilot.press("enter")
        await page(pilot, "name")
        await pilot.press("enter")
        last = await page(pilot, "last")
        said = " ".join(str(each.render()) for each in last.query("Line"))
        assert "/etc/vpnpf/config.toml" in said
        assert 'provider = "protonvpn"' in said
        assert "hunter2" not in said
        assert machine.written == []
        await pilot.press("enter")
        while not machine.started:
            await pilot.pause()
    assert machine.started == [("home", None)]
    (answers,) = machine.written
    assert (answers.provider, answers.files, answers.client_secret) == ("protonvpn", (GOOD.path,), "hunter2")


@pytest.mark.parametrize("key", ["escape", "ctrl+c", "q"])
async def test_leaving_changes_nothing_and_keeps_the_answers(machine, key):
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await pilot.press(key)
        while not isinstance(pilot.app.screen, Start):
            await pilot.pause()
        assert machine.written == []
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(pilot.app.screen, Start)
        await pilot.press("enter")
        await page(pilot, "client")


async def test_back_and_forth_loses_no_answer(machine):
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await type_secret(pilot, "hunter2")
        await page(pilot, "policy")
        await pilot.press("down", "enter")
        await page(pilot, "name")
        await pilot.press("x", "alt+left")
        await page(pilot, "policy")
        assert pilot.app.screen.query_one(OptionList).highlighted == 1
        await pilot.press("backspace")
        shown = await page(pilot, "client_secret")
        assert shown.query_one(Input).value == "hunter2"
        assert shown.query_one(Input).password
        machine.trials.append(Trial(good=True, said="qBittorrent v5.1.0"))
        await pilot.press("enter")
        await page(pilot, "policy")
        assert pilot.app.screen.query_one(OptionList).highlighted == 1


async def test_going_back_faster_than_pages_come_is_no_crash(machine):
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await type_secret(pilot, "hunter2")
        await page(pilot, "policy")
        for _ in range(4):
            pilot.app.screen.action_back()
        async with asyncio.timeout(10):
            await page(pilot, "client_secret")


async def test_a_client_that_refuses_is_asked_for_again_and_its_reason_is_said(machine):
    machine.trials = [
        Trial(good=False, said="qBittorrent refuses the password", hint="look in its settings"),
        Trial(good=True, said="qBittorrent v5.1.0"),
    ]
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await type_secret(pilot, "wrong")
        shown = await page(pilot, "client_user")
        assert "refuses the password. Next: look in its settings." in str(shown.query_one("#mistake").render())
        await pilot.press("enter")
        shown = await page(pilot, "client_secret")
        assert shown.query_one(Input).value == ""
        await pilot.press(*"right", "enter")
        await page(pilot, "policy")
    assert machine.tried == ["wrong", "right"]


async def test_a_password_that_was_typed_and_left_does_not_stand_there_again(machine):
    machine.trials = [Trial(good=False, said="qBittorrent refuses the password")]
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await type_secret(pilot, "wrong")
        await page(pilot, "client_user")
        await pilot.press("enter")
        await page(pilot, "client_secret")
        await pilot.press(*"half", "ctrl+c")
        while not isinstance(pilot.app.screen, Start):
            await pilot.pause()
        await pilot.press("enter")
        shown = await page(pilot, "client_secret")
        assert shown.query_one(Input).value == ""


async def test_leaving_while_the_client_is_tried_asks_for_its_login_again(machine, monkeypatch):
    begun = asyncio.Event()

    async def never(answers):
        begun.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(trying, "client", never)
    async with face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot)
        await type_secret(pilot, "wrong")
        await begun.wait()
        await pilot.press("ctrl+c")
        while not isinstance(pilot.app.screen, Start):
            await pilot.pause()
        await pilot.press("enter")
        await page(pilot, "client_user")
        await pilot.press("enter")
        shown = await page(pilot, "client_secret")
        assert shown.query_one(Input).value == ""


async def test_a_file_that_cannot_work_says_why_and_what_to_do(machine):
    async with face().run_test(size=(100, 30)) as pilot:
        await page(pilot, "provider")
        await pilot.press("enter")
        shown = await page(pilot, "files")
        await pilot.press("space", "down", "space", "enter")
        while not str(shown.query_one("#mistake").render()):
            await pilot.pause()
        said = str(shown.query_one("#mistake").render())
        assert "NAT-PMP (Port Forwarding) off" in said
        assert "make another" in said


async def test_a_configuration_with_mistakes_is_not_added_to(machine):
    machine.found = ConfigError((Mistake("config.toml: profiles.home", "wrong", "mend it"),))
    async with face().run_test(size=(100, 30)) as pilot:
        while type(pilot.app.screen).__name__ != "Told":
            await pilot.pause()
        assert any("mend it" in str(each.render()) for each in pilot.app.screen.query("Line"))


async def test_a_path_where_nothing_is_becomes_no_choice(machine, tmp_path):
    async with face().run_test(size=(100, 30)) as pilot:
        await page(pilot, "provider")
        await pilot.press("enter")
        shown = await page(pilot, "files")
        shown.query_one(Input).value = str(tmp_path / "nope.conf")
        shown.query_one(Input).focus()
        await pilot.press("enter")
        while not str(shown.query_one("#mistake").render()):
            await pilot.pause()
        assert "No such file" in str(shown.query_one("#mistake").render())
        await pilot.press("alt+left")
        await page(pilot, "provider")
        await pilot.press("enter")
        again = await page(pilot, "files")
        assert not any("nope" in each.value for each in again.question.choices)


@pytest.mark.parametrize("size", SIZES)
async def test_it_looks_as_it_did(machine, size):
    async with face().run_test(size=size) as pilot:
        await page(pilot, "provider")
        compare(pilot.app, "wizard-provider")
        await pilot.press("enter")
        await page(pilot, "files")
        compare(pilot.app, "wizard-files")
        await pilot.press("enter")
        await page(pilot, "client")
        compare(pilot.app, "wizard-client")
        await pilot.press("enter")
        shown = await page(pilot, "client_secret")
        shown.query_one(Input).cursor_blink = False
        compare(pilot.app, "wizard-secret")
        shown.query_one(Input).value = "hunter2"
        await pilot.press("enter")
        await page(pilot, "policy")
        pilot.app.clear_notifications()
        await still(pilot)
        compare(pilot.app, "wizard-policy")
        await pilot.press("enter")
        shown = await page(pilot, "name")
        shown.query_one(Input).cursor_blink = False
        compare(pilot.app, "wizard-name")
        await pilot.press("enter")
        await page(pilot, "last")
        await pilot.pause()
        compare(pilot.app, "wizard-last")
