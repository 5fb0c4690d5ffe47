"""Logging in to a provider or client over the control socket: tried once, kept where it is looked for, and in no text."""

from __future__ import annotations

import asyncio
import json
import logging
import os

import msgspec
import pytest
from msgspec.structs import replace

from tests.io.control_world import Serving, ready_state
from tests.unit.test_login import PASSWORD, PLUGIN, USER, acme, everything, machine
from vpnpf import keyrings, plugins, secret_places
from vpnpf.asked import Asked
from vpnpf.cli.report_words import told_of
from vpnpf.config import load
from vpnpf.control.asked import asked
from vpnpf.control.messages import NotNow
from vpnpf.errors import Misconfigured, NoAnswer, Transient, Unavailable, UsageError, VpnpfError
from vpnpf.events import RenewWanted
from vpnpf.hub import Hub
from vpnpf.io.clock import BootClock
from vpnpf.logins import here
from vpnpf.secrets import Source
from vpnpf.store import secrets_directory

__all__ = ["acme", "machine"]
assert PLUGIN

CONFIG = """
[profiles.home]
provider = "acme"
tunnel = { type = "wireguard", config = "home.conf" }
[profiles.home.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
username = "admin"
"""
LOGIN = {"name": "acme", "username": USER, "password": PASSWORD}


class Daemon:
    def __init__(self, directory):
        self.directory, self.posted = directory, []
        (directory / "home.conf").write_text("[Interface]\n")
        hub = Hub()
        by = self.by = Asked(
            lambda: self.settings, None, hub, BootClock(), lambda: pytest.fail("policies"), self.posted.append, told_of
        )
        self.serving = Serving(directory, asked(by))
        self.serving.seen.hub = self.serving.hub = hub
        hub.publish(ready_state(), ())
        self.configure()

    def configure(self, place=None, account=None):
        path = self.directory / "config.toml"
        path.write_text(CONFIG)
        settings = load(path).profile(None)
        password = place or Source("file", str(self.directory / "qb.password"))
        clients = {name: replace(each, password=password) for name, each in settings.clients.items()}
        self.settings = replace(settings, clients=clients, account=account)

    async def log_in(self, **body):
        return await self.serving.ask("post", "/v1/login", {**LOGIN, **body})

    async def logins(self):
        return (await self.serving.ask("get", "/v1/logins"))["logins"]


@pytest.fixture
async def daemon(tmp_path, acme):
    del acme
    made = Daemon(tmp_path)
    async with made.serving:
        yield made


@pytest.fixture
def client(monkeypatch):
    """Stands for a torrent client; what it was asked with."""

    class Client:
        fails, asked = None, []

        def __init__(self, http, options):
            self.options = options

        async def probe(self):
            return "qBittorrent 5"

        async def get_listen(self):
            self.asked.append(self.options.password())
            if Client.fails:
                raise Client.fails

    monkeypatch.setattr(plugins, "client", lambda _name: Client)
    return Client


# -- a provider -----------------------------------------------------------------------------------


async def test_a_good_login_is_kept_and_the_engine_tries_at_once(daemon, acme):
    assert await daemon.logins() == [
        {"name": "acme", "kind": "provider", "title": "Acme VPN", "asks_user": True, "kept": None},
        {
            "name": "qb",
            "kind": "client",
            "title": "qb at http://127.0.0.1:8080",
            "asks_user": False,
            "kept": None,
        },
    ]
    path = str(secrets_directory() / "account-acme")
    assert await daemon.log_in() == {"title": "Acme VPN", "tried": True, "kept": path, "notes": []}
    assert acme.calls == [("in", USER, PASSWORD)]
    assert everything() == {
        "secrets/account-acme": f"{USER}\n{PASSWORD}\n",
        "secrets/acme-token.json": '{"token": "new"}',
    }
    assert (secrets_directory() / "account-acme").stat().st_mode & 0o777 == 0o600
    assert secret_places.read_account("acme") == f"{USER}\n{PASSWORD}"
    assert daemon.posted == [RenewWanted("")]
    assert (await daemon.logins())[0]["kept"] == path


async def test_a_refused_login_is_tried_once_and_keeps_nothing(daemon, acme):
    acme.fails["in"] = Misconfigured("logging in to Acme", "wrong user name or password", "reset it on acme.example")
    with pytest.raises(VpnpfError, match="wrong user name or password") as refused:
        await daemon.log_in(untried=True)
    assert (refused.value.exit_code, refused.value.hint) == (78, "reset it on acme.example")
    assert (len(acme.calls), everything(), daemon.posted) == (1, {}, [])


async def test_an_engine_that_is_stopped_has_nothing_to_try_and_the_login_is_kept(daemon, monkeypatch):
    def stopped(_event):
        raise NotNow("asking vpnpf", "the profile is stopped", "start it")

    monkeypatch.setattr(daemon.by, "_post", stopped)
    assert (await daemon.log_in())["tried"] is True
    assert "secrets/account-acme" in everything()


async def test_what_nobody_could_try_is_kept_only_if_that_is_wanted(daemon, acme):
    acme.fails["in"] = NoAnswer("asking acme.example", "no answer in 10 s")
    with pytest.raises(Transient, match="no answer") as failed:
        await daemon.log_in()
    assert "untried" in failed.value.hint
    assert (everything(), daemon.posted) == ({}, [])
    said = await daemon.log_in(untried=True)
    assert (said["tried"], said["notes"]) == (False, ["asking acme.example: no answer in 10 s"])
    assert everything() == {"secrets/account-acme": f"{USER}\n{PASSWORD}\n"}
    assert daemon.posted == [RenewWanted("")]


async def test_one_at_a_time_and_not_for_ever(daemon, acme, monkeypatch):
    asking = asyncio.Event()

    async def for_ever(_self, _io, _credentials):
        asking.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(acme.Acme, "log_in", for_ever)
    monkeypatch.setattr(here, "TRYING", 0.3)
    first = asyncio.create_task(daemon.log_in())
    await asking.wait()
    with pytest.raises(Transient, match="another login is being tried"):
        await daemon.log_in()
    with pytest.raises(Transient, match=r"not done after 0\.3 s"):
        await first
    assert everything() == {}


async def test_an_account_that_the_configuration_has_elsewhere(daemon, tmp_path, acme):
    daemon.configure(account=Source("file", f"{tmp_path}/account"))
    assert (await daemon.log_in())["kept"] == f"{tmp_path}/account"
    assert (tmp_path / "account").read_text() == f"{USER}\n{PASSWORD}\n"
    assert (tmp_path / "account").stat().st_mode & 0o777 == 0o600
    acme.calls.clear()
    daemon.configure(account=Source("env", "ACC"))
    with pytest.raises(UsageError, match=r"has the account in \$ACC"):
        await daemon.log_in()
    daemon.configure(account=Source("keyring", "acc"))
    with pytest.raises(Unavailable, match="no keyring"):
        await daemon.log_in()
    assert acme.calls == []


async def test_what_systemd_hands_over_comes_first(daemon, acme, tmp_path, monkeypatch):
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert "vpnpf-account-acme" not in str((await daemon.logins())[0]["kept"])
    (tmp_path / "vpnpf-account-acme").write_text("old\nold\n")
    assert (await daemon.logins())[0]["kept"] == "the credential vpnpf-account-acme"
    with pytest.raises(UsageError, match="systemd hands the account") as refused:
        await daemon.log_in()
    assert "--store credential" in refused.value.hint
    assert (acme.calls, everything()) == ([], {})


# -- a client -------------------------------------------------------------------------------------


async def test_a_clients_password_goes_where_its_configuration_has_it(daemon, client, tmp_path, monkeypatch):
    said = await daemon.log_in(name="qb", username=None)
    path = tmp_path / "qb.password"
    assert said == {"title": "qb at http://127.0.0.1:8080", "tried": True, "kept": str(path), "notes": []}
    assert (path.read_text(), path.stat().st_mode & 0o777) == (f"{PASSWORD}\n", 0o600)
    assert (await daemon.logins())[1]["kept"] == str(path)
    client.fails = Misconfigured("logging in to qBittorrent", "wrong user name or password", "mend it")
    with pytest.raises(VpnpfError, match="wrong user name or password"):
        await daemon.log_in(name="qb", password="other one")
    assert path.read_text() == f"{PASSWORD}\n"
    client.fails, kept = None, {}
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    monkeypatch.setattr(keyrings, "put", lambda name, secret, *_: kept.update({name: secret}))
    daemon.configure(Source("keyring", "torrents"))
    assert (await daemon.log_in(name="qb"))["kept"] == "the keyring (vpnpf, torrents)"
    assert kept == {"torrents": PASSWORD}


@pytest.mark.parametrize("kind", ["link", "directory", "others"])
async def test_a_file_that_is_not_to_be_written_is_named(daemon, client, tmp_path, kind):
    path = tmp_path / "etc/qb.password"
    path.parent.mkdir()
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "directory":
        path.mkdir()
    else:
        path.parent.chmod(0o777)
    daemon.configure(Source("file", str(path)))
    with pytest.raises(Unavailable) as refused:
        await daemon.log_in(name="qb")
    assert f"install -m 600 /dev/null {path}" in refused.value.hint
    assert client.asked == []
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("kind", "said"), [("env", "$qb"), ("credential", "a credential")])
async def test_what_only_the_person_can_write(daemon, client, kind, said):
    daemon.configure(Source(kind, "qb"))
    with pytest.raises(UsageError) as refused:
        await daemon.log_in(name="qb")
    assert said in str(refused.value)
    assert refused.value.hint
    assert client.asked == []


# -- what is no login, and what nobody is to see --------------------------------------------------

CANARY = "canary-5up3r-secret"
BROKEN = [
    {"name": CANARY, "password": CANARY},
    {"name": "acme", "password": CANARY},
    {"name": "acme", "password": [CANARY], "username": "u"},
    {"name": "acme", "username": CANARY},
    {"name": ["acme"], "password": CANARY},
    {"name": "acme", "username": "u", "password": f"{CANARY}\n"},
    {"name": "acme", "username": "u", "password": CANARY * 400},
    {"name": "acme", CANARY: CANARY},
    {"name": "acme", "username": "u", "password": CANARY, "untried": CANARY},
]


@pytest.mark.parametrize("body", BROKEN)
async def test_what_is_no_login_is_not_tried_and_not_repeated(daemon, acme, body):
    with pytest.raises(UsageError) as refused:
        await daemon.serving.ask("post", "/v1/login", body)
    assert CANARY not in repr(refused.value)
    assert acme.calls == []


@pytest.mark.parametrize(
    "failure",
    [
        lambda: ValueError(f"bad {CANARY}"),
        lambda: Misconfigured(f"as {CANARY}", f"no {CANARY}", f"not {CANARY}"),
        lambda: NoAnswer(f"as {CANARY}", f"no {CANARY}", f"not {CANARY}"),
        lambda: Unavailable(f"as {CANARY}", f"no {CANARY}", f"not {CANARY}"),
        lambda: None,
    ],
)
async def test_a_password_is_in_no_text_whatever_happens(daemon, acme, monkeypatch, caplog, capfd, failure):
    """The control: it is in the file, where the login was good."""
    caplog.set_level(logging.DEBUG)
    failed = failure()
    if failed is not None:
        acme.fails["in"] = failed
    raw = [json.dumps({**LOGIN, "password": CANARY, "untried": untried}).encode() for untried in (False, True)]
    raw += [raw[0][:-1], raw[0] + b"x", b"\xff" + raw[0], b"[" + raw[0] + b"]", b'"' + CANARY.encode() + b'"']
    said = []
    async with daemon.serving.watching() as (_, events):
        for body in raw:
            line = b"POST /v1/login?%s HTTP/1.1\r\nhost: vpnpf\r\ncontent-length: %d\r\n\r\n"
            said.append(await daemon.serving.told(line % (CANARY.encode(), len(body)) + body))
        said.append(await events.readline())
    said.append((await daemon.serving.ask("text", "/v1/report")).encode())
    said.append(msgspec.json.encode(await daemon.serving.ask("get", "/v1/state")))
    said.append(msgspec.json.encode(await daemon.logins()))
    seen = capfd.readouterr()
    texts = [each.decode("utf-8", "replace") for each in said]
    texts += [seen.out, seen.err, caplog.text, *daemon.serving.said, repr(daemon.posted)]
    assert any("logging in" in text or "asking" in text or "kept" in text for text in texts)
    assert not [text for text in texts if CANARY in text]
    kept = failed is None or isinstance(failed, NoAnswer)
    assert (CANARY in "".join(everything().values())) is kept


def test_no_value_shows_it():
    typed = msgspec.convert({**LOGIN, "password": CANARY}, here._Typed)
    assert CANARY not in f"{typed!r} {typed}"
    assert replace(typed).password == CANARY


async def test_a_mistake_while_it_is_kept_tells_no_password(daemon, monkeypatch):
    async def put(self, secret):
        raise ValueError(f"cannot write {secret!r}")

    monkeypatch.setattr(secret_places.FilePlace, "put", put)
    with pytest.raises(Unavailable) as caught:
        await daemon.log_in()
    assert PASSWORD not in str(caught.value) + caught.value.hint
    assert "ValueError" in str(caught.value)
    # The control: as it is raised it has the password, and any other mistake is told as it is.
    with pytest.raises(ValueError, match=PASSWORD):
        await secret_places.FilePlace(daemon.directory / "x").put(PASSWORD)


@pytest.mark.system
@pytest.mark.parametrize("theirs", [True, False])
async def test_a_file_that_another_user_could_have_lead_elsewhere_is_not_written(daemon, theirs):
    """The directory is ours, but it is in one of his: he can put a link in its place at any moment."""
    above = daemon.directory / "ada"
    (above / "vpn").mkdir(parents=True)
    kept = above / "vpn" / "shadow"
    if theirs:
        os.chown(above, 65531, 65531)
    daemon.configure(place=Source("file", str(kept)))
    place = secret_places.GivenFilePlace(kept)
    if theirs:
        with pytest.raises(Unavailable, match="put another directory in its place"):
            await place.put("hunter2")
        assert not kept.exists()
    else:  # the control
        await place.put("hunter2")
        assert kept.read_text() == "hunter2\n"
