"""`vpnpf status`: what it says of the files that a run keeps, and with which status it ends."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import START, World
from vpnpf.cli import status_reading
from vpnpf.cli.main import run_command_line
from vpnpf.cli.policy_standing import settings_of
from vpnpf.control import dialing
from vpnpf.core.serialise import state_json, time_of
from vpnpf.core.spans import span
from vpnpf.core.units import size
from vpnpf.core.view import view
from vpnpf.errors import ConfigError
from vpnpf.model import FailureKind, Phase, Problem, Use
from vpnpf.observers.status_file import document

READY = view(World().ready().machine)
GONE = 2**22 + 1
"""More than any process has as its number."""


@pytest.fixture
def directory(tmp_path, monkeypatch):
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(status_reading, "SYSTEM", tmp_path / "nowhere")
    monkeypatch.setattr(dialing, "SYSTEM", tmp_path / "nowhere")
    return tmp_path


@pytest.fixture
def write(directory):
    """Keep a state as a run does that wrote it `ago` seconds ago."""

    def do(state=READY, *, ago=0.0, **more):
        offset = time.time() - START - ago
        value = {**document(state, START, offset), **more}
        (directory / f"status-{state.profile}.json").write_text(json.dumps(value))
        return offset

    return do


@pytest.fixture
def status(capsys):
    def do(*arguments):
        code = run_command_line(["status", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return do


def test_a_ready_profile(status, write):
    write()
    code, out, err = status("home")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("home (")
    assert "READY: the port is open, and kept, for" in lines[0]
    assert lines[1].startswith(f"  tunnel {READY.tunnel.interface} (")
    assert "forward torrent: port 40000 (tcp and udp) at 198.51.100.7, renewed in" in lines[2]
    names = [line.split()[0] for line in lines[3:9]]
    assert names == ["tunnel", "lease", "firewall", "client", "listening", "reachable"]
    assert "yes" in lines[4]
    assert lines[8].split()[1:] == ["-", "not", "looked", "at"] or " ago" in lines[8]


def test_where_a_tunnel_goes_that_the_provider_made(status, write):
    write(replace(READY, tunnel=replace(READY.tunnel, plan=replace(READY.tunnel.plan, place="Here (one)"))))
    assert f" to Here (one), {READY.tunnel.plan.endpoint}: " in status()[1]


def test_the_table_is_aligned(status, write):
    write()
    rows = status()[1].splitlines()[3:9]
    ends = {row.index(" ago") + 4 for row in rows if " ago" in row}
    ends |= {row.index("not looked at") + 13 for row in rows if "not looked at" in row}
    assert len(ends) == 1


def test_json_is_what_events_print(status, write):
    offset = write()
    code, out, err = status("--json")
    assert (code, err) == (0, "")
    event = {"time": time_of(START, offset), "event": "state", **state_json(READY, offset)}
    assert out == json.dumps(event, separators=(",", ":"), ensure_ascii=False) + "\n"


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.READY])
def test_what_runs_but_is_not_ready(status, write, phase):
    write(replace(READY, phase=phase, tunnel=None))
    code, out, _ = status()
    assert code == 75
    assert str(phase) in out.lower()
    assert "no tunnel" in out


def test_problems_have_their_hints(status, write):
    problem = Problem("asking 10.2.0.1", FailureKind.TRANSIENT, "no\x1banswer", "look", START - 5, 3, START + 9)
    write(replace(READY, problems=(problem,)))
    out = status()[1]
    assert "problem: asking 10.2.0.1: no?answer (3 times, since 5 s; tried again in 9 s)\n    hint: look" in out


def test_openings_that_nobody_uses_and_ports_that_go_on(status, write):
    uses = (
        Use("22/tcp", 0.0, START - 8 * 86400, 7 * 86400.0, reported=True, closed=True),
        Use("80/tcp", 0.0, None, 7 * 86400.0, reported=True),
        Use("443/tcp", 0.0, START, 5.0),
    )
    (forward,) = READY.forwards
    far = replace(forward, spec=replace(forward.spec, target="192.168.77.5"), listen_port=8080)
    write(replace(READY, uses=uses, forwards=(far,)))
    out = status()[1]
    assert "goes on to 192.168.77.5:8080" in out
    assert "unused: 22/tcp: nobody came in for 7 d 0 h (last 8 d 0 h ago); closed, `vpnpf policy open` opens" in out
    assert "unused: 80/tcp: nobody came in for 7 d 0 h (never)\n" in out
    assert "443" not in out


@pytest.mark.parametrize(("ago", "more"), [(61.0, {}), (2.0, {"pid": GONE}), (2.0, {"pid": 0}), (2.0, {"pid": -1})])
def test_what_was_last_known_is_said_to_be_that(status, write, ago, more):
    write(ago=ago, **more)
    code, out, _ = status()
    assert code == 69
    assert out.startswith(f"vpnpf is not running: this is what was last known, {ago:.0f} s ago\n")
    assert "`sudo vpnpf unlock` gives the network back" in out.splitlines()[1]
    code, out, err = status("--json")
    assert code == 69
    assert "not running" in err
    assert json.loads(out)["phase"] == "ready"


def test_of_several_profiles_the_worst_counts(status, write):
    write()
    write(replace(READY, profile="work", phase=Phase.BLOCKED))
    code, out, _ = status()
    assert code == 75
    assert "home (" in out
    assert "\n\nwork (" in out
    assert status("home")[0] == 0
    write(replace(READY, profile="away"), pid=GONE)
    assert status()[0] == 69
    assert len(status("--json")[1].splitlines()) == 3


@pytest.mark.parametrize(("arguments", "said"), [([], "no profile is running"), (["x"], "profile x is not running")])
def test_nothing_runs(status, write, arguments, said):
    if arguments:
        write()
    code, out, err = status(*arguments)
    assert (code, out) == (69, "")
    assert said in err
    assert "hint: start it with: vpnpf up" in err


def test_a_file_that_nobody_can_read_is_named(status, directory):
    for text in ("{", "[]", "{}", '{"time": 5}', "[" * 100_000):
        (directory / "status-home.json").write_text(text)
        code, _, err = status()
        assert code == 69
        assert "status-home.json cannot be read" in err


def test_what_a_later_version_adds_is_passed_over(status, write):
    write(more={"a": 1}, phase="dancing")
    code, out, _ = status()
    assert code == 75
    assert "dancing" in out


@pytest.mark.parametrize("barred", ["directory", "file"])
def test_without_the_right_to_look(status, write, monkeypatch, barred):
    write()
    name = "iterdir" if barred == "directory" else "read_bytes"

    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, name, refuse)
    code, out, err = status()
    assert (code, out) == (77, "")
    assert "Permission denied" in err
    assert "as root" in err


def test_a_process_of_another_user_lives(monkeypatch):
    def refuse(*_):
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert status_reading._lives(5)


@pytest.mark.parametrize(
    ("seconds", "said"), [(-3, "0 s"), (119, "119 s"), (125, "2 min"), (7300, "2 h 1 min"), (180_000, "2 d 2 h")]
)
def test_spans(seconds, said):
    assert span(seconds) == said


@pytest.mark.parametrize(("octets", "said"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (2**50, "1024.0 TiB")])
def test_sizes(octets, said):
    assert size(octets) == said


def test_the_only_one_that_runs_needs_no_configuration(write, tmp_path):
    path = tmp_path / "config.toml"
    path.write_text("[profiles")
    with pytest.raises(ConfigError):
        settings_of(None, path)
    write()
    write(replace(READY, profile="crashed"), pid=GONE)
    assert settings_of(None, path) == ("home", None)
    write(replace(READY, profile="work"))
    with pytest.raises(ConfigError):
        settings_of(None, path)
