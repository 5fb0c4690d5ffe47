"""Every route of the control socket for every role: the application's answers, cell by cell."""

from __future__ import annotations

import asyncio
import time
from unittest.mock import MagicMock

import pytest

from tests.io.control_table import OWNED, ROLES, WATCHED, expected, known, makers, table
from vpnpf.cli.run import _routes
from vpnpf.control.app import App
from vpnpf.control.peers import Peer, Role
from vpnpf.control.routes import Route

TABLE = table()


def role_of(name):
    return Role[name.upper()]


async def status(app, method, path, role):
    """What the application answers, and whether it sent a body without an end."""
    sent, sleeping = [], asyncio.Event()
    incoming = [{"type": "http.request", "body": b"{}", "more_body": False}]

    async def receive():
        if method == "GET" or not incoming:
            await sleeping.wait()
        return incoming.pop()

    async def send(message):
        sent.append(message)

    state = {"peer": Peer(1000, role), "began": asyncio.get_running_loop().time(), "abort": lambda: None}
    scope = {"type": "http", "method": method, "path": path, "headers": [], "state": state}
    async with asyncio.timeout(5):
        await app(scope, receive, send)
    return sent[0]["status"]


def test_every_route_has_a_row():
    assert known(TABLE) == WATCHED | set(OWNED), "say in tests/io/control_table.py who may"
    assert not WATCHED & set(OWNED)


def test_a_daemon_has_these_and_no_others():
    assert known(_routes(MagicMock(), None)) == known(TABLE)


def test_what_waits_for_others_leaves_places_to_what_does_not():
    quick = {f"{method} {path}" for (method, path), route in TABLE.items() if not route.slow}
    assert quick == WATCHED | {"POST /v1/policy/explain", "POST /v1/server", "POST /v1/stop", "POST /v1/shutdown"}


def test_nothing_is_looked_for_in_vain():
    assert {each.__name__ for each in makers()} >= {"watching", "policy", "commands", "wishes", "server"}
    assert len(TABLE) >= 16


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("at", sorted(TABLE), ids=" ".join)
async def test_who_may(at, role):
    assert await status(App(TABLE), *at, role_of(role)) == expected(" ".join(at), role)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("path", sorted({path for _, path in TABLE}))
async def test_no_other_method_is_a_way_in(path, role):
    for method in ("GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "get", "post"):
        if (method, path) not in TABLE:
            assert await status(App(TABLE), method, path, role_of(role)) == (403 if role == "stranger" else 405)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize(
    "path", ["/", "/v2", "/v1/", "/v1//stop", "/v1/stop/", "/v1/STOP", "/v1/../v1/stop", "/v1/%73top"]
)
async def test_no_other_spelling_is_a_way_in(path, role):
    for method in ("GET", "POST"):
        assert await status(App(TABLE), method, path, role_of(role)) == (403 if role == "stranger" else 404)


async def test_a_route_that_is_given_to_too_many_is_found_out():
    """The control: with one role less, the cell is another."""
    at = ("POST", "/v1/stop")
    weaker = {**TABLE, at: Route(Role.WATCHER, TABLE[at].answer, status=TABLE[at].status)}
    assert await status(App(weaker), *at, Role.WATCHER) != expected(" ".join(at), "watcher")


async def test_a_stranger_is_refused_before_anything_of_the_request_is_read():
    async def receive():
        raise AssertionError

    sent = []

    async def send(message):
        sent.append(message)

    state = {"peer": Peer(1000, Role.STRANGER), "began": time.monotonic(), "abort": lambda: None}
    scope = {"type": "http", "method": "POST", "path": "/v1/stop", "headers": [], "state": state}
    await App(TABLE)(scope, receive, send)
    assert sent[0]["status"] == 403
