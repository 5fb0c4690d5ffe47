"""`vpnpf init` on a real terminal (a pty), and where there is none."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from tests.unit.init_terminal import PATIENCE, Terminal
from tests.unit.setup_world import proton
from vpnpf.cli import init as init_command
from vpnpf.cli.init_asking import values
from vpnpf.cli.main import run_command_line
from vpnpf.config import load
from vpnpf.setup.questions import Choice, Question

PROGRAM = (sys.executable, "-m", "vpnpf", "init")


class Person(Terminal):
    """One at `vpnpf init`."""

    def __init__(self, home, *arguments):
        super().__init__()
        env = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "TERM": "dumb",
            "COLUMNS": "100",
            "STATE_DIRECTORY": str(home / "state"),
        }
        self.process = subprocess.Popen(
            (*PROGRAM, *arguments),
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            env=env,
            cwd=home,
            start_new_session=True,
        )
        self.begun()

    def interrupt(self):
        """Ctrl-C, once it waits for an answer: before that readline may take the signal and wait on."""
        stat_file = Path(f"/proc/{self.process.pid}/stat")
        while stat_file.read_text().rpartition(")")[2].split()[0] != "S":
            time.sleep(0.001)
        self.process.send_signal(signal.SIGINT)

    def end(self):
        super().end()
        return self.process.wait(PATIENCE)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        super().close()


@pytest.fixture
def at(tmp_path):
    (tmp_path / "Downloads").mkdir()
    (tmp_path / "Downloads" / "nl.conf").write_text(proton())
    (tmp_path / "Downloads" / "off.conf").write_text(proton("off"))
    opened = []

    def begin(*arguments):
        opened.append(Person(tmp_path, "--directory", str(tmp_path / "etc"), *arguments))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


def test_a_first_start_from_the_question_to_the_file(at, tmp_path):
    person = at()
    person.answer(r"Which VPN provider do you have\? \[\d+\] ", "")
    person.until("made with NAT-PMP")
    person.answer(r"Which configuration file\?.*\[1\] ", "")
    person.answer(r"Which torrent client gets the port\?.* ", "other qbittorrent")
    person.answer(r"Address of its web interface\?.* ", "127.0.0.1:1")
    person.until("not an http or https URL")
    person.answer(r"Address of its web interface\?.* ", "http://127.0.0.1:1")
    person.answer(r"User name of the web interface\?.* ", "")
    person.answer(r"Password of the web interface\?", "hunter22")
    person.until("It is tried again whenever vpnpf runs")
    person.answer(r"What may come in from the internet\? \[1\] ", "")
    person.answer(r"A name for this profile\? \[home\] ", "<")
    person.answer(r"What may come in from the internet\? \[1\] ", "2")
    person.answer(r"A name for this profile\? \[home\] ", "seed")
    person.answer(r"Write it\? \[Y/n\]", "")
    if os.geteuid() == 0:
        person.answer(r"Start it now\? \[Y/n\]", "n")
    assert person.end() == 0
    assert "hunter22" not in person.said
    config = load(tmp_path / "etc" / "config.toml")
    profile = config.profile("seed")
    assert (profile.spec.provider, str(profile.spec.policy.mode)) == ("protonvpn", "block-all")
    password = tmp_path / "etc" / "qbittorrent.password"
    assert password.read_text() == "hunter22\n"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert f"written: {config.path}" in person.said
    assert "sudo vpnpf" in person.said
    assert (tmp_path / "Downloads" / "nl.conf").read_text() == proton()

    again = at()
    again.answer(r"seed.* It stays as it is", "")
    again.until(r"Add another profile to it\? \[y/N\]")
    before = config.path.read_bytes()
    assert again.end() == 0
    assert config.path.read_bytes() == before


def test_a_name_that_somebody_else_chose_commands_neither_the_terminal_nor_the_file(at, tmp_path):
    for each in (tmp_path / "Downloads").iterdir():
        each.unlink()
    (tmp_path / "Downloads" / 'ev\x1b[31mil\n"x.conf').write_text(proton())
    person = at()
    person.answer(r"Which VPN provider", "")
    person.answer(r"Which configuration file\?.*\[1\] ", "")
    person.answer(r"Which torrent client gets the port\?.* ", "none")
    person.answer(r"What may come in", "")
    person.answer(r"A name for this profile", "")
    person.answer(r"Write it\?", "")
    if os.geteuid() == 0:
        person.answer(r"Start it now\?", "n")
    assert person.end() == 0
    assert "\x1b" not in person.said
    (copy,) = load(tmp_path / "etc" / "config.toml").profile("home").tunnel.configs
    assert copy.name == "ev_31mil_x.conf"


def test_ctrl_c_changes_nothing(at, tmp_path):
    person = at()
    person.answer(r"Which VPN provider", "")
    person.until(r"Which configuration file\?")
    person.interrupt()
    assert person.end() == 130
    assert "nothing was changed" in person.said
    assert not (tmp_path / "etc").exists()


def test_a_broken_configuration_is_said_before_anything_is_asked(at, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "config.toml").write_text("[profiles.home\n")
    person = at()
    assert person.end() == 78
    assert "it is not TOML" in person.said
    assert "Which" not in person.said


def test_without_a_terminal_it_says_what_to_do(capsys, tmp_path):
    assert run_command_line(["init", "--directory", str(tmp_path)]) == 64
    said = capsys.readouterr().err
    assert "no terminal" in said
    assert f"{tmp_path}/config.toml" in said


def test_as_a_person_sudo_is_offered_and_gets_the_very_same_program(monkeypatch):
    begun = []

    def execv(*arguments):
        begun.append(arguments)
        raise SystemExit

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "execv", execv)
    monkeypatch.setattr(init_command.shutil, "which", lambda _name: "/usr/bin/sudo")
    monkeypatch.setattr(init_command.click, "confirm", lambda *_, **given: given["default"])
    with pytest.raises(SystemExit):
        init_command._as_root()
    assert begun == [("/usr/bin/sudo", ("/usr/bin/sudo", sys.executable, "-P", "-m", "vpnpf", "init"))]
    monkeypatch.setattr(init_command.shutil, "which", lambda _name: None)
    with pytest.raises(click.Abort):  # without sudo it is not what one wants, unless one says so
        init_command._as_root()


def test_numbers_values_and_paths():
    choices = [Choice("/a, b.conf", "a"), Choice("/c.conf", "c")]
    many = Question("files", "?", choices=tuple(choices), free=True, many=True)
    assert values(many, "1, 2", choices) == ("/a, b.conf", "/c.conf")
    assert values(many, "/a, b.conf", choices) == ("/a, b.conf",)
    assert values(many, "/x,y.conf", choices) == ("/x,y.conf",)
    assert values(many, "/x.conf,/y.conf", choices) == ("/x.conf", "/y.conf")
    assert values(many, "7", choices) == ("7",)
    assert values(Question("client", "?"), "2", choices) == ("/c.conf",)
