"""The login of a torrent client at the first start: tried once, and what the person is told of it."""

from __future__ import annotations

import asyncio

import pytest

from vpnpf import plugins
from vpnpf.errors import LoginRefused, Misconfigured
from vpnpf.setup import trying
from vpnpf.setup.answers import Answers

WANTS_ONE = Misconfigured("logging in to qBittorrent", "it wants a login", "add a password to its table")


@pytest.fixture
def fails(monkeypatch):
    raised = []

    class Client:
        def __init__(self, http, options):
            pass

        async def probe(self):
            raise raised[0]

    monkeypatch.setattr(plugins, "client", lambda name: Client)
    return raised


def trial(secret):
    return asyncio.run(trying.client(Answers(client_type="qbittorrent", client_secret=secret)))


def test_who_typed_a_wrong_password_is_told_to_type_it_again(fails):
    fails.append(LoginRefused("logging in to qBittorrent", "wrong user name or password", "mend the configuration"))
    said = trial("wrong")
    assert said.good is False
    assert "type both again" in said.hint
    assert "configuration" not in said.hint


@pytest.mark.parametrize(("secret", "good"), [("", None), ("x", False)])
def test_an_empty_password_is_no_wrong_one(fails, secret, good):
    fails.append(WANTS_ONE)
    said = trial(secret)
    assert said.good is good
    assert said.hint == WANTS_ONE.hint


def test_an_empty_password_that_is_refused_is_not_asked_for_again(fails):
    fails.append(LoginRefused("logging in to Transmission", "it wants a login", "mend the configuration"))
    said = trial("")
    assert said.good is None
    assert "[clients]" in said.hint
