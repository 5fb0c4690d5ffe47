"""`vpnpf report`: everything that helps, nothing that hurts, and seen before it is written."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import time

import click
import pytest
from msgspec.structs import replace

from tests.io.control_world import Serving
from tests.unit.engine_world import START, World
from vpnpf import __version__
from vpnpf import report as report_text
from vpnpf.cli import status_reading
from vpnpf.cli.main import run_command_line
from vpnpf.control.peers import Role
from vpnpf.control.routes import Route
from vpnpf.core.redaction import redacted
from vpnpf.core.view import view
from vpnpf.io.process import Completed
from vpnpf.model import Entry, FailureKind, Problem
from vpnpf.observers.status_file import document
from vpnpf.report import known

KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
CANARIES = (
    KEY,
    "hunter-two",
    "quentinq",
    "canary@example.org",
    "203.0.113.77",
    "2001:db8:77::1",
    "de:ad:be:ef:77:01",
    "1234567812345678",
    "deadbeef00deadbeef",
    "canaryhost",
    "canaryhome",
)
EVERYTHING = f"{' '.join(CANARIES[:-1])} http://{CANARIES[2]}:{CANARIES[1]}@x/ /home/canaryhome/y"
CONFIG = """
[profiles.home]
provider = "natpmp"
tunnel = { type = "wireguard", config = "203.0.113.77.conf" }
[profiles.home.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
username = "quentinq"
password = { file = "qb.password" }
"""
RULES = (
    f'table inet vpnpf {{\n\tchain in {{\n\t\tip daddr 203.0.113.77 udp dport 51820 accept comment "{KEY}"\n\t}}\n}}\n'
)


@pytest.fixture
def config(tmp_path):
    directory = tmp_path / "etc"
    directory.mkdir()
    (directory / "203.0.113.77.conf").write_text("[Interface]\n")
    (directory / "qb.password").write_text("hunter-two\n")
    (directory / "qb.password").chmod(0o600)
    (directory / "config.toml").write_text(CONFIG)
    return str(directory / "config.toml")


@pytest.fixture
def runtime(tmp_path, monkeypatch):
    directory = tmp_path / "run"
    directory.mkdir()
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(directory))
    monkeypatch.setattr(status_reading, "SYSTEM", directory / "nowhere")
    monkeypatch.setattr(socket, "gethostname", lambda: "canaryhost.example.org")
    monkeypatch.setattr(report_text.os, "geteuid", lambda: 0)

    async def run(command):
        return Completed(0, RULES if "list" in command else f"{command[0]} v1.0.6 (x)\n", "")

    monkeypatch.setattr(report_text, "run", run)
    world = World().ready()
    ready = view(world.machine)
    forward = ready.forwards[0]
    proofs = replace(forward.proofs, lease=replace(forward.proofs.lease, evidence=EVERYTHING))
    state = replace(
        ready,
        tunnel=replace(ready.tunnel, plan=replace(ready.tunnel.plan, place="Canaryhome")),
        forwards=(replace(forward, proofs=proofs),),
        problems=(Problem(f"asking {EVERYTHING}", FailureKind.TRANSIENT, EVERYTHING, EVERYTHING, START),),
        timeline=(Entry(START, "port-lost", "port 40000 is lost", EVERYTHING, "torrent"),),
    )
    text = json.dumps(document(state, START, time.time() - START))
    (directory / "status-home.json").write_text(text)
    return directory


@pytest.fixture
def report(capsys, runtime):
    del runtime

    def do(*arguments):
        code = run_command_line(["report", *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return do


def test_it_tells_what_helps(report, config):
    code, out, err = report("--config", config)
    assert (code, err) == (0, "")
    for said in (
        f"vpnpf {__version__}\n",
        "nft: nft v1.0.6 (x)",
        "profile home: natpmp over wireguard",
        "READY: the port is open",
        "torrent: port 40000 is lost",
        "udp dport 51820 accept",
        "== timeline\n",
    ):
        assert said in out


def test_no_canary_survives(report, config):
    out = report("--config", config)[1].lower()
    for canary in CANARIES:
        assert canary not in out
        assert canary.lower() not in out


def test_an_address_is_the_same_in_all_sections(report, config):
    out = report("--config", config)[1]
    name = out.partition("ip daddr ")[2].partition(" udp")[0]
    assert name.startswith("<address ")
    assert out.count(name) >= 4


def test_without_a_configuration_and_a_run_it_says_why(report, runtime, tmp_path):
    (runtime / "status-home.json").unlink()
    code, out, _ = report("--config", str(tmp_path / "none.toml"))
    assert code == 0
    assert "none.toml" in out
    assert "no profile is running" in out


async def test_a_run_is_asked_and_what_it_says_is_redacted_for_who_asks(report, config, runtime):
    """With --config it is gathered here: that is the configuration that is meant."""
    asked = []

    async def said(body, role):
        asked.append(role)
        return "== of the run\nhost canaryhost, <address 1>, <user>\n"

    async with Serving(runtime, {("GET", "/v1/report"): Route(Role.OWNER, said)}) as made:
        for arguments in ((), ("home",)):
            code, out, err = await asyncio.to_thread(report, *arguments)
            assert (code, out, err) == (0, "== of the run\nhost <host>, <address 1>, <user>\n", "")
        assert "== versions" in (await asyncio.to_thread(report, "--config", config))[1]
        assert len(asked) == 2
        # One that refuses is no reason to have no report.
        made.server._app._routes = {}
        assert "== versions" in (await asyncio.to_thread(report, "home"))[1]


def test_what_was_redacted_stays_so(report, config):
    out = report("--config", config)[1]
    assert redacted(out, known(())) == out


def test_without_root_there_are_no_rules(report, config, monkeypatch):
    monkeypatch.setattr(report_text.os, "geteuid", lambda: 1000)
    assert "not listed: that takes root" in report("--config", config)[1]


def test_the_file_is_what_was_seen(report, config, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(click, "confirm", lambda text, **_: asked.append(text) or True)
    output = tmp_path / "report.txt"
    code, out, err = report("home", "--config", config, "--output", str(output))
    assert (code, out) == (0, "")
    assert asked == [f"Write this to {output}?"]
    assert err == output.read_text() + f"written to {output}\n"
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_a_no_writes_nothing(report, config, tmp_path, monkeypatch):
    monkeypatch.setattr(click, "confirm", lambda *_, **__: False)
    output = tmp_path / "report.txt"
    code, _, err = report("--config", config, "--output", str(output))
    assert code == 1
    assert "== versions" in err
    assert not output.exists()


def test_a_script_says_yes_before(report, config, tmp_path, monkeypatch):
    monkeypatch.setattr(click, "confirm", pytest.fail)
    output = tmp_path / "report.txt"
    assert report("--config", config, "--output", str(output), "--yes")[0] == 0
    assert output.exists()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_nothing_is_overwritten(report, config, tmp_path, kind):
    output = tmp_path / "report.txt"
    if kind == "file":
        output.write_text("mine")
    else:
        output.symlink_to(tmp_path / "elsewhere")
    code, _, err = report("--config", config, "--output", str(output), "--yes")
    assert code == 64
    assert "is there already" in err
    assert kind == "link" or output.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()


def test_a_directory_that_is_not_there(report, config, tmp_path):
    code, _, err = report("--config", config, "--output", str(tmp_path / "no" / "report.txt"), "--yes")
    assert code == 69
    assert "hint: name another file" in err


def test_rules_that_are_not_there(report, config, monkeypatch):
    async def run(command):
        return Completed(1, "", "Error: No such file or directory\nlist table inet vpnpf\n     ^^^^^\n")

    monkeypatch.setattr(report_text, "run", run)
    out = report("--config", config)[1]
    assert "== rules\nnone here: nft says: Error: No such file or directory\n" in out
