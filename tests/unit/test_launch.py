"""Starting a profile in the background: which way, and what is said of one that ends at once. See also tests/system."""

from __future__ import annotations

import os
import sys
import threading
import time

import pytest

import vpnpf.launch
from vpnpf import launch as module
from vpnpf.control import dialing
from vpnpf.errors import ConfigError, PermissionDenied, Transient, Unavailable, UsageError
from vpnpf.io import privileges
from vpnpf.launch import Launch, Launched, Way, bring_up, launch, plan_launch, wait_for_answer
from vpnpf.store import InstanceLock


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(dialing, "SYSTEM", tmp_path / "nowhere")
    monkeypatch.setattr(module, "SYSTEMD", tmp_path)
    monkeypatch.setattr(module, "OF_THE_UNIT", tmp_path / "config.toml")
    monkeypatch.setattr(module, "places", lambda: (tmp_path / "home/config.toml", tmp_path / "config.toml"))
    monkeypatch.setattr(module, "find", lambda program: f"/bin/{program}")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "config.toml").touch()
    return tmp_path


@pytest.fixture
def unit(monkeypatch):
    said = {"cat": ["[Unit]"], "show": ["activating"]}
    monkeypatch.setattr(module, "_output", lambda command: said.get(command[1], [command[0]]))
    return said


def test_our_unit_where_systemd_has_it(unit):
    plan = plan_launch("home")
    assert plan.way is Way.UNIT
    assert plan.command == ("/bin/systemctl", "start", "--no-block", "vpnpf@home.service")
    assert plan.said == "journalctl -u vpnpf@home"


@pytest.mark.parametrize("why", ["no systemd", "no unit", "another configuration", "one of the user's own"])
def test_a_process_of_its_own_elsewhere(unit, place, monkeypatch, why):
    config = None
    if why == "no systemd":
        monkeypatch.setattr(module, "SYSTEMD", place / "none")
    elif why == "no unit":
        unit["cat"] = []
    elif why == "another configuration":
        config = place / "other.toml"
    else:
        (place / "home").mkdir()
        (place / "home/config.toml").touch()
    plan = plan_launch("home", config)
    assert plan.way is Way.DETACHED
    assert plan.command[:5] == (sys.executable, "-P", "-m", "vpnpf", "run")
    assert plan.log == place / "state/run-home.log"
    assert plan.said == str(plan.log)
    assert module.Path(plan.command[-1]).is_absolute()


def test_a_relative_configuration_is_found_from_anywhere(unit, place, monkeypatch):
    monkeypatch.chdir(place)
    (place / "x.toml").touch()
    assert plan_launch("home", module.Path("x.toml")).command[-1] == str(place / "x.toml")


@pytest.mark.parametrize("config", [None, "my config.toml"])
def test_who_is_not_root_gets_the_line_that_does_it(unit, place, monkeypatch, config):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(privileges, "has", lambda _: False)
    with pytest.raises(PermissionDenied, match="it takes root") as caught:
        plan_launch("home", place / config if config else None)
    more = f" --config '{place}/my config.toml'" if config else ""
    assert caught.value.hint == f"do it with: sudo vpnpf up home{more}"


def test_who_has_the_privilege_needs_no_root_for_a_process_of_its_own(unit, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(privileges, "has", lambda capability: capability == privileges.NET_ADMIN)
    with pytest.raises(PermissionDenied):  # systemd would not do it for him
        plan_launch("home")
    unit["cat"] = []
    assert plan_launch("home").way is Way.DETACHED


@pytest.fixture
def started(place):
    """Start some Python in the place of vpnpf."""
    found = []

    def do(text):
        log = place / "state/run-home.log"
        found.append(launch(Launch("home", Way.DETACHED, (sys.executable, "-c", text), log)))
        return found[-1]

    yield do
    for each in found:
        each._process.kill()
        each._process.wait()


def test_its_last_words_are_said_and_not_those_of_the_last_time(started, place):
    for words in ("before", "now"):
        launched = started(f"import sys; sys.exit('error: {words}')")
        said = []
        with pytest.raises(Unavailable, match="it ended at once, with status 1") as caught:
            wait_for_answer(launched, said.append)
        assert said == [f"error: {words}"]
        assert caught.value.hint.endswith("run-home.log")
    log = place / "state/run-home.log"
    assert log.read_text() == "error: before\nerror: now\n"
    assert log.stat().st_mode & 0o777 == 0o600


def test_it_is_in_a_session_of_its_own_with_nothing_of_ours(started, monkeypatch):
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    text = "import os; print(os.getsid(0) == os.getpid(), os.getcwd(), 'NOTIFY_SOCKET' in os.environ, oct(os.umask(0)))"
    launched = started(text)
    said = []
    with pytest.raises(Unavailable):
        wait_for_answer(launched, said.append)
    assert said == ["True / False 0o77"]


def test_a_link_in_the_place_of_the_log_is_not_followed(started, place):
    (place / "state").mkdir(mode=0o700)
    (place / "state/run-home.log").symlink_to(place / "precious")
    with pytest.raises(Unavailable, match=r"run-home\.log"):
        started("pass")
    assert not (place / "precious").exists()


def test_a_log_of_a_megabyte_is_put_aside(started, place):
    (place / "state").mkdir(mode=0o700)
    (place / "state/run-home.log").write_bytes(b"x" * (1024 * 1024 + 1))
    started("pass")._process.wait()
    assert (place / "state/run-home.log").read_bytes() == b""
    assert (place / "state/run-home.log.old").stat().st_size > 1024 * 1024


def test_the_waiting_can_be_ended(started):
    launched = started("import time; time.sleep(60)")
    enough = threading.Event()
    threading.Timer(0.1, enough.set).start()
    before = time.monotonic()
    with pytest.raises(Transient, match="does not answer yet"):
        wait_for_answer(launched, lambda _: None, enough)
    assert time.monotonic() - before < 5
    assert launched.ended() == ""  # it goes on


def test_what_it_said_is_told_when_it_never_answers(started, monkeypatch):
    monkeypatch.setattr(vpnpf.launch, "_ANSWERS", 1.0)
    launched = started("import time; print('problem: no control socket', flush=True); time.sleep(60)")
    said = []
    with pytest.raises(Transient, match="does not answer yet"):
        wait_for_answer(launched, said.append)
    assert said == ["problem: no control socket"]


def test_what_systemd_says_of_a_unit_that_failed(unit, monkeypatch):
    launched = Launched(plan_launch("home"), None, 0)
    assert launched.ended() == ""
    unit["show"] = ["failed"]
    monkeypatch.setattr(module.time, "monotonic", lambda now=time.monotonic: now() + 2)
    assert "it failed" in launched.ended()
    assert launched.last_words() == ["journalctl"]


@pytest.mark.parametrize(
    ("text", "said"),
    [("[profiles.home]\nprovider = 'router'\ntunnel.type = 'none'\nforwards.game = {}\n", "home"), ("x", "")],
)
def test_nothing_is_started_for_a_profile_that_is_not_configured(place, monkeypatch, text, said):
    config = place / "mine.toml"
    config.write_text(text)
    monkeypatch.setattr(module, "launch", lambda _: pytest.fail("it was started"))
    with pytest.raises((UsageError, ConfigError)) as caught:
        bring_up("hone", config, lambda _: pytest.fail("nothing has begun"))
    assert said in caught.value.hint


def test_never_two(unit, place, monkeypatch):
    """A run that has the profile and does not answer is not run beside."""
    monkeypatch.setattr(module, "_ANSWERS", 0.2)
    monkeypatch.setattr(module, "launch", lambda _: pytest.fail("a second one was started"))
    said = []
    with (
        InstanceLock(place / "run", "profile-home", "runs home"),
        pytest.raises(Transient, match="has the profile and does not answer") as caught,
    ):
        bring_up("home", None, said.append)
    assert str(os.getpid()) in caught.value.cause
    assert str(os.getpid()) in said[0]


@pytest.mark.parametrize("name", ["../../x", "*", "-H", "a b", "a.service", "", "x\n", "\x1b[31mx", "x" * 33])
def test_what_is_no_name_starts_nothing(unit, place, name):
    """It would be part of the path of a log, and of the name of a unit, for which systemctl takes patterns too."""
    before = sorted(place.parent.rglob("*"))
    for call in (lambda: plan_launch(name), lambda: bring_up(name, None, print)):
        with pytest.raises(UsageError) as caught:
            call()
        assert str(caught.value).isprintable()
    assert sorted(place.parent.rglob("*")) == before
    assert plan_launch("home").profile == "home"  # the control
