"""The dashboard in the situations that there are, at the sizes where they matter."""

from __future__ import annotations

import time

import pytest
from textual.containers import VerticalScroll

from tests.tui import situations
from tests.tui.snapshots import SIZES, compare, picture
from vpnpf.model import PROOF_NAMES
from vpnpf.tui.app import Face
from vpnpf.tui.history import RATES
from vpnpf.tui.panels.panel import Line, Panel
from vpnpf.tui.panels.throughput import ThroughputPanel, spanned
from vpnpf.tui.screens.dashboard import Dashboard
from vpnpf.tui.view import Reach

NARROW, NORMAL, WIDE = SIZES
EVERYWHERE = [(name, size) for name in ("ready", "blocked") for size in SIZES]
ELSEWHERE = [
    (name, NARROW)
    for name in (
        "fresh", "connecting", "failed", "stopped", "no_port", "three", "watcher", "looking", "forbidden", "away",
        "no_vpn", "exposed",
    )
]  # fmt: skip


@pytest.fixture(autouse=True)
def zone(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def face(daemon):
    return Face(daemon, lambda: daemon.now + getattr(daemon, "later", 0))


async def shown(pilot, reach=None):
    """Wait until it shows all that there is."""
    app = pilot.app
    while not (app.view.reach is Reach.ATTACHED or app.view.trouble) or reach not in {None, app.view.reach}:
        await pilot.pause()
    await settled(pilot)


async def settled(pilot):
    before = ""
    while True:
        pilot.app._show()
        if type(pilot.app.screen).__name__ == "Dashboard":
            pilot.app.screen.hand_on(pilot.app.view)  # which hides nothing that is missing
        await pilot.pause()
        now = picture(pilot.app)
        if now == before:
            return
        before = now


async def snapshot(daemon, size, name, theme=None):
    traffic = list(situations.traffic(daemon)) if name.startswith("ready") else []
    async with face(daemon).run_test(size=size) as pilot:
        if theme:
            pilot.app.theme = theme
        await shown(pilot, Reach.AWAY if name == "away" else None)
        for event in traffic:
            pilot.app._take(event)
        await settled(pilot)
        compare(pilot.app, f"dashboard-{name}")


@pytest.mark.parametrize(("name", "size"), EVERYWHERE + ELSEWHERE)
async def test_it_looks_as_it_did(name, size):
    await snapshot(getattr(situations, name)(), size, name)


@pytest.mark.parametrize("theme", ["light", "contrast"])
async def test_each_theme_looks_as_it_did(theme):
    await snapshot(situations.ready(), NARROW, f"ready-{theme}", theme)


def said(app, name):
    return str(app.screen.query_one(f"#{name}").render())


@pytest.mark.parametrize("size", SIZES)
async def test_at_each_size_everything_is_seen_without_scrolling(size):
    async with face(situations.ready()).run_test(size=size) as pilot:
        await shown(pilot)
        screen = pilot.app.screen
        assert screen.query_one("#body", VerticalScroll).max_scroll_y == 0
        panels = [each for each in screen.query(Panel) if each.display]
        assert len(panels) == 8, "all but the problems"
        for panel in panels:
            assert panel.region.height >= 2
            assert screen.region.contains_region(panel.region)
        regions = [each.region for each in panels]
        assert not any(one.overlaps(two) for one in regions for two in regions if one is not two)
        keys = [each.region for each in screen.query("FooterKey") if each.display]
        assert all(screen.region.contains_region(each) for each in keys), "a key is cut off"


def rows(app):
    """The characters, without the half of a cell by which a bar may differ."""
    return picture(app).split("\n--\n")[0].replace("╸", "━").replace("╺", "━")


async def test_a_new_size_orders_the_panels_anew():
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        small = rows(pilot.app)
        await pilot.resize_terminal(*WIDE)
        await settled(pilot)
        wide = rows(pilot.app)
        await pilot.resize_terminal(*NARROW)
        await settled(pilot)
        assert rows(pilot.app) == small
    async with face(situations.ready()).run_test(size=WIDE) as pilot:
        await shown(pilot)
        assert rows(pilot.app) == wide


async def test_problems_are_above_all_else_and_only_there_when_there_are_any():
    async with face(situations.blocked()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        problems, port = pilot.app.screen.query_one("ProblemsPanel"), pilot.app.screen.query_one("PortPanel")
        assert problems.display
        assert problems.region.bottom <= port.region.y
        assert "tried again in" in said(pilot.app, "problems")
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        assert not pilot.app.screen.query_one("ProblemsPanel").display


async def test_the_next_forward_is_looked_at_and_the_first_again_after_the_last():
    async with face(situations.three()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        seen = []
        for _ in range(4):
            seen.append((pilot.app.screen.query_one("#digits").value, said(pilot.app, "which").split(" · ")[0]))
            await pilot.press("f")
            await settled(pilot)
    ports = [("40000", "torrent, 1 of 3"), ("40001", "ssh, 2 of 3"), ("40002", "web, 3 of 3")]
    assert seen == [*ports, ports[0]]


async def test_a_click_on_the_port_copies_it():
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        await pilot.click("PortPanel")
        while not pilot.app.clipboard:
            await pilot.pause()
        assert pilot.app.clipboard == "40000"


async def test_the_evidence_that_is_cut_is_in_a_tooltip():
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        read = str(pilot.app.screen.query_one("#chain").tooltip).splitlines()
        assert read == [f"{name}: {pilot.app.view.forward.proofs[name].evidence}" for name in PROOF_NAMES]


async def test_the_themes_are_gone_through():
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        seen = [pilot.app.theme]
        for _ in range(3):
            await pilot.press("v")
            seen.append(pilot.app.theme)
    assert seen == ["dark", "light", "contrast", "dark"]


@pytest.mark.parametrize("size", SIZES)
async def test_the_help(size):
    async with face(situations.ready()).run_test(size=size) as pilot:
        await shown(pilot)
        await pilot.press("question_mark")
        await settled(pilot)
        compare(pilot.app, "help")
        await pilot.press("escape")
        await settled(pilot)
        assert type(pilot.app.screen).__name__ == "Dashboard"


async def test_no_traffic_figures_is_said():
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        await shown(pilot)
        panel = pilot.app.screen.query_one(ThroughputPanel)
        assert panel.query_one("#none").display
        for event in situations.traffic(pilot.app.link):
            pilot.app._take(event)
        await settled(pilot)
        assert not panel.query_one("#none").display
        assert "MiB/s" in said(pilot.app, "down .now")


def entries(daemon, number):
    """A state with so many lines in its timeline."""
    state = daemon.state()
    line = {"time": state["time"], "event": "phase", "forward": None, "cause": ""}
    state["timeline"] = [{**line, "text": f"line {each}"} for each in range(max(0, number - 100), number)]
    return state


async def test_the_timeline_stays_at_the_newest_and_does_not_jump_under_who_scrolled_back():
    daemon = situations.ready()
    daemon.tell(entries(daemon, 40))
    async with face(daemon).run_test(size=NARROW) as pilot:
        await shown(pilot)
        scroll = pilot.app.screen.query_one("#entries", VerticalScroll)

        def top():
            return said(pilot.app, "transitions").splitlines()[int(scroll.scroll_y)].split()[-1]

        while top() != "39":
            await settled(pilot)
        daemon.tell(entries(daemon, 50))
        while top() != "49":
            await settled(pilot)
        for _ in range(3):
            await pilot.press("pagedown")
            await settled(pilot)
        while scroll.scroll_y < 9:
            await settled(pilot)
        await pilot.pause(0)
        looked = top()
        for number in (53, 120, 125):
            daemon.tell(entries(daemon, number))
            while not said(pilot.app, "transitions").splitlines()[0].endswith(f"line {number - 1}") or top() != looked:
                await settled(pilot)
        await pilot.press("home")
        while scroll.scroll_y:
            await settled(pilot)
        daemon.tell(entries(daemon, 126))
        while top() != "125":
            await settled(pilot)


async def test_what_others_say_is_never_markup_nor_a_command():
    daemon = situations.ready()
    state = daemon.state()
    nasty = "[red]\x1b]52;c;x\x07[/] [@click=app.quit]"
    state["phase_text"] = state["tunnel"]["place"] = state["forwards"][0]["name"] = state["provider"] = nasty
    state["forwards"][0]["proofs"]["lease"]["evidence"] = nasty
    state["timeline"] = [{"time": state["time"], "event": "x", "text": nasty, "cause": nasty, "forward": nasty}]
    state["problems"] = [{"doing": nasty, "message": nasty, "hint": nasty}]
    state["policy"]["allow"] = [nasty]
    daemon.tell(state)
    async with face(daemon).run_test(size=WIDE) as pilot:
        await shown(pilot)
        while not pilot.app.view.seen.problems:
            await settled(pilot)
        await settled(pilot)
        seen = rows(pilot.app)
        assert "\x1b" not in seen
        assert "\x07" not in seen
        assert seen.count("[red]?]52;c;x?[/] [@click=app.quit]") >= 6
        for line in pilot.app.screen.query(Line):
            assert "\x1b" not in str(line.render())


async def test_nothing_is_drawn_anew_that_did_not_change():
    daemon = situations.ready()
    async with face(daemon).run_test(size=NORMAL) as pilot:
        await shown(pilot)
        drawn = []
        for line in pilot.app.screen.query(Line):
            line.update = lambda said, line=line, **rest: drawn.append(line.id)
        pilot.app._show()
        daemon.tell()
        pilot.app._show()
        assert drawn == []


async def test_it_may_be_left_while_it_is_still_being_filled(monkeypatch):
    """Then its parts go before itself."""
    mount, left = Dashboard.mount, []

    async def gone(self, widgets):
        await mount(self, *widgets)
        await self.query_one("#body").remove_children()
        left.append(self)

    def leaving(self, *widgets, **more):
        last = any(type(each).__name__ == "Footer" for each in widgets)
        return gone(self, widgets) if last else mount(self, *widgets, **more)

    monkeypatch.setattr(Dashboard, "mount", leaving)
    async with face(situations.ready()).run_test(size=NARROW) as pilot:
        while not left:
            await pilot.pause()
        await pilot.pause()


def test_a_plot_has_the_shortest_time_that_holds_what_there_is():
    many = [1, 30, 31, 60, 61, RATES]
    assert [spanned(each)[0] for each in many] == [30, 30, 60, 60, RATES, RATES]
