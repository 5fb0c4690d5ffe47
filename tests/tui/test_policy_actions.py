"""The policy's mode, the allow-list, and what is open: nothing changes before its plan was seen."""

from __future__ import annotations

import asyncio

import pytest

from tests.tui.face_world import NOON, FakeDaemon
from tests.tui.pilots import asked, closed, face, said, sheet, snapshots, until
from tests.unit.engine_world import World
from vpnpf.control.dialing import NotRunning
from vpnpf.control.messages import NotNow
from vpnpf.errors import Unavailable, UsageError

SSH = {"first": 22, "last": 22, "protocol": "tcp", "sources": ["203.0.113.0/24"], "name": "ssh", "comment": "backup"}
GAMES = {"first": 27000, "last": 27100, "protocol": "udp", "ends_at": NOON + 7384}
LIST = {"mode": "allow-list", "forwarded": True, "openings": [SSH, GAMES]}
NOW = {
    "profile": "home",
    "stage": "connected",
    "policy": LIST,
    "digest": "one",
    "applied": True,
    "configured": {"mode": "block-all"},
    "differs": True,
    "packets": {"22/tcp from 203.0.113.0/24": 12, "27000-27100/udp": 0},
    "uses": {"22/tcp from 203.0.113.0/24": {"last": NOON - 240, "closed": False}},
}
OPEN = {
    "policy": {"mode": "open-all"},
    "before": "one",
    "changes": ["- mode allow-list", "+ mode open-all"],
    "consequence": "every port of this machine's tunnel address becomes reachable from the internet",
    "findings": [
        {
            "severity": "danger",
            "title": "redis listens on 6379/tcp",
            "why": "it lets in whoever comes: [bold]anybody[/bold] could read and change what is in it",
            "advice": "have it listen on 127.0.0.1",
        },
        {"severity": "note", "title": "sshd listens on 22/tcp", "why": "it asks for a key", "advice": ""},
    ],
    "ask": True,
}
BLOCK = OPEN | {
    "policy": {"mode": "block-all"},
    "changes": ["- mode allow-list", "+ mode block-all"],
    "consequence": "nobody can come in any more, also not on a forwarded port; what goes out is left alone",
    "findings": [],
    "ask": False,
}
MORE = BLOCK | {"policy": LIST, "changes": ["+ 80/tcp, ends in 2 h 0 min (2026-05-04 14:00:00)"], "consequence": ""}


@pytest.fixture
def daemon():
    daemon = FakeDaemon(World().ready())
    daemon.answers["GET", "/v1/policy"] = NOW
    daemon.answers["PUT", "/v1/policy"] = lambda body: NOW | {"policy": body["policy"], "took": 0.042, "unsaved": ""}
    return daemon


async def planned(pilot):
    """Returns once the plan, or what stands in its way, is shown."""
    screen = await sheet(pilot, "Plan")
    await until(pilot, lambda: "Looking at" not in str(screen.query_one("#said").render()))
    return screen


async def test_a_mode_is_applied_after_its_plan(daemon):
    daemon.answers["POST", "/v1/policy/plan"] = BLOCK
    async with face(daemon) as pilot:
        await pilot.press("p")
        await sheet(pilot, "Policy")
        assert "as read back from the kernel" in said(pilot)
        await snapshots(pilot, "policy")
        await pilot.press("down", "down", "enter")
        screen = await planned(pilot)
        assert "nobody can come in any more" in said(pilot)
        assert screen.focused.id == "apply"
        assert not asked(daemon, "PUT", "/v1/policy")
        await pilot.press("enter")
        await until(pilot, lambda: "In force: block-all, 42 ms" in said(pilot))
        await closed(pilot)
    assert asked(daemon, "POST", "/v1/policy/plan") == [{"set": ["block-all"]}]
    assert asked(daemon, "PUT", "/v1/policy") == [{"policy": {"mode": "block-all"}, "before": "one"}]


async def test_a_warning_has_to_be_read_before_it_can_be_applied(daemon):
    daemon.answers["POST", "/v1/policy/plan"] = OPEN
    async with face(daemon) as pilot:
        await pilot.press("p")
        await sheet(pilot, "Policy")
        await pilot.press("down", "enter")
        screen = await planned(pilot)
        for word in ("DANGER", "redis listens on 6379/tcp", "[bold]anybody[/bold]", "have it listen on 127.0.0.1"):
            assert word in said(pilot)
        await snapshots(pilot, "plan-danger")
        assert screen.focused.id == "back"
        assert screen.query_one("#apply").disabled
        await pilot.click("#apply")
        await pilot.press("enter")
        await sheet(pilot, "Policy")
        assert not asked(daemon, "PUT", "/v1/policy")
        await pilot.press("enter")
        screen = await planned(pilot)
        await pilot.click("#read")
        await until(pilot, lambda: not screen.query_one("#apply").disabled)
        await pilot.click("#apply")
        await until(pilot, lambda: "In force: open-all" in said(pilot))
    assert len(asked(daemon, "PUT", "/v1/policy")) == 1


async def test_a_policy_that_somebody_else_changed_is_planned_again(daemon):
    plans = iter([BLOCK, BLOCK | {"before": "two", "changes": ["- 80/tcp", *BLOCK["changes"]]}])
    changed = NotNow("setting the port policy", "it was changed by somebody else meanwhile")
    puts = iter([changed, NOW | {"policy": {"mode": "block-all"}}])
    daemon.answers["POST", "/v1/policy/plan"] = lambda body: next(plans)
    daemon.answers["PUT", "/v1/policy"] = lambda body: next(puts)
    async with face(daemon) as pilot:
        await pilot.press("p")
        await sheet(pilot, "Policy")
        await pilot.press("down", "down", "enter")
        await planned(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "Somebody else changed the policy" in said(pilot))
        assert "- 80/tcp" in said(pilot)
        await snapshots(pilot, "plan-changed")
        await pilot.press("enter")
        await closed(pilot)
    assert [body["before"] for body in asked(daemon, "PUT", "/v1/policy")] == ["one", "two"]


async def test_back_to_the_configuration_is_no_policy_by_hand(daemon):
    daemon.answers["POST", "/v1/policy/plan"] = BLOCK
    daemon.answers["DELETE", "/v1/policy"] = NOW | {"policy": {"mode": "block-all"}}
    async with face(daemon) as pilot:
        await pilot.press("p")
        await sheet(pilot, "Policy")
        await pilot.press("end", "enter")
        await planned(pilot)
        await pilot.press("enter")
        await closed(pilot)
    assert asked(daemon, "POST", "/v1/policy/plan") == [{"reset": True}]
    assert asked(daemon, "DELETE", "/v1/policy") == [None]
    assert not asked(daemon, "PUT", "/v1/policy")


async def test_what_the_kernel_does_not_take_is_said_and_the_plan_stays(daemon):
    daemon.answers["POST", "/v1/policy/plan"] = BLOCK
    error = Unavailable("setting the port policy", "the kernel did not take it", "the policy until now stays")
    daemon.answers["PUT", "/v1/policy"] = error
    async with face(daemon) as pilot:
        await pilot.press("p")
        await sheet(pilot, "Policy")
        await pilot.press("down", "down", "enter")
        await planned(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "the kernel did not take it" in said(pilot))
        assert "the policy until now stays" in said(pilot)
        await pilot.press("escape", "escape")
        await closed(pilot)


async def test_a_long_plan_leaves_its_buttons_in_sight(daemon):
    changes = [f"- {port}/tcp from 203.0.113.0/24: {'東京 [bold]' * 20}" for port in range(1, 700)]
    daemon.answers["POST", "/v1/policy/plan"] = OPEN | {"changes": changes}
    async with face(daemon) as pilot:
        await pilot.press("p")
        await sheet(pilot, "Policy")
        await pilot.press("down", "enter")
        screen = await planned(pilot)
        assert "and 199 lines more" in said(pilot)
        assert screen.query_one("#apply").region.bottom <= 24
        await snapshots(pilot, "plan-long")


async def test_leaving_while_it_is_applied_says_that_it_goes_on(daemon):
    async def hangs():
        await asyncio.Event().wait()

    daemon.answers["POST", "/v1/policy/plan"] = BLOCK
    daemon.answers["PUT", "/v1/policy"] = lambda body: hangs()
    async with face(daemon) as pilot:
        await pilot.app.run_action("policy")
        await sheet(pilot, "Policy")
        await pilot.press("down", "down", "enter")
        await planned(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "Putting it in force" in said(pilot))
        await pilot.press("escape")
        await sheet(pilot, "Policy")
        assert "put in force all the same" in said(pilot)


# -- the list -----------------------------------------------------------------------------------


async def test_an_entry_is_typed_and_opened_after_its_plan(daemon):
    daemon.answers["POST", "/v1/policy/plan"] = MORE
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        assert "3 entries" in said(pilot)
        await snapshots(pilot, "entries")
        await pilot.press(*"80/tcp", "space", *"for", "space", *"2h", "enter")
        await planned(pilot)
        assert "+ 80/tcp, ends in 2 h" in said(pilot)
        await pilot.press("enter")
        await until(pilot, lambda: "✓ In force" in said(pilot))
        assert screen.query_one("Input").value == ""
    assert asked(daemon, "POST", "/v1/policy/plan") == [{"open": ["80/tcp for 2h"]}]
    assert asked(daemon, "PUT", "/v1/policy") == [{"policy": LIST, "before": "one"}]


async def test_a_mistake_is_said_beside_the_field_and_what_was_typed_stays(daemon):
    error = UsageError('reading "99999/tcp"', "99999 is no port", "a port is within 1-65535")
    daemon.answers["POST", "/v1/policy/plan"] = error
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        await pilot.press(*"99999/tcp", "enter")
        await until(pilot, lambda: "99999 is no port" in said(pilot))
        assert "a port is within 1-65535" in said(pilot)
        assert screen.query_one("Input").value == "99999/tcp"
        assert pilot.app.screen is screen


async def test_what_is_typed_outlives_news_and_the_end_of_the_daemon(daemon):
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        await pilot.press(*"80/tcp")
        daemon.answers["GET", "/v1/policy"] = NOW | {"policy": {"mode": "block-all"}}
        daemon.tell(daemon.state() | {"policy": {"mode": "block-all"}})
        await until(pilot, lambda: "The mode is block-all" in said(pilot))
        daemon.end()
        daemon.answers["POST", "/v1/policy/plan"] = NotRunning(
            "asking vpnpf", "profile home is not running", "start it"
        )
        await until(pilot, lambda: pilot.app.view.trouble)
        await pilot.press("enter")
        await until(pilot, lambda: "home is not running" in said(pilot))
        assert screen.query_one("Input").value == "80/tcp"


async def test_an_entry_is_closed(daemon):
    daemon.answers["POST", "/v1/policy/plan"] = BLOCK | {"changes": ["- 22/tcp (ssh) from 203.0.113.0/24: backup"]}
    async with face(daemon) as pilot:
        await pilot.press("a")
        await sheet(pilot, "Entries")
        await pilot.press("down", "delete")
        await planned(pilot)
        await pilot.click("#apply")
        await until(pilot, lambda: "✓ In force" in said(pilot))
    assert asked(daemon, "POST", "/v1/policy/plan") == [{"close": ["22/tcp from 203.0.113.0/24"]}]


async def test_an_entry_is_written_anew(daemon):
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        await pilot.press("down")
        await until(pilot, lambda: "backup · 12 packets came in, the last 4 min ago" in said(pilot))
        await pilot.press("enter")
        await until(pilot, lambda: screen.query_one("Input").value)
        assert screen.query_one("Input").value == "22/tcp from 203.0.113.0/24 # backup"


async def test_the_time_left_counts_down(daemon):
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        table = screen.query_one("DataTable")
        before = table.get_cell("2", "ends").plain
        daemon.world.now += 60
        pilot.app._show()
        assert before.startswith("2:0")
        assert table.get_cell("2", "ends").plain != before


async def test_an_empty_list_under_another_mode(daemon):
    daemon.answers["GET", "/v1/policy"] = NOW | {"policy": {"mode": "block-all", "forwarded": False}}
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        assert "The mode is block-all" in said(pilot)
        assert screen.focused is screen.query_one("Input")
        await snapshots(pilot, "entries-empty")


async def test_news_while_a_sheet_is_taken_down_are_no_crash(daemon):
    """Its parts go before itself."""
    async with face(daemon) as pilot:
        await pilot.press("a")
        screen = await sheet(pilot, "Entries")
        await screen.query("#sheet").remove()
        pilot.app._show()


async def test_an_answer_that_cannot_be_read_is_told(daemon):
    daemon.answers["GET", "/v1/policy"] = {"policy": 7}
    async with face(daemon) as pilot:
        await pilot.press("a")
        await sheet(pilot, "Told")
        assert "another version" in said(pilot)


# -- what is open -------------------------------------------------------------------------------

EXPOSED = {
    "profile": "home",
    "mode": "allow-list",
    "open": [
        {
            "protocol": "tcp",
            "first": 6379,
            "last": 6379,
            "why": "redis",
            "sources": [],
            "target": None,
            "listeners": [{"port": 6379, "address": "0.0.0.0", "program": "redis-server", "pid": 812}],
        },
        {"protocol": "udp", "first": 27000, "last": 27100, "sources": ["203.0.113.0/24"], "listeners": []},
        {"protocol": "tcp", "first": 80, "last": 80, "target": "192.168.1.7", "listeners": []},
    ],
    "findings": [
        {
            "severity": "danger",
            "kind": "redis",
            "ports": ["6379/tcp"],
            "what": "redis listens on 6379/tcp",
            "why": "it lets in whoever comes",
            "do": "have it listen on 127.0.0.1",
        }
    ],
    "notes": ["run it as root to see the names of all programs"],
}


async def test_what_is_open_is_a_table_with_what_is_wrong(daemon):
    daemon.answers["GET", "/v1/exposure"] = EXPOSED
    async with face(daemon) as pilot:
        await pilot.press("x")
        screen = await sheet(pilot, "Exposure")
        table = screen.query_one("DataTable")
        assert [each.plain for each in table.get_row_at(0)] == [
            "6379/tcp",
            "everybody",
            "redis-server (pid 812)",
            "✗ danger",
        ]
        assert table.row_count == 3
        assert "have it listen on 127.0.0.1" in said(pilot)
        await snapshots(pilot, "exposure")


async def test_nothing_is_open(daemon):
    daemon.answers["GET", "/v1/exposure"] = {"mode": "block-all", "open": [], "findings": [], "notes": []}
    async with face(daemon) as pilot:
        await pilot.press("x")
        await sheet(pilot, "Exposure")
        assert "Nothing is open (block-all)" in said(pilot)
        await snapshots(pilot, "exposure-none")
