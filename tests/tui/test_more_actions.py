"""The torrent client, logins, the report, and other profiles."""

from __future__ import annotations

import gc
import stat
from io import StringIO

import pytest
from rich.console import Console
from textual.app import App
from textual.worker import WorkerFailed

from tests.tui.face_world import FakeDaemon
from tests.tui.pilots import asked, closed, face, said, sheet, snapshots, until
from tests.unit.engine_world import World
from vpnpf.control.messages import encode
from vpnpf.errors import Transient, Unavailable, UsageError, VpnpfError
from vpnpf.tui import commands_more, found
from vpnpf.tui.app import Face
from vpnpf.tui.commands import Commands
from vpnpf.tui.found import Running
from vpnpf.tui.saving import place_for, save

ACCOUNT = {"name": "pia", "kind": "provider", "title": "Private Internet Access", "asks_user": True, "kept": None}
CLIENT = {"name": "qb", "kind": "client", "title": "qb at http://127.0.0.1:8080", "asks_user": False, "kept": "a file"}
SECRET = "correct-horse"


@pytest.fixture
def daemon():
    return FakeDaemon(World().ready())


# -- the torrent client -------------------------------------------------------------------------


async def test_the_clients_settings_as_read_back(daemon):
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen)
        await pilot.press("t")
        await sheet(pilot, "Client")
        text = said(pilot)
        assert "qbittorrent  for the forward torrent" in text
        assert "vpf-home  ✓" in text
        assert "✗" not in text
        await snapshots(pilot, "client")


async def test_what_is_otherwise_than_it_should_be_is_said(daemon):
    state = daemon.state()
    forward = state["forwards"][0]
    wrong = {"port": 6881, "interface": "", "random_port": True, "port_mapping": True, "read_at": state["time"]}
    proof = {"ok": False, "evidence": "qbittorrent says port 6881, any device; [bold]wrong[/bold]"}
    proofs = forward["proofs"] | {"client": proof}
    daemon.tell(state | {"forwards": [forward | {"client_settings": wrong, "proofs": proofs}]})
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.forwards[0].client_settings.port == 6881)
        await pilot.press("t")
        await sheet(pilot, "Client")
        text = said(pilot)
        for each in (
            "should be 40000",
            "should be vpf-home",
            "should be off",
            "your own router",
            "[bold]wrong[/bold]",
        ):
            assert each in text
        await snapshots(pilot, "client-wrong")


async def test_without_a_client_that_is_said(daemon):
    state = daemon.state()
    daemon.tell(state | {"forwards": [state["forwards"][0] | {"client": None}]})
    async with face(daemon) as pilot:
        await until(pilot, lambda: pilot.app.view.seen.forwards[0].client is None)
        await pilot.press("t")
        assert "No forward of this profile has a torrent client" in said(pilot)


# -- logins -------------------------------------------------------------------------------------


async def test_a_login_is_tried_and_its_password_is_nowhere_afterwards(daemon):
    daemon.answers["GET", "/v1/logins"] = {"logins": [ACCOUNT, CLIENT]}
    sent = []

    def tried(body):
        sent.append(dict(body))
        return {"title": ACCOUNT["title"], "tried": True, "kept": "/var/lib/vpnpf/secrets/pia", "notes": []}

    daemon.answers["POST", "/v1/login"] = tried
    async with face(daemon) as pilot:
        await pilot.press("l")
        await sheet(pilot, "Choose")
        await snapshots(pilot, "logins")
        await pilot.press("enter")
        screen = await sheet(pilot, "Login")
        await snapshots(pilot, "login")
        await pilot.press(*"p1234567", "enter", *SECRET)
        assert SECRET not in pilot.app.export_screenshot()
        await pilot.press("enter")
        await until(pilot, lambda: "logged in; kept in /var/lib/vpnpf/secrets/pia." in said(pilot))
        await closed(pilot)
        assert SECRET not in said(pilot)
    assert sent == [{"name": "pia", "username": "p1234567", "password": SECRET}]
    assert SECRET not in f"{daemon.asked!r}"
    sent.clear()
    gc.collect()
    assert SECRET not in "".join(repr(each) for each in vars(screen).values())


async def test_a_refusal_is_said_and_only_the_password_is_typed_again(daemon):
    daemon.answers["GET", "/v1/logins"] = {"logins": [ACCOUNT]}
    refused = VpnpfError("logging in to PIA", "user name or password is wrong", "look at them at the provider's site")
    daemon.answers["POST", "/v1/login"] = refused
    async with face(daemon) as pilot:
        await pilot.press("l")
        screen = await sheet(pilot, "Login")
        await pilot.press(*"p1234567", "enter", *SECRET, "enter")
        await until(pilot, lambda: "user name or password is wrong" in said(pilot))
        assert "look at them at the provider's site" in said(pilot)
        assert screen.query_one("#username").value == "p1234567"
        assert screen.query_one("#password").value == ""
        assert screen.focused.id == "password"


@pytest.mark.parametrize("keep", [True, False])
async def test_a_login_that_nobody_could_try_is_kept_only_if_that_is_wanted(daemon, keep):
    daemon.answers["GET", "/v1/logins"] = {"logins": [CLIENT]}
    sent = []

    def tried(body):
        sent.append(dict(body))
        if body.get("untried"):
            return {"title": "qb", "tried": False, "kept": "a file", "notes": ["restart it"]}
        return Transient("logging in to qb", "no answer", "is it running?")

    daemon.answers["POST", "/v1/login"] = tried
    async with face(daemon) as pilot:
        await pilot.press("l")
        screen = await sheet(pilot, "Login")
        await pilot.press(*SECRET, "enter")
        await sheet(pilot, "Confirm")
        assert "Nobody could be asked" in said(pilot)
        assert screen.query_one("#password").value == ""
        await pilot.click("#yes" if keep else "#back")
        if keep:
            await until(pilot, lambda: "qb: not tried; kept in a file." in said(pilot))
        else:
            await until(pilot, lambda: "Nothing was kept" in said(pilot))
    assert [each.get("untried") for each in sent] == ([None, True] if keep else [None])


@pytest.mark.parametrize("mended", [True, False])
async def test_a_crash_prints_no_password(daemon, monkeypatch, mended):
    if not mended:  # the control: as Textual does it, everybody behind one reads it
        monkeypatch.setattr(Commands, "_fatal_error", App._fatal_error)

    def breaks(body):
        sent = encode(body)  # as whatever carries it does
        raise RuntimeError(f"nobody expected this of {len(sent)} bytes")

    printed = []
    monkeypatch.setattr(Face, "_close_messages_no_wait", lambda app: printed.extend(app._exit_renderables))
    daemon.answers["GET", "/v1/logins"] = {"logins": [CLIENT]}
    daemon.answers["POST", "/v1/login"] = breaks

    async def crash():
        async with face(daemon) as pilot:
            await pilot.press("l")
            await sheet(pilot, "Login")
            await pilot.press(*SECRET, "enter")
            await until(pilot, lambda: printed)

    with pytest.raises(WorkerFailed, match="nobody expected this"):
        await crash()
    console = Console(width=200, record=True, file=StringIO())
    console.print(*printed)
    text = console.export_text()
    assert "nobody expected this" in text
    assert (SECRET in text) is not mended


async def test_an_empty_password_is_not_sent(daemon):
    daemon.answers["GET", "/v1/logins"] = {"logins": [CLIENT]}
    async with face(daemon) as pilot:
        await pilot.press("l")
        await sheet(pilot, "Login")
        await pilot.click("#log-in")
        assert "The password is empty" in said(pilot)
    assert not asked(daemon, "POST", "/v1/login")


async def test_nobody_to_log_in_to(daemon):
    daemon.answers["GET", "/v1/logins"] = {"logins": []}
    async with face(daemon) as pilot:
        await pilot.press("l")
        await until(pilot, lambda: "nobody to log in to" in said(pilot))


# -- the report ---------------------------------------------------------------------------------

TEXT = "".join(f"line {number} [bold]of[/bold] \x1b[31mthe report\n" for number in range(300))


async def test_the_report_is_shown_whole_and_saved_where_it_is_wanted(daemon, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    taken, wanted = tmp_path / "taken.txt", tmp_path / "mine.txt"
    taken.write_text("mine")
    daemon.answers["GET", "/v1/report"] = TEXT
    async with face(daemon) as pilot:
        await pilot.press("w")
        screen = await sheet(pilot, "Report")
        assert screen.query_one("Log").line_count == 300
        assert screen.query_one("#path").value == str(tmp_path / "vpnpf-report-home.txt")
        screen.query_one("#path").value = "taken.txt"
        await snapshots(pilot, "report")
        await pilot.press("enter")
        await until(pilot, lambda: "taken.txt is there already" in said(pilot))
        screen.query_one("#path").value = "mine.txt"
        await pilot.click("#save")
        await until(pilot, lambda: f"Saved: {wanted}" in said(pilot))
    assert taken.read_text() == "mine"
    assert wanted.read_text() == TEXT
    assert stat.S_IMODE(wanted.stat().st_mode) == 0o600


async def test_a_report_that_cannot_be_made_is_told(daemon):
    daemon.answers["GET", "/v1/report"] = Unavailable("gathering a report", "not done after 25 s", "try again")
    async with face(daemon) as pilot:
        await pilot.press("w")
        await sheet(pilot, "Told")
        assert "not done after 25 s" in said(pilot)


def test_a_report_never_takes_the_place_of_a_file(tmp_path):
    first = place_for("home", tmp_path)
    assert save("a", str(first)) == str(first)
    second = place_for("home", tmp_path)
    assert second.name == "vpnpf-report-home-2.txt"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for there in (first, link):
        with pytest.raises(UsageError):
            save("b", str(there))
    assert not (tmp_path / "elsewhere").exists()
    for nowhere in ("a\0b", str(tmp_path / "no" / "such"), "~nobody-of-that-name/x"):
        with pytest.raises(Unavailable):
            save("b", nowhere)


# -- other profiles -----------------------------------------------------------------------------


@pytest.fixture
def others(monkeypatch):
    """Daemons that run, by profile."""
    known = {}
    monkeypatch.setattr(found, "running", lambda: tuple(Running(name, name != "barred") for name in sorted(known)))
    monkeypatch.setattr(commands_more, "link_to", known.get)
    return known


async def test_another_profile_is_looked_at(daemon, others):
    other = FakeDaemon(World().ready())
    other.profile = "work"
    for each in (daemon, other):
        each.answers["GET", "/v1/state"] = each.state() | {"profile": each.profile}
    hangs = FakeDaemon()
    hangs.answers["GET", "/v1/state"] = Transient("asking vpnpf", "no answer within 3 s")
    others |= {"home": daemon, "work": other, "barred": None, "stuck": hangs}
    async with face(daemon) as pilot:
        await pilot.press("o")
        screen = await sheet(pilot, "Choose")
        texts = [str(each.prompt) for each in screen.query_one("OptionList").options]
        assert "you may not ask it" in texts[0]
        assert "✓ looked at now; READY, port 40000" in texts[1]
        assert "no answer within 3 s" in texts[2]
        assert texts[3].endswith("READY, port 40000")
        await snapshots(pilot, "profiles")
        await pilot.press("end", "enter")
        await until(pilot, lambda: pilot.app.view.profile == "work" and pilot.app.view.seen)
        assert pilot.app.link is other


async def test_no_profile_runs(daemon, others):
    async with face(daemon) as pilot:
        await pilot.press("o")
        await until(pilot, lambda: "No profile runs" in said(pilot))
