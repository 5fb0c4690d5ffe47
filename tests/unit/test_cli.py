"""The command line: what it says, on which stream, with which status, and what it loads for that."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from vpnpf import __version__, plugins
from vpnpf.cli import main as module
from vpnpf.cli.main import COMMANDS, run_command_line
from vpnpf.errors import ConfigError, Misconfigured, Mistake, Unavailable, UsageError

ROOT = Path(__file__).parents[2]
KEY = "yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk="
TUNNEL = f"""
[Interface]
PrivateKey = {KEY}
Address = 10.2.0.2/32
DNS = 10.2.0.1
[Peer]
PublicKey = {KEY}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 192.0.2.1:51820
"""
CONFIG = """
[profiles.home]
provider = "natpmp"
tunnel = { type = "wireguard", config = "home.conf" }
[profiles.home.forwards.torrent]
client = "qb"
[profiles.home.forwards.game]
internal_port = 25565
protocols = ["udp"]
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
"""


@pytest.fixture
def config(tmp_path):
    (tmp_path / "home.conf").write_text(TUNNEL)
    path = tmp_path / "config.toml"
    path.write_text(CONFIG)
    return path


@pytest.fixture
def run(capsys):
    """Run a command in this process: (status, stdout, stderr)."""

    def do(*arguments):
        status = run_command_line([str(argument) for argument in arguments])
        said = capsys.readouterr()
        return status, said.out, said.err

    return do


def python(code, *arguments, **more):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], check=False, capture_output=True, text=True, **more
    )


# -- what people ask first ------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--version"], ["--version", "run"]])
def test_the_version(arguments):
    done = subprocess.run([sys.executable, "-m", "vpnpf", *arguments], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"vpnpf {__version__}\n", "")


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_lists_every_command_without_loading_one(run, option):
    status, out, err = run(option)
    assert (status, err) == (0, "")
    for name, (_, _, summary) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(summary)}", out, re.MULTILINE)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_that_says_what_the_list_says(run, name):
    status, out, err = run(name, "-h")
    assert (status, err) == (0, "")
    said = " ".join(out.split())
    assert COMMANDS[name][2].removesuffix(".").split(",")[0] in said


def test_without_a_command_there_is_help_and_no_success(run):
    status, out, err = run()
    assert (status, out) == (64, "")
    assert "check-config" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["runn"], 'no command "runn"; did you mean "run"?'),
        (["chekc-config"], 'did you mean "check-config"?'),
        (["xyz"], "known: init, run, up, down"),
        (["--colour"], "No such option"),
        (["run", "--evnts"], "--events"),
        (["run", "a", "b", "a"], "a is named twice"),
        (["check-config", "--config"], "requires an argument"),
    ],
)
def test_a_wrong_command_line_names_what_is_meant(run, arguments, said):
    status, out, err = run(*arguments)
    assert (status, out) == (64, "")
    assert said in err


# -- check-config ---------------------------------------------------------------------------------


def test_a_good_configuration(run, config):
    status, out, err = run("check-config", "--config", config)
    assert (status, err) == (0, "")
    assert f"{config}: good" in out
    assert "qb (qbittorrent at http://127.0.0.1:8080)" in out
    assert "forward game: udp, local port 25565 -> announced by events" in out
    assert KEY not in out


def test_where_packets_go_and_who_may_come_in_is_said(run, config):
    config.write_text(
        CONFIG.replace("internal_port = 25565", 'to = "[fd00::5]:80"\nfrom = "203.0.113.9"\nopen = false')
        + '[profiles.home.policy]\nallow = ["plex", { port = "22/tcp", from = "2001:db8::/32" }]\n'
    )
    status, out, err = run("check-config", "--config", config)
    assert (status, err) == (0, "")
    assert "comes in: allow-list: 22/tcp from 2001:db8::/32, plex (32400/tcp)\n" in out
    assert "forward game: udp, to [fd00::5]:80, from 203.0.113.9/32, held shut -> announced by events" in out


def test_a_bad_configuration_and_a_bad_tunnel_file(run, config):
    config.write_text(CONFIG.replace('"natpmp"', '"natpnp"').replace("25565", "0"))
    status, out, err = run("check-config", "--config", config)
    assert (status, out) == (78, "")
    assert err.count("error: ") == 2
    assert f'error: {config}:3: profiles.home.provider: there is no provider "natpnp"' in err
    assert '  hint: did you mean "natpmp"?' in err

    config.write_text(CONFIG)
    (config.parent / "home.conf").write_text(TUNNEL.replace("DNS", "PostUp = reboot\nDNSS"))
    status, out, err = run("check-config", "--config", config)
    assert (status, out) == (78, "")
    assert "home.conf:5" in err
    assert KEY not in err


def test_no_configuration(run, tmp_path):
    status, out, err = run("check-config", "--config", tmp_path / "none.toml")
    assert (status, out) == (78, "")
    assert "none.toml: No such file" in err
    assert "--config" in err


def test_the_schema_is_json_and_as_the_docs_have_it(run):
    status, out, err = run("schema")
    assert (status, err) == (0, "")
    assert out == (ROOT / "docs" / "config.schema.json").read_text()


# -- lists ----------------------------------------------------------------------------------------


def test_a_broken_plugin_does_not_hide_the_others(run, monkeypatch):
    real = plugins.manifest

    def manifest(group, name):
        if name == "natpmp":
            raise Unavailable("loading natpmp", "it is broken")
        return real(group, name)

    monkeypatch.setattr(plugins, "manifest", manifest)
    for arguments in (["providers"], ["providers", "--json"]):
        status, out, err = run(*arguments)
        assert status == 0
        assert "protonvpn" in out
        assert "natpmp" in err
        assert "it is broken" in err


# -- how errors end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UsageError("choosing", "which?", "that"), 64, "error: choosing: which?\n  hint: that\n"),
        (Unavailable("looking for wg", "not there"), 69, "error: looking for wg: not there\n"),
        (Misconfigured("a", "b", "c"), 78, "error: a: b\n  hint: c\n"),
        (ConfigError((Mistake("f:1", "x", "y"), Mistake("f:2", "z"))), 78, "error: f:1: x\n  hint: y\nerror: f:2: z\n"),
        (Unavailable("a", "\x1b[2J\x07 said a gateway\n"), 69, "error: a: ?[2J? said a gateway?\n"),
        (KeyboardInterrupt(), 130, ""),
        (click.Abort(), 130, ""),
    ],
)
def test_an_error_is_told_on_stderr_with_its_status(run, monkeypatch, error, status, said):
    def fail(*arguments):
        raise error

    monkeypatch.setattr("vpnpf.cli.check.load", fail)
    assert run("check-config") == (status, "", said)


def test_a_mistake_of_ours_is_told_as_one(run, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("never thought of that")

    monkeypatch.setattr("vpnpf.cli.check.load", fail)
    status, out, err = run("check-config")
    assert (status, out) == (70, "")
    assert "RuntimeError: never thought of that" in err
    assert "VPNPF_DEBUG=1" in err
    assert "Traceback" not in err
    monkeypatch.setenv("VPNPF_DEBUG", "1")
    with pytest.raises(RuntimeError):
        run("check-config")


@pytest.mark.parametrize("arguments", ["schema", "providers", "--help", "run --help"])
def test_a_reader_that_went_away_is_no_error(arguments):
    """As `vpnpf schema | head -1`, where the reader is gone before the first line."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "vpnpf", *arguments.split()], check=False, stdout=writing, stderr=subprocess.PIPE
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_completion():
    environment = {**os.environ, "_VPNPF_COMPLETE": "bash_complete", "COMP_WORDS": "vpnpf che", "COMP_CWORD": "1"}
    done = python("from vpnpf.__main__ import main; main()", env=environment)
    assert done.stdout == "plain,check-config\n"


# -- run ------------------------------------------------------------------------------------------


def test_run_says_which_profiles_there_are(run, config):
    status, _, err = run("run", "hom", "--config", config)
    assert status == 64
    assert 'did you mean "home"?' in err
    config.write_text(CONFIG + CONFIG[: CONFIG.index("[profiles.home.f")].replace("home]", "away]"))
    config.write_text(config.read_text() + "[profiles.away.forwards.x]\n")
    status, _, err = run("run", "--config", config)
    assert status == 64
    assert "home, away" in err


def test_closed_standard_descriptors_are_not_given_to_other_files(tmp_path):
    code = """
import os, sys
from vpnpf.cli.run import _keep_standard_descriptors
for number in (0, 1, 2):
    os.close(number)
_keep_standard_descriptors()
file = open(sys.argv[1], "w")
file.write(f"{file.fileno()} {[os.readlink(f'/proc/self/fd/{number}') for number in (0, 1, 2)]}")
"""
    python(code, tmp_path / "said")
    number, _, where = (tmp_path / "said").read_text().partition(" ")
    assert int(number) > 2
    assert where == "['/dev/null', '/dev/null', '/dev/null']"


def test_open_standard_descriptors_stay_what_they_are(tmp_path):
    code = "from vpnpf.cli.run import _keep_standard_descriptors as keep; keep(); print('here')"
    assert python(code).stdout == "here\n"


# -- what is loaded for what ----------------------------------------------------------------------


def loaded(code, *arguments, **more):
    """The modules that are loaded after some code has run in a process of its own."""
    done = python(f"import sys\n{code}\nprint('\\n'.join(sys.modules))", *arguments, **more)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_the_version_loads_next_to_nothing():
    modules = loaded("sys.argv[1:] = ['--version']\nfrom vpnpf.__main__ import main\nmain()")
    assert not {"asyncio", "click", "httpx", "pydantic", "textual", "keyring", "json"} & modules
    assert {name for name in modules if name.startswith("vpnpf")} == {"vpnpf", "vpnpf.__main__"}


def test_the_list_of_commands_loads_no_command():
    modules = loaded("from vpnpf.cli.main import run_command_line\nassert run_command_line(['--help']) == 0")
    assert not {"asyncio", "pydantic", "httpx", "textual"} & modules
    assert not {name for name in modules if name.startswith(("vpnpf.cli.run", "vpnpf.config", "vpnpf.wiring"))}


PREPARE = """
import asyncio
from pathlib import Path
from vpnpf import plugins
from vpnpf.cli.run import run
from vpnpf.wiring import prepare
plugins.tunnel("wireguard").check_machine = lambda self: None
with asyncio.run(prepare("home", Path(sys.argv[1]))) as prepared:
    assert prepared.supervisor
"""


def test_a_run_loads_what_it_uses_and_nothing_else(config, tmp_path):
    directories = {"STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    modules = loaded(PREPARE, config, env={**os.environ, **directories})
    assert {"vpnpf.supervisor", "vpnpf.clients.qbittorrent", "vpnpf_providers.natpmp"} <= modules
    unused = {"textual", "rich", "keyring", "httpx", "vpnpf_providers.protonvpn", "mock_provider"}
    assert not unused & modules
    assert not {name for name in modules if name.startswith(("vpnpf.tui", "mock_provider"))}


def test_a_second_run_of_a_profile_is_refused(config, tmp_path):
    directories = {"STATE_DIRECTORY": str(tmp_path / "state"), "RUNTIME_DIRECTORY": str(tmp_path / "run")}
    twice = (
        PREPARE
        + """
    try:
        asyncio.run(prepare("home", Path(sys.argv[1])))
    except Exception as error:
        assert "runs the profile home" in str(error), error
    else:
        raise AssertionError
"""
    )
    loaded(twice, config, env={**os.environ, **directories})


def test_nothing_in_vpnpf_imports_a_provider_or_the_mock():
    for path in (ROOT / "vpnpf").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name.partition(".")[0] not in {"vpnpf_providers", "mock_provider", "tests"}, path


def test_every_command_of_the_table_is_there():
    for name, (where, attribute, _) in COMMANDS.items():
        command = module.cli.get_command(click.Context(module.cli), name)
        assert command is getattr(sys.modules[where], attribute)
        assert command.name == name
