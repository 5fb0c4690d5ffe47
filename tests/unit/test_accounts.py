"""Accounts at providers: where the login is found, and that a refused one is not tried again."""

import asyncio
import json
import subprocess
import sys
import time

import pytest

from vpnpf import keyrings, secret_places
from vpnpf.accounts import StoredAccount, parse
from vpnpf.errors import AGAIN, Misconfigured, Transient, Unavailable
from vpnpf.interfaces import Credentials
from vpnpf.store import FileStore, secrets_directory
from vpnpf.testing import FakeClock

GOOD, OTHER = Credentials("p1234567", "correct horse"), Credentials("p1234567", "battery staple")
PLACE = "refused-pia"


class Login:
    """What the place of the account says; may be changed."""

    def __init__(self, credentials=GOOD):
        self.credentials = credentials

    def __call__(self):
        return f"{self.credentials.username}\n{self.credentials.password}"


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "secrets"


@pytest.fixture
def made(directory, clock):
    """Makes an account as a new process would."""

    def make(login=None, *, provider="pia", store=None):
        return StoredAccount(provider, store or FileStore(directory), login or Login(), clock.wall)

    return make


async def refused(account, kind=Misconfigured):
    with pytest.raises(kind) as caught:
        await account.credentials()
    assert GOOD.password not in f"{caught.value} {caught.value.hint} {caught.value!r}"
    assert "vpnpf login pia" in caught.value.hint
    return caught.value


# -- two lines ------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["u\np", "u\np\n", "u\r\np\r\n", "u\np\n\n"])
def test_two_lines_as_any_editor_writes_them(text):
    assert parse(text, "pia") == Credentials("u", "p")


def test_blanks_belong_to_a_password():
    assert parse("u\n p \n", "pia") == Credentials("u", " p ")


@pytest.mark.parametrize("text", ["", "u", "u\n", "\np", "u\np\nq", "u\n\np"])
def test_anything_else_is_refused(text):
    with pytest.raises(Misconfigured, match="two lines") as caught:
        parse(text, "pia")
    assert caught.value.hint.endswith("or: vpnpf login pia")


# -- refusals -------------------------------------------------------------------------------------


async def test_a_refused_login_is_not_handed_out_again_until_it_changes(made):
    login = Login()
    account = made(login)
    assert await account.credentials() == GOOD
    await account.refused(GOOD, "HTTP 401")
    assert "HTTP 401" in str(await refused(account))
    login.credentials = OTHER
    assert await account.credentials() == OTHER
    # The first one is wrong as ever.
    login.credentials = GOOD
    await refused(account)


async def test_that_it_lets_nobody_in_is_no_servers_fault_and_is_looked_at_again(made, clock):
    account = made()
    await account.refused(GOOD, "HTTP 401")
    error = await refused(account)
    assert error.anywhere
    assert error.retry_after == AGAIN
    await account.refused(GOOD, "HTTP 429", clock.wall() + 600)
    error = await refused(account, Transient)
    assert error.anywhere
    assert error.retry_after == pytest.approx(600)


async def test_it_outlives_the_process(made, directory):
    await made().refused(GOOD, "HTTP 401")
    await refused(made())
    assert await made(Login(OTHER)).credentials() == OTHER
    code = f"""
import asyncio, sys
from pathlib import Path
from vpnpf.accounts import StoredAccount
from vpnpf.errors import AGAIN, Misconfigured
from vpnpf.store import FileStore
account = StoredAccount("pia", FileStore(Path({str(directory)!r})), lambda: sys.stdin.read())
try:
    asyncio.run(account.credentials())
except Misconfigured as error:
    print(error)
"""
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], input=Login()(), capture_output=True, text=True, check=True
    )
    assert "was refused: HTTP 401" in done.stdout


async def test_a_good_login_clears_it(made):
    account = made()
    await account.refused(GOOD, "the subscription has ended")
    made().accept()  # by `vpnpf login`, beside a run
    assert await account.credentials() == GOOD


async def test_each_of_several_logins_is_remembered_and_not_without_end(made, directory):
    account = made()
    for number in range(20):
        await account.refused(Credentials("u", str(number)), "no")
    await refused(made(Login(Credentials("u", "19"))))
    await refused(made(Login(Credentials("u", "12"))))
    assert await made(Login(Credentials("u", "11"))).credentials()
    assert (directory / f"{PLACE}.json").stat().st_size < 4096


async def test_neither_login_nor_a_quick_hash_is_in_the_file(made, directory):
    await made().refused(GOOD, "no\x1b[2J" + "x" * 1000)
    path = directory / f"{PLACE}.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert directory.stat().st_mode & 0o777 == 0o700
    text = path.read_text()
    assert GOOD.username not in text
    assert GOOD.password not in text
    assert len(json.loads(text)["refused"][0]["cause"]) == 200
    assert json.loads(text)["refused"][0]["cause"].startswith("no?[2J")
    first = json.loads(text)
    path.unlink()
    await made().refused(GOOD, "no")
    assert json.loads(path.read_text())["refused"][0]["digest"] != first["refused"][0]["digest"]  # the salt
    began = time.process_time()
    await refused(made())
    assert 0.005 < time.process_time() - began < 1.0  # it costs whoever tries words, and nobody else


async def test_no_two_logins_are_taken_for_each_other(made):
    await made().refused(Credentials("ab", "c"), "no")
    assert await made(Login(Credentials("a", "bc"))).credentials()


async def test_another_provider_is_not_concerned(made):
    await made().refused(GOOD, "no")
    assert await made(provider="other").credentials() == GOOD


# -- for some time --------------------------------------------------------------------------------


async def test_a_locked_login_is_free_after_its_time(made, clock):
    await made().refused(GOOD, "HTTP 429", clock.wall() + 900)
    clock.advance(60)
    error = await refused(made(), Transient)
    assert error.retry_after == pytest.approx(840)
    assert "14 minutes" in str(error)
    assert "HTTP 429" in str(error)
    clock.advance(840)
    assert await made().credentials() == GOOD


@pytest.mark.parametrize(("seconds", "said"), [(1, "1 s"), (119, "119 s"), (120, "2 minutes"), (7200, "2 hours")])
async def test_the_time_to_wait_in_words(made, clock, seconds, said):
    await made().refused(GOOD, "no", clock.wall() + seconds)
    assert f"for {said} more" in str(await refused(made(), Transient))


async def test_it_does_not_lock_longer_than_a_day_whatever_the_provider_says(made, clock):
    await made().refused(GOOD, "no", clock.wall() + 1e9)
    assert (await refused(made(), Transient)).retry_after == pytest.approx(86400)


async def test_who_meets_a_lock_again_and_again_waits_longer_each_time_also_over_restarts(made, clock):
    waits = []
    for _ in range(8):
        await made().refused(GOOD, "HTTP 429", clock.wall() + 60)
        waits.append((await refused(made(), Transient)).retry_after)
        clock.advance(waits[-1])
        assert await made().credentials() == GOOD
    assert waits == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600])
    clock.advance(3 * 3600)
    await made().refused(GOOD, "HTTP 429", clock.wall() + 60)
    assert (await refused(made(), Transient)).retry_after == pytest.approx(60)


async def test_a_clock_that_went_back_does_not_lock_for_ever(made, clock):
    await made().refused(GOOD, "no", clock.wall() + 900)
    clock._wall -= 5 * 365 * 86400
    assert (await refused(made(), Transient)).retry_after == pytest.approx(900)
    clock.advance(450)
    assert (await refused(made(), Transient)).retry_after == pytest.approx(450)
    clock.advance(451)
    assert await made().credentials() == GOOD


async def test_a_clock_that_goes_right_again_ends_it(made, clock):
    clock._wall = 0.0
    await made().refused(GOOD, "no", 900.0)
    clock._wall = 1_700_000_000.0
    assert await made().credentials() == GOOD


# -- trouble with the file ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        '{"salt": 7, "refused": 7}',
        '{"salt": "00", "refused": [{}]}',
        '{"salt": "zz", "refused": [null]}',
    ],
)
async def test_a_damaged_file_is_one_more_try_and_no_loop(made, directory, text):
    await made().refused(GOOD, "no")
    path = directory / f"{PLACE}.json"
    path.write_text(text)
    account = made()
    assert await account.credentials() == GOOD
    await account.refused(GOOD, "no")
    await refused(account)
    await refused(made())


@pytest.mark.parametrize("until", ["NaN", "Infinity", "1e300", '"soon"', "[]"])
async def test_an_end_that_is_none_counts_as_damaged(made, directory, until):
    await made().refused(GOOD, "no")
    path = directory / f"{PLACE}.json"
    path.write_text(path.read_text().replace("null", until))
    assert await made().credentials() == GOOD


async def test_a_disk_that_takes_nothing_is_no_loop_either(made, directory):
    class Full(FileStore):
        def save(self, name, value):
            raise Unavailable("saving", "No space left on device")

    account = made(store=Full(directory))
    await account.refused(GOOD, "no")
    await refused(account)
    # The control: another object knows nothing of it, since nothing could be written.
    assert await made().credentials() == GOOD


# -- where it is found ----------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Writes the account into one of its places; nothing is anywhere to begin with."""
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    (tmp_path / "credentials").mkdir()
    secrets_directory().mkdir(parents=True, mode=0o700)
    kept = {}

    def get(name, doing, way_out):
        if "error" in kept:
            raise kept["error"](doing, "it is so", way_out)
        return kept.get(name)

    monkeypatch.setattr(keyrings, "get", get)

    def put(place, text):
        if place == "keyring":
            kept["account-pia"] = text
        elif place == "error":
            kept["error"] = text
        else:
            path = (
                secrets_directory() / "account-pia" if place == "file" else tmp_path / "credentials/vpnpf-account-pia"
            )
            path.touch(0o600)
            path.write_text(text)

    return put


def test_the_first_place_that_has_it_counts(places):
    for place in ("keyring", "file", "credential"):
        places(place, f"{place}\npassword\n")
        assert secret_places.read_account("pia").startswith(f"{place}\n")


def lacking():
    with pytest.raises(Misconfigured) as caught:
        secret_places.read_account("pia")
    return f"{caught.value} ({caught.value.hint})"


def test_without_any_the_next_step_is_named(places, monkeypatch):
    said = lacking()
    assert "nobody has logged in" in said
    assert said.endswith("(vpnpf login pia)")
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    assert lacking().endswith("(vpnpf login pia --store file)")


def test_without_a_keyring_it_is_the_same(places, monkeypatch):
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS")
    places("error", keyrings.NoKeyring)
    assert "nobody has logged in" in lacking()


def test_a_keyring_that_is_locked_is_not_taken_for_an_empty_one(places):
    places("error", keyrings.KeyringShut)
    said = lacking()
    assert "nobody has logged in" not in said
    assert "--store file" in said


def test_a_file_that_others_may_read_is_refused_and_not_passed_over(places):
    places("keyring", "u\np")
    places("file", "u\np")
    (secrets_directory() / "account-pia").chmod(0o644)
    assert "0644" in lacking()


def test_without_systemd_nothing_is_looked_for_there(places, monkeypatch):
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    places("keyring", "u\np")
    assert secret_places.read_account("pia") == "u\np"
