"""`vpnpf exposure`, and the question before ports are opened: real sockets of this process."""

import contextlib
import json
import os
import socket
import sys

import click
import pytest

from tests.unit.test_cli import TUNNEL
from vpnpf.cli import exposure as module
from vpnpf.cli import status_reading
from vpnpf.cli.exposure import agreed, before, look
from vpnpf.cli.main import run_command_line
from vpnpf.config import load
from vpnpf.core.exposure import Finding, Severity
from vpnpf.errors import PermissionDenied, Unavailable, UsageError
from vpnpf.model import Opening, PolicyMode, PortPolicy, Protocol

CONFIG = """
[profiles.home]
provider = "natpmp"
tunnel = {{ type = "wireguard", config = "home.conf" }}
policy = {{ {policy} }}
[profiles.home.forwards.torrent]
client = "qb"
[profiles.home.forwards.game]
internal_port = {game}
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
"""
DANGER = Finding(Severity.DANGER, "redis", "a database\x1b[2J", "why", "what to do", ("6379/tcp",), "redis", "a source")
NOTE = Finding(Severity.NOTE, "linkable", "it answers", "why", "what to do")


@pytest.fixture(autouse=True)
def nothing_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    monkeypatch.setattr(status_reading, "SYSTEM", tmp_path / "nowhere")


@pytest.fixture
def config(tmp_path):
    def write(policy, game=25565):
        (tmp_path / "home.conf").write_text(TUNNEL)
        path = tmp_path / "config.toml"
        path.write_text(CONFIG.format(policy=policy, game=game))
        return path

    return write


@pytest.fixture
def run(capsys):
    def do(*arguments):
        status = run_command_line([str(each) for each in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return do


@pytest.fixture
def waiting():
    """A socket of ours on an address; its port."""
    with contextlib.ExitStack() as stack:

        def make(address="0.0.0.0"):
            return stack.enter_context(socket.create_server((address, 0))).getsockname()[1]

        yield make


def test_an_open_port_is_told_with_its_program(run, config, waiting):
    port = waiting()
    status, out, err = run("exposure", "--config", config(f'allow = ["{port}/tcp"]'))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("home: allow-list, ")
    assert f"  {port}/tcp: 1 listening" in lines
    (line,) = [each for each in lines if each.startswith(f"    {port}/tcp on any IPv4 address: ")]
    assert f"pid {os.getpid()}, user " in line
    assert line.endswith("; also beside the tunnel")
    assert any(each.startswith("note: it also answers on the LAN") for each in lines)
    assert not any("game" in each for each in lines), "the list does not name forwarded ports"


def test_what_only_this_machine_reaches_is_not_told(run, config, waiting):
    """The same as above, but for the address."""
    port = waiting("127.0.0.1")
    status, out, _ = run("exposure", "--config", config(f'allow = ["{port}/tcp"]'))
    assert (status, f"  {port}/tcp: nothing listens" in out.splitlines()) == (0, True)
    assert "nothing to warn of" in out


def test_a_forward_is_told_by_its_local_port(run, config, waiting):
    port = waiting()
    status, out, _ = run("exposure", "--config", config('allow = ["forwarded"]', game=port))
    assert status == 0
    assert f"  {port}/tcp (forward game): 1 listening" in out.splitlines()
    assert "note: home is not running: no port is held now" in out


def test_json_says_the_same(run, config, waiting):
    port = waiting()
    status, out, _ = run("exposure", "home", "--json", "--config", config('mode = "open-all"'))
    said = json.loads(out)
    assert (status, said["mode"]) == (1, "open-all")
    assert said["findings"][0].keys() == {"severity", "kind", "ports", "what", "why", "do", "source"}
    whole = next(each for each in said["open"] if each["protocol"] == "tcp" and each["why"] == "open-all")
    (ours,) = [each for each in whole["listeners"] if each["port"] == port]
    assert (ours["pid"], ours["address"], ours["beside_the_tunnel"]) == (os.getpid(), "0.0.0.0", True)
    assert ours["running_since"] is not None


def test_block_all_opens_nothing(run, config):
    assert run("exposure", "--config", config('mode = "block-all"'))[:2] == (
        0,
        "home: block-all, nothing is open\n\nnote: home is not running: no port is held now\n",
    )


def test_check_config_has_a_word_about_open_all(run, config):
    assert "note: anybody can reach" in run("check-config", "--config", config('mode = "open-all"'))[1]
    assert "note: anybody can reach" not in run("check-config", "--config", config('mode = "block-all"'))[1]


# -- before a change ------------------------------------------------------------------------------

OLD = PortPolicy(PolicyMode.BLOCK_ALL)


def opening(port):
    return PortPolicy(openings=(Opening(port, port, Protocol.TCP),))


def test_before_a_change_the_new_ports_are_looked_at(config, waiting):
    port = waiting()
    settings = load(config('mode = "block-all"')).profile(None)
    told = before(settings, OLD, opening(port))
    assert [each.kind for each in told if f"{port}/tcp" in each.ports] == ["linkable"]
    assert before(settings, opening(port), OLD) == ()
    assert any(each.kind == "open-all" for each in before(settings, OLD, PortPolicy(PolicyMode.OPEN_ALL)))


def test_without_a_configuration_the_question_is_asked_all_the_same():
    told = before(None, OLD, PortPolicy(PolicyMode.OPEN_ALL))
    assert [each.kind for each in told] == ["open-all", "unseen"]
    assert before(None, opening(8000), OLD) == ()


async def test_it_can_be_asked_inside_of_a_loop(config, waiting):
    settings = load(config('mode = "block-all"')).profile(None)
    assert before(settings, OLD, opening(waiting()))


def test_a_machine_that_cannot_be_looked_at_is_a_warning(config, monkeypatch):
    def unseen(*_arguments):
        raise Unavailable("looking", "no netlink", "allow it")

    monkeypatch.setattr(module, "look", unseen)
    settings = load(config('mode = "block-all"')).profile(None)
    told = before(settings, OLD, opening(8000))
    assert [(each.severity, each.kind, each.todo) for each in told] == [(Severity.WARNING, "unseen", "allow it")]
    assert "looking: no netlink" in told[0].what
    assert before(settings, opening(8000), OLD) == ()
    assert before(settings, PortPolicy(PolicyMode.OPEN_ALL), opening(8000)) == ()
    assert [each.kind for each in before(settings, OLD, PortPolicy(PolicyMode.OPEN_ALL))] == ["open-all", "unseen"]


def test_a_namespace_that_is_not_there_is_told(config):
    path = config('mode = "block-all"')
    path.write_text(path.read_text().replace('config = "home.conf"', 'config = "home.conf", namespace = true'))
    settings = load(path).profile(None)
    told = before(settings, OLD, PortPolicy(PolicyMode.OPEN_ALL))
    assert [each.kind for each in told] == ["open-all", "unseen"]
    with pytest.raises((Unavailable, PermissionDenied), match="looking for what the internet can reach"):
        look(settings, (OLD,))


def asked(monkeypatch, answer):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(click, "confirm", lambda *_arguments, **_more: answer)


@pytest.mark.parametrize("answer", [True, False])
def test_on_a_terminal_the_person_decides(monkeypatch, capsys, answer):
    asked(monkeypatch, answer)
    assert agreed([DANGER, NOTE]) is answer
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "danger: a database?[2J on 6379/tcp: redis",
        "  why: why (a source)",
        "  do: what to do",
        "note: it answers",
        "  why: why",
        "  do: what to do",
    ]


def test_without_a_terminal_it_is_refused_with_a_hint(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    with pytest.raises(UsageError) as refused:
        agreed([DANGER])
    assert "--yes" in refused.value.hint
    assert refused.value.exit_code == 64
    assert "danger: a database" in capsys.readouterr().err


def test_yes_and_notes_ask_nobody(monkeypatch, capsys):
    monkeypatch.setattr(click, "confirm", lambda *_arguments, **_more: pytest.fail("it asked"))
    assert agreed([DANGER], yes=True)
    assert agreed([NOTE])
    assert agreed([])
    assert capsys.readouterr().err.count("note:") == 1
