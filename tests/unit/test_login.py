"""`vpnpf login` and `logout`: tried before it is kept, kept where nobody else reads it, and gone afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import pty
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import click
import pytest

from tests.unit.engine_world import START, World
from vpnpf import keyrings, plugins, secret_places
from vpnpf.accounts import StoredAccount
from vpnpf.cli import status_reading
from vpnpf.cli.main import run_command_line
from vpnpf.core.view import view
from vpnpf.errors import LoginRefused, Misconfigured, NoAnswer, Transient
from vpnpf.interfaces import Credentials
from vpnpf.observers.status_file import document
from vpnpf.store import FileStore, secrets_directory

USER, PASSWORD = "p1234567", "correct horse \u00e9 battery"
TYPED = f"{USER}\n{PASSWORD}\n"
PLUGIN = """
from vpnpf.api import Manifest, Option
calls, fails, options = [], {}, []
class Acme:
    manifest = Manifest(id="acme", name="Acme VPN", summary="of a test", verified="mock", account=True,
        options=(Option("region", str, "a place"),))
    def __init__(self, given):
        options.append(dict(given))
    async def log_in(self, io, credentials):
        calls.append(("in", credentials.username, credentials.password))
        io.store.save("token", {"token": "new"})
        assert io.store.load("token") == {"token": "new"}
        if "in" in fails:
            raise fails["in"]
    async def log_out(self, io):
        calls.append(("out", io.store.load("token")))
        if "out" in fails:
            raise fails["out"]
"""
CONFIG = """
[profiles.home]
provider = "natpmp"
tunnel = { type = "wireguard", config = "home.conf" }
[profiles.home.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
username = "admin"
password = PLACE
"""


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch):
    """Directories of our own, no keyring, and nothing configured."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(secret_places, "CREDSTORE", tmp_path / "credstore")
    monkeypatch.setattr(status_reading, "SYSTEM", tmp_path / "nowhere")
    monkeypatch.setattr("vpnpf.cli.login.no_core", lambda: None)  # for the rest of the tests' own process
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)


@pytest.fixture
def acme(tmp_path, monkeypatch):
    """A provider with an account; the module of its plug-in."""
    directory = tmp_path / "plugin"
    info = directory / "acme-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vpnpf.providers]\nacme = acme_plugin:Acme\n")
    (directory / "acme_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(directory))
    monkeypatch.delitem(sys.modules, "acme_plugin", raising=False)
    plugins.provider("acme")
    yield sys.modules["acme_plugin"]
    sys.modules.pop("acme_plugin", None)


class Kept(dict):
    """A keyring that is in order; `kept.fails` is what it raises."""

    fails = None

    def put(self, name, secret, doing, way_out):
        if self.fails:
            raise self.fails(doing, "it is so", way_out)
        self[name] = secret

    def remove(self, name, doing, way_out):
        if self.fails:
            raise self.fails(doing, "it is so", way_out)
        return self.pop(name, None) is not None


@pytest.fixture
def kept(monkeypatch):
    keyring = Kept()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    monkeypatch.setattr(keyrings, "put", keyring.put)
    monkeypatch.setattr(keyrings, "remove", keyring.remove)
    return keyring


@pytest.fixture
def run(capsys, monkeypatch):
    def do(*arguments, typed=None):
        given = io.TextIOWrapper(io.BytesIO((typed or "").encode()))
        monkeypatch.setattr(sys, "stdin", given)
        status = run_command_line(list(arguments))
        said = capsys.readouterr()
        assert PASSWORD not in said.out + said.err
        assert "Traceback" not in said.err
        return status, said.out, said.err

    return do


@pytest.fixture
def config(tmp_path):
    def do(place='{ keyring = "qb" }', text=CONFIG):
        (tmp_path / "home.conf").write_text("[Interface]\n")
        path = tmp_path / "config.toml"
        path.write_text(text.replace("PLACE", place))
        return str(path)

    return do


def everything():
    """All files below the state directory, with their texts."""
    root = secrets_directory().parent
    return {str(path.relative_to(root)): path.read_text() for path in root.rglob("*") if path.is_file()}


FILES = {"secrets/account-acme": TYPED, "secrets/acme-token.json": '{"token": "new"}'}


# -- a provider -----------------------------------------------------------------------------------


def test_a_good_login_is_kept(acme, run):
    status, out, err = run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert (status, err) == (0, "")
    assert out == f"Acme VPN: logged in; kept in {secrets_directory()}/account-acme\n"
    assert acme.calls == [("in", USER, PASSWORD)]
    assert everything() == FILES
    for path in secrets_directory().iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert secrets_directory().stat().st_mode & 0o777 == 0o700
    assert secret_places.read_account("acme") == f"{USER}\n{PASSWORD}"


def test_a_refused_login_keeps_nothing(acme, run):
    acme.fails["in"] = Misconfigured("logging in to Acme", "wrong user name or password", "reset it on acme.example")
    status, out, err = run("login", "acme", "--stdin", "--store", "file", "--untried", typed=TYPED)
    assert (status, out) == (78, "")
    assert err == "error: logging in to Acme: wrong user name or password\n  hint: reset it on acme.example\n"
    assert everything() == {}
    assert len(acme.calls) == 1


def test_a_refused_login_leaves_the_one_before(acme, run):
    run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    acme.fails["in"] = Misconfigured("logging in to Acme", "wrong", "mend it")
    assert run("login", "acme", "--stdin", "--store", "file", typed="other\nwrong\n")[0] == 78
    assert everything() == FILES


def test_where_nobody_can_be_asked_a_script_has_to_say_so(acme, run):
    acme.fails["in"] = NoAnswer("asking acme.example", "no answer in 10 s", "is this machine online?")
    status, out, err = run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert (status, out) == (75, "")
    assert "no answer in 10 s (is this machine online?)" in err
    assert "nothing was kept" in err
    assert "--untried" in err
    assert everything() == {}
    status, out, err = run("login", "acme", "--stdin", "--store", "file", "--untried", typed=TYPED)
    assert status == 0
    assert "not tried" in out
    # What was not tried gave nothing.
    assert everything() == {"secrets/account-acme": TYPED}


@pytest.mark.parametrize("yes", [True, False])
def test_a_person_is_asked(acme, run, kept, monkeypatch, yes):
    acme.fails["in"] = Transient("asking acme.example", "HTTP 503")
    monkeypatch.setattr(click, "prompt", lambda text, *, hide_input, **_: PASSWORD if hide_input else USER)
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text) or yes)
    monkeypatch.setattr("vpnpf.cli.login_asking.sys", SimpleNamespace(stdin=SimpleNamespace(isatty=lambda: True)))
    asked = []
    status, _, err = run("login", "acme")
    assert asked == ["Nobody could say whether it is right. Keep it untried?"]
    assert status == (0 if yes else 1)
    assert kept == ({"account-acme": f"{USER}\n{PASSWORD}"} if yes else {})
    assert ("nothing was kept" in err) is not yes


def test_one_that_never_ends_is_given_up(acme, run, monkeypatch):
    async def for_ever(_self, _io, _credentials):
        await asyncio.Event().wait()

    monkeypatch.setattr(acme.Acme, "log_in", for_ever)
    monkeypatch.setattr("vpnpf.cli.login._TRYING", 0.05)
    status, _, err = run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert status == 75
    assert "not done after 0.05 s" in err


def test_the_keyring_is_the_usual_place(acme, run, kept):
    assert run("login", "acme", "--stdin", typed=TYPED)[0] == 0
    assert kept == {"account-acme": f"{USER}\n{PASSWORD}"}
    assert everything() == {"secrets/acme-token.json": '{"token": "new"}'}


def test_without_a_session_there_is_no_keyring_and_no_try(acme, run):
    for more in ([], ["--store", "keyring"]):
        status, _, err = run("login", "acme", "--stdin", *more, typed=TYPED)
        assert status == 69
        assert "no D-Bus session" in err
        assert "vpnpf login acme --store file" in err
    assert acme.calls == []


def test_a_keyring_that_is_not_safe_has_a_way_out(acme, run, kept):
    kept.fails = keyrings.NoKeyring
    status, _, err = run("login", "acme", "--stdin", typed=TYPED)
    assert status == 78
    assert "vpnpf login acme --store file" in err
    assert everything() == {}


def test_an_older_one_that_would_win_is_removed(acme, run, kept):
    run("login", "acme", "--stdin", "--store", "file", typed="old\nold\n")
    _, out, _ = run("login", "acme", "--stdin", typed=TYPED)
    assert f"an older one was removed from {secrets_directory()}/account-acme" in out
    assert "secrets/account-acme" not in everything()


async def test_a_good_login_may_be_used_though_it_was_refused_before(acme, run):
    account = StoredAccount("acme", FileStore(secrets_directory()), lambda: TYPED)
    await account.refused(Credentials(USER, PASSWORD), "the subscription has ended")
    with pytest.raises(Misconfigured):
        await account.credentials()
    # In a thread: the command has a loop of its own.
    await asyncio.to_thread(run, "login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert await account.credentials() == Credentials(USER, PASSWORD)


async def test_one_that_was_not_tried_may_not(acme, run):
    account = StoredAccount("acme", FileStore(secrets_directory()), lambda: TYPED)
    await account.refused(Credentials(USER, PASSWORD), "wrong")
    acme.fails["in"] = NoAnswer("asking acme.example", "no answer")
    await asyncio.to_thread(run, "login", "acme", "--stdin", "--store", "file", "--untried", typed=TYPED)
    with pytest.raises(Misconfigured):
        await account.credentials()


def test_the_options_of_its_profile_are_used(acme, run, config, tmp_path):
    text = CONFIG.replace('"natpmp"', '"acme"\naccount = { env = "ACC" }\noptions = { region = "nl" }')
    _, _, err = run("login", "acme", "--stdin", "--store", "file", "--config", config(text=text), typed=TYPED)
    assert acme.options == [{"region": "nl"}]
    assert "the profile home reads its account from elsewhere" in err


def test_a_configuration_with_mistakes_is_no_reason_not_to_log_in(acme, run, tmp_path):
    path = tmp_path / "config/vpnpf/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[profiles")
    status, _, err = run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert status == 0
    assert "cannot be read, so options of providers are not used" in err


# -- what is typed --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "two lines are needed: user name and password, and nothing came"),
        ("user\n", "two lines are needed: user name and password, and there is one"),
        ("user\n\n", "the password is empty"),
        ("user\npass\nmore\n", "there are 3"),
        ("\npass\n", "user name is empty"),
        ("user\npa\tss\n", "nobody can type"),
        (f"user\n{'x' * 3000}\n", "longer than"),
    ],
)
def test_what_is_no_login_is_not_tried(acme, run, typed, said):
    status, _, err = run("login", "acme", "--stdin", "--store", "file", typed=typed)
    assert status == 64
    assert said in err
    assert acme.calls == []
    assert everything() == {}


def test_lines_as_another_system_writes_them(acme, run):
    run("login", "acme", "--stdin", "--store", "file", typed=TYPED.replace("\n", "\r\n"))
    assert acme.calls == [("in", USER, PASSWORD)]


def test_a_script_that_forgot_to_say_so(acme, run):
    status, _, err = run("login", "acme", "--store", "file", typed=TYPED)
    assert status == 64
    assert "--stdin" in err


def test_a_terminal_does_not_show_the_password(acme, tmp_path):
    """With a real terminal; the user name is its own control: that is shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            os.environ["PYTHONPATH"] = str(tmp_path / "plugin")
            argv = [sys.executable, "-m", "vpnpf", "login", "acme", "--store", "file"]
            os.execv(argv[0], argv)
        os._exit(1)
    shown = b""

    def until(text):
        nonlocal shown
        while text not in shown:
            shown += os.read(terminal, 4096)

    until(b"user name: ")
    os.write(terminal, USER.encode() + b"\n")
    until(b"password: ")
    os.write(terminal, PASSWORD.encode() + b"\n")
    with contextlib.suppress(OSError):  # EIO: it has ended
        while data := os.read(terminal, 4096):
            shown += data
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(terminal)
    assert USER.encode() in shown
    assert PASSWORD.encode() not in shown
    assert everything() == FILES


# -- whom one can log in to -----------------------------------------------------------------------


def test_what_is_known_is_named(acme, run, config):
    status, _, err = run("login", "nobody", "--config", config())
    assert status == 64
    assert 'there is no provider or client "nobody"' in err
    assert "known: acme" in err
    assert "qb" in err
    status, _, err = run("login", "natpmp", "--config", config())
    assert status == 64
    assert "has no account" in err
    assert "qb" in err


@pytest.mark.parametrize("command", ["login", "logout"])
def test_without_a_configuration_a_client_is_not_known(acme, run, command):
    status, _, err = run(command, "qb")
    assert status == 64
    assert 'no provider or client "qb", and no configuration that could name a client' in err
    assert f"{'logging in' if command == 'login' else 'logging out'}: " in err


@pytest.mark.parametrize("command", ["login", "logout"])
def test_a_client_of_a_configuration_with_mistakes(acme, run, tmp_path, command):
    path = tmp_path / "config/vpnpf/config.toml"
    path.parent.mkdir(parents=True)
    path.write_text("[profiles")
    status, _, err = run(command, "qb")
    assert status == 78
    assert "config.toml" in err


# -- a client -------------------------------------------------------------------------------------


@pytest.fixture
def client(monkeypatch):
    """Stands for a torrent client; what it was asked with."""
    asked = []

    class Client:
        fails = None

        def __init__(self, http, options):
            self.options = options

        async def probe(self):
            return "qBittorrent 5"

        async def get_listen(self):
            asked.append((self.options.url, self.options.username, self.options.password()))
            if Client.fails:
                raise Client.fails

    monkeypatch.setattr(plugins, "client", lambda _name: Client)
    Client.asked = asked
    return Client


def test_a_clients_password(client, run, kept, config):
    status, out, _ = run(
        "login", "qb", "--stdin", "--config", config('{ keyring = "torrents" }'), typed=PASSWORD + "\n"
    )
    assert status == 0
    assert client.asked == [("http://127.0.0.1:8080", "admin", PASSWORD)]
    assert kept == {"torrents": PASSWORD}
    assert "the keyring (vpnpf, torrents)" in out
    status, out, _ = run("logout", "qb", "--config", config('{ keyring = "torrents" }'))
    assert "removed from the keyring" in out
    assert kept == {}


def test_a_clients_wrong_password(client, run, kept, config):
    client.fails = LoginRefused("logging in to qBittorrent", "wrong user name or password", "mend it where it is kept")
    status, _, err = run("login", "qb", "--stdin", "--config", config(), typed=PASSWORD + "\n")
    assert status == 78
    assert "wrong user name or password" in err
    assert "mend it" not in err  # it was typed just now
    assert "not of your VPN" in err
    assert kept == {}


@pytest.mark.parametrize(
    ("place", "more", "said"),
    [
        ('{ env = "QB" }', [], "has it in $QB"),
        ('{ keyring = "qb" }', ["--store", "file"], "has it in the keyring"),
        ('{ credential = "qb" }', ["--store", "keyring"], "has it in a credential"),
    ],
)
def test_a_password_that_is_looked_for_elsewhere(client, run, kept, config, place, more, said):
    status, _, err = run("login", "qb", "--stdin", *more, "--config", config(place), typed=PASSWORD + "\n")
    assert status == 64
    assert said in err
    assert "hint" in err
    assert kept == {}
    assert client.asked == []


def test_a_client_without_a_password(client, run, kept, config):
    status, _, err = run("login", "qb", "--config", config(text=CONFIG.replace("password = PLACE\n", "")))
    assert status == 64
    assert 'password = { keyring = "qb" }' in err


# -- credentials of systemd -----------------------------------------------------------------------


@pytest.fixture
def encrypting(monkeypatch):
    """Stands for systemd-creds; what it was asked."""
    asked = []

    async def must(argv, *, doing, stdin, deadline):
        asked.append((argv, stdin))
        return "ENCRYPTED\n"

    monkeypatch.setattr(secret_places, "must", must)
    monkeypatch.setattr(secret_places.os, "geteuid", lambda: 0)
    return asked


def test_a_credential_and_what_the_unit_needs(acme, run, encrypting, tmp_path):
    run("login", "acme", "--stdin", "--store", "file", typed="old\nold\n")
    status, out, _ = run("login", "acme", "--stdin", "--store", "credential", typed=TYPED)
    assert status == 0
    path = tmp_path / "credstore/vpnpf-account-acme"
    assert path.read_text() == "ENCRYPTED\n"
    assert path.stat().st_mode & 0o777 == 0o600
    argv = ("systemd-creds", "encrypt", "--name=vpnpf-account-acme", "-", "-")
    assert encrypting == [(argv, f"{USER}\n{PASSWORD}")]
    assert f"[Service]\nLoadCredentialEncrypted=vpnpf-account-acme:{path}\n" in out
    assert "systemctl edit vpnpf@PROFILE" in out
    assert "secrets/account-acme" not in everything()
    assert f"removed from {path}\n" in run("logout", "acme")[1]
    assert not path.exists()


@pytest.mark.parametrize("name", ["../../etc/shadow", "/etc/shadow", "..", "a/b"])
def test_a_credential_is_a_name_and_no_path(client, run, config, encrypting, tmp_path, name):
    (tmp_path / "shadow").write_text("x")
    place = config(f'{{ credential = "{name}" }}')
    status, _, err = run("login", "qb", "--stdin", "--config", place, typed=PASSWORD + "\n")
    assert status == 78
    assert "no name for a credential" in err
    assert encrypting == []
    assert "nothing to remove" in run("logout", "qb", "--config", place)[1]


def test_only_root_makes_credentials(acme, run, monkeypatch):
    monkeypatch.setattr(secret_places.os, "geteuid", lambda: 1000)
    status, _, err = run("login", "acme", "--stdin", "--store", "credential", typed=TYPED)
    assert status == 77
    assert "sudo" in err


# -- logging out ----------------------------------------------------------------------------------


def test_logout_leaves_nothing(acme, run, kept):
    run("login", "acme", "--stdin", typed=TYPED)
    run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    for name in (".acme-token.json.new", "acme-list.damaged"):
        (secrets_directory() / name).write_text("left by a kill")
    (secrets_directory() / "acme2-token.json").write_text("{}")
    acme.calls.clear()
    status, out, err = run("logout", "acme")
    assert (status, err) == (0, "")
    assert acme.calls == [("out", {"token": "new"})]
    assert "the login was ended at the provider\n" in out
    assert f"removed from {secrets_directory()}/account-acme\n" in out
    assert "removed from the keyring (vpnpf, account-acme)\n" in out
    assert f"removed {secrets_directory()}/acme-token.json\n" in out
    assert kept == {}
    assert list(everything()) == ["secrets/acme2-token.json"]


def test_nothing_to_remove_is_said(acme, run):
    status, out, err = run("logout", "acme")
    assert (status, out, err) == (0, "Acme VPN: nothing to remove\n", "")
    assert acme.calls == []


def test_a_provider_that_cannot_be_told_is_no_reason_to_keep_it(acme, run):
    run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    acme.fails["out"] = NoAnswer("asking acme.example", "no answer in 10 s")
    status, out, err = run("logout", "acme")
    assert status == 0
    assert "its token ends by itself: asking acme.example: no answer in 10 s" in err
    assert "ended at the provider" not in out
    assert everything() == {}


def test_a_keyring_that_is_locked_is_said(acme, run, kept):
    run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    kept.fails = keyrings.KeyringShut
    status, _, err = run("logout", "acme")
    assert status == 0
    assert "it may still be in the keyring (vpnpf, account-acme)" in err
    assert everything() == {}


def test_what_runs_with_it_is_named(acme, run, tmp_path):
    run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    (tmp_path / "run").mkdir(exist_ok=True)
    said = document(view(World().ready().machine), START, time.time() - START) | {"provider": "acme"}
    (tmp_path / "run/status-home.json").write_text(json.dumps(said))
    assert "the profile home runs" in run("logout", "acme")[2]
    (tmp_path / "run/status-home.json").write_text(json.dumps(said | {"provider": "other"}))
    assert "home" not in run("logout", "acme")[2]


# -- root, for the user of the service ------------------------------------------------------------


@pytest.fixture
def state(monkeypatch):
    """A state directory of another user, as the units have it: he has to be able to get there."""
    with tempfile.TemporaryDirectory() as above:
        Path(above).chmod(0o755)
        directory = Path(above, "state")
        directory.mkdir(mode=0o700)
        os.chown(directory, 12345, 12346)
        monkeypatch.setenv("STATE_DIRECTORY", str(directory))
        yield directory


@pytest.mark.system  # only root can be somebody else
def test_what_root_writes_belongs_to_who_runs_vpnpf(acme, run, state):
    status, _, err = run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert (status, err) == (0, "")
    assert everything() == FILES
    for path in (secrets_directory(), *secrets_directory().iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (12345, 12346)
    assert os.geteuid() == 0
    assert "removed" in run("logout", "acme")[1]
    assert everything() == {}


@pytest.mark.system
def test_a_link_of_that_user_leads_root_nowhere(acme, run, state):
    victim = state.with_name("roots")
    victim.mkdir(mode=0o700)
    (victim / "file").write_text("root's")
    (state / "secrets").symlink_to(victim)
    status, _, _ = run("login", "acme", "--stdin", "--store", "file", typed=TYPED)
    assert status != 0
    assert [each.name for each in victim.iterdir()] == ["file"]


@pytest.mark.system
def test_roots_keyring_is_not_for_another_user(acme, run, kept, state):
    status, _, err = run("login", "acme", "--stdin", typed=TYPED)
    assert status == 69
    assert "--store file" in err
    assert kept == {}


def test_neither_arguments_nor_environment_take_a_password(acme):
    done = subprocess.run(
        [sys.executable, "-m", "vpnpf", "login", "--help"], capture_output=True, text=True, check=True
    )
    assert "--password" not in done.stdout
    assert "env" not in done.stdout.lower()
