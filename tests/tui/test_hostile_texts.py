"""What others say, in every place where it can come in: it is never markup, never a command to the terminal, and breaks no layout."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.tui import situations
from tests.tui.pilots import face, until
from tests.tui.snapshots import SIZES
from tests.tui.test_policy_actions import NOW, OPEN
from tests.tui.test_wizard import face as wizard_face
from tests.tui.test_wizard import machine, page, type_secret
from vpnpf.control.dialing import NotRunning
from vpnpf.errors import ConfigError, Mistake, Transient, VpnpfError
from vpnpf.setup.found import FoundClient, TunnelFile
from vpnpf.setup.trying import Trial
from vpnpf.tui import found
from vpnpf.tui.app import Face
from vpnpf.tui.entry import Root
from vpnpf.tui.found import Begin, Running
from vpnpf.tui.panels import panel
from vpnpf.tui.screens.start import Start
from vpnpf.tui.sheets.confirm import Confirm
from vpnpf.tui.sheets.died import Died
from vpnpf.tui.sheets.told import Told

__all__ = ["machine"]

NASTY = (
    "[red]x[/] [/nope] [@click=app.quit]q[/] \x1b]52;c;eA==\x07 \x1b[2J\x1b[31m \x9b31m \x00\x08 a\r\nb\tc "
    "\u202etfel\u202c \u2066i\u2069 \u200bz\u200d\ufeff \u2028 \ud800 e\u0301\u0301\u0301 漢字カナ 👨\u200d👩 "
)
LONG = NASTY * 5
LONGER = NASTY * 60  # some 10 kB
OURS = {
    "time", "event", "phase", "mode", "kind", "severity", "stage", "backend", "protocol", "protocols", "since", "checked", "digest",
    "lock", "read_at", "sources", "role", "api", "handshake",
}  # fmt: skip
"""Fields that are a time, or a word of ours, which would not be read otherwise."""


def nasty(value, key=""):
    """The same with every text in it hostile; times stay."""
    if isinstance(value, dict):
        return {name: each if name in OURS else nasty(each, name) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [nasty(each, key) for each in value]
    if isinstance(value, str):
        return value if key.endswith(("_at", "_since", "seen", "opened", "last")) else LONG
    return value


def harmless(app):
    """All that is on the screen, once it is seen that nothing in it commands a terminal or is out of place."""
    rows = []
    for strip in app.screen._compositor.render_strips(app.size):
        row = "".join(segment.text for segment in strip)
        bad = [f"{each!r} {unicodedata.category(each)}" for each in row if not each.isprintable()]
        assert not bad, f"{bad} in {row!r}"
        assert strip.cell_length == app.size.width, row
        rows.append(row)
    for widget in app.screen.query("*"):
        tip = widget.tooltip
        assert tip is None or not isinstance(tip, str) or "[" not in tip, f"{widget} has foreign markup as its tip"
        if tip is not None:
            assert all(each.isprintable() or each == "\n" for each in str(tip)), widget
    for note in app._notifications:
        assert not note.markup or "nope" not in note.message, note
    return "\n".join(rows)


def daemon():
    one = situations.exposed()
    state = nasty(one.state())
    state["phase_text"] = state["phase_cause"] = state["phase_hint"] = LONGER
    state["problems"] = [{"doing": LONG, "message": LONG, "hint": LONG}]
    state["timeline"] = [{"time": state["time"], "event": "x", "text": LONG, "cause": LONG, "forward": LONG}] * 30
    state["disagree"] = LONG
    state["unused"] = [{"what": LONG, "idle": 90000}]
    state["forwards"][0]["client"] = LONG
    state["forwards"][0]["client_settings"] = {"port": 1, "interface": LONG}
    state["forwards"][0]["peers"] = [{"address": LONG, "port": 1, "protocol": LONG, "since": state["time"]}] * 8
    state["forwards"] += [state["forwards"][0] | {"name": f"{NASTY}2"}]
    while not one.news.empty():
        one.news.get_nowait()
    one.tell(state)
    one.answers["GET", "/v1/servers"] = {
        "servers": [{"number": each, "place": LONG, "endpoint": LONG, "current": each == 2} for each in (1, 2, 3)]
    }
    one.answers["GET", "/v1/logins"] = {
        "logins": [
            {"name": f"{NASTY}{each}", "kind": "client", "title": LONG, "asks_user": True, "kept": LONG}
            for each in (1, 2)
        ]
    }
    one.answers["POST", "/v1/login"] = Transient(LONG, LONG, LONG)
    one.answers["GET", "/v1/policy"] = nasty(NOW)
    one.answers["POST", "/v1/policy/plan"] = nasty(OPEN)
    one.answers["GET", "/v1/report"] = LONG
    listener = {"port": 1, "address": LONG, "program": LONG, "user": LONG, "interpreter": LONG}
    reached = {
        "protocol": LONG,
        "first": 1,
        "last": 2,
        "why": LONG,
        "sources": [LONG],
        "target": LONG,
        "listeners": [listener],
    }
    wrong = {"severity": "danger", "what": LONG, "why": LONG, "do": LONG, "ports": [LONG]}
    one.answers["GET", "/v1/exposure"] = {"mode": LONG, "open": [reached] * 3, "findings": [wrong], "notes": [LONG]}
    one.answers["POST", "/v1/renew"] = VpnpfError(LONG, LONG, LONG)
    return one


async def to_the_client(pilot, look):
    for key in ("provider", "files"):
        await page(pilot, key)
        look()
        await pilot.press("enter")
    await page(pilot, "client")
    look()


@pytest.mark.parametrize("size", SIZES)
async def test_on_the_dashboard(size):
    async with face(daemon(), size) as pilot:
        while "[red]x[/]" not in harmless(pilot.app):
            await pilot.pause()
        for _ in range(3):
            await pilot.pause(0.02)
            harmless(pilot.app)


@pytest.mark.parametrize("keys", [
    ["s"], ["n"], ["r"], ["p"], ["p", "enter"], ["a"], ["x"], ["t"], ["l"], ["l", "enter"], ["w"], ["o"], ["d"], ["Q"],
], ids="-".join)  # fmt: skip
async def test_on_the_sheets(keys, monkeypatch):
    monkeypatch.setattr(found, "running", lambda: (Running("home"), Running(NASTY, open=False)))
    async with face(daemon(), (100, 34)) as pilot:
        await until(pilot, lambda: pilot.app.view.seen)
        for key in keys:
            before = pilot.app.screen
            await pilot.press(key)
            await until(pilot, lambda before=before: pilot.app.screen is not before or pilot.app._notifications)
            await until(pilot, lambda: type(pilot.app.screen).__name__ != "Working")
            await pilot.pause(0.05)
            harmless(pilot.app)


async def test_a_login_that_fails(monkeypatch):
    async with face(daemon(), (100, 34)) as pilot:
        await until(pilot, lambda: pilot.app.view.seen)
        await pilot.press("l")
        await until(pilot, lambda: type(pilot.app.screen).__name__ == "Choose")
        await pilot.press("enter")
        await until(pilot, lambda: type(pilot.app.screen).__name__ == "Login")
        pilot.app.screen.query_one("#username").value = "ada"
        pilot.app.screen.query_one("#password").value = "hunter2-hunter2"
        await pilot.press("tab")
        await pilot.click("#log-in")
        await until(pilot, lambda: type(pilot.app.screen).__name__ == "Confirm")
        assert "hunter2" not in harmless(pilot.app)


@pytest.mark.parametrize("error", [VpnpfError(LONG, LONG, LONG), ConfigError((Mistake(LONG, LONG, LONG),))])
async def test_an_error(error):
    async with face(daemon(), (100, 34)) as pilot:
        for each in (Told(error), Died(error, [LONG, NASTY])):
            pilot.app.push_screen(each)
            await pilot.pause(0.05)
            harmless(pilot.app)


async def test_a_daemon_that_cannot_be_asked():
    one = daemon()
    one.answers["GET", "/v1"] = NotRunning(LONG, LONG, LONG)
    async with Face(one, lambda: one.now).run_test(size=(100, 34)) as pilot:
        await until(pilot, lambda: pilot.app.view.trouble)
        await pilot.pause(0.05)
        harmless(pilot.app)


async def test_the_first_screen():
    begin = Begin(
        (Running(f"{NASTY}1"), Running(f"{NASTY}2", open=False)),
        (f"{NASTY}3",),
        Path(f"/tmp/{NASTY.replace(chr(0), '')}/config.toml"),
        (Mistake(LONG, LONG, LONG),),
        root=False,
    )
    async with Face(None, lambda: 0.0, first=lambda: Start(begin, Root())).run_test(size=(100, 34)) as pilot:
        await pilot.pause(0.05)
        assert "[red]x[/]" in harmless(pilot.app)


async def test_the_questions_of_the_first_start(machine):
    """File names and what is in files and settings, as they may lie in anybody's Downloads."""
    path = Path("/home/ada", NASTY.replace("\0", "").replace("/", "_") + ".conf")
    machine.found = replace(
        machine.found,
        files=(
            TunnelFile(path, "wireguard", LONG, "protonvpn", hint=LONG),
            TunnelFile(path.with_suffix(".ovpn"), "openvpn", LONG, "protonvpn", no_ports=LONG, hint=LONG),
            TunnelFile(path.with_suffix(".x"), "openvpn", mistake=LONG, hint=LONG),
        ),
        clients=(FoundClient("qbittorrent", "http://127.0.0.1:8080", NASTY, asks_login=True, runs=True),),
    )
    machine.trials = [Trial(good=False, said=LONG, hint=LONG)] * 3
    async with wizard_face().run_test(size=(100, 30)) as pilot:
        await to_the_client(pilot, lambda: harmless(pilot.app))
        await type_secret(pilot, "hunter2")
        await pilot.pause(0.1)
        assert "hunter2" not in harmless(pilot.app)


async def test_the_look_itself_sees_what_is_not_safe(monkeypatch):
    """The control: without what makes texts safe, each of these would be seen."""
    monkeypatch.setattr(panel, "printable", str)
    for text in ("a\x1b]52;c;eA==\x07", "\u202etfel"):
        async with face(situations.ready(), (100, 34)) as pilot:
            pilot.app.push_screen(Confirm("sure?", (text,), "Yes"))
            await pilot.pause(0.05)
            with pytest.raises(AssertionError):
                harmless(pilot.app)


async def test_a_line_is_safe_from_the_first_on():
    """Also what it is made with, not only what it says later."""
    async with face(situations.ready(), (100, 34)) as pilot:
        pilot.app.push_screen(Confirm("sure?", (LONG,), "Yes"))
        await pilot.pause(0.05)
        assert "[red]x[/]" in harmless(pilot.app)
