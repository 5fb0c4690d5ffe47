"""deploy/systemd offline: how systemd scores the units, whether it understands them, and that all of it is documented."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UNITS = ROOT / "deploy/systemd"
SERVICES = ("vpnpf@.service", "vpnpf-lockdown.service")
MOST = 20
"""Tenths: an exposure level of 2.0 at most."""


def analyze(*arguments, cwd):
    argv = ["systemd-analyze", *arguments]
    done = subprocess.run(argv, cwd=cwd, check=False, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    return done.returncode, done.stdout + done.stderr


def score(directory, unit):
    status, said = analyze("security", "--offline=true", f"--threshold={MOST}", f"./{unit}", cwd=directory)
    return status, float(re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)[1])


def documented(what):
    """The level in docs/systemd.md, as closely as versions of systemd agree on it."""
    line = re.search(rf"^\| {re.escape(what)} \| ([0-9.]+) \|$", (ROOT / "docs/systemd.md").read_text(), re.MULTILINE)
    return pytest.approx(float(line[1]), abs=0.3)


@pytest.mark.parametrize("unit", SERVICES)
def test_the_exposure_level_is_two_at_most_and_the_documented_one(unit):
    status, found = score(UNITS, unit)
    assert status == 0
    assert found <= MOST / 10
    assert found == documented(f"`{unit}`")


def test_the_exposure_level_with_a_namespace_is_the_documented_one(tmp_path):
    # Offline, systemd-analyze reads no drop-ins: what a drop-in says last counts, so it goes to the end.
    text = (UNITS / "vpnpf@.service").read_text().replace("[Install]\nWantedBy=multi-user.target\n", "")
    settings = (UNITS / "namespace.conf").read_text().partition("[Service]\n")[2]
    (tmp_path / "vpnpf@.service").write_text(text + settings)
    _, found = score(tmp_path, "vpnpf@.service")
    assert found == documented("`vpnpf@.service` with `namespace.conf`")


def test_the_control_a_bare_unit_is_scored_worse(tmp_path):
    (tmp_path / "bare.service").write_text("[Service]\nExecStart=/bin/true\n")
    status, found = score(tmp_path, "bare.service")
    assert status != 0
    assert found > 9


def verified(directory, tmp_path):
    """What systemd has to say of the units, those programs of ours put in place that are not installed here."""
    for unit in SERVICES:
        text = (directory / unit).read_text()
        for program in ("/usr/local/bin/vpnpf", "/usr/local/lib/vpnpf/resolver"):
            text = text.replace(program, "/bin/true")
        name = unit.replace("@.", "@home.")
        (tmp_path / name).write_text(re.sub(r"^(User|Group)=vpnpf$", r"\1=root", text, flags=re.MULTILINE))
    names = [f"./{unit.replace('@.', '@home.')}" for unit in SERVICES]
    _, said = analyze("verify", "--man=no", "--recursive-errors=no", *names, cwd=tmp_path)
    return [line for line in said.splitlines() if "vpnpf" in line]


def test_systemd_understands_every_line(tmp_path):
    assert verified(UNITS, tmp_path) == []


def test_the_control_a_misspelt_line_is_noticed(tmp_path):
    units = tmp_path / "units"
    shutil.copytree(UNITS, units)
    with (units / "vpnpf-lockdown.service").open("a") as file:
        file.write("[Service]\nProtectHom=yes\n")
    assert any("ProtectHom" in line for line in verified(units, tmp_path))


def test_every_file_is_documented():
    text = (ROOT / "docs/systemd.md").read_text()
    assert [path.name for path in UNITS.iterdir() if path.name not in text] == []


# -- the resolver's file, lent and taken back -----------------------------------------------------


@pytest.fixture
def file(tmp_path):
    return tmp_path / "resolv.conf"


def resolver(file, *arguments):
    env = {**os.environ, "RESOLV_CONF": str(file)}
    return subprocess.run(
        ["sh", str(UNITS / "resolver"), *arguments], check=False, capture_output=True, text=True, env=env
    )


def lend(file):
    # To ourselves: what changes hands is looked at where there is a second user (tests/system/test_units.py).
    done = resolver(file, "lend", str(os.geteuid()))
    assert done.returncode == 0, done.stderr


def test_a_plain_file_stays_as_it_is(file):
    file.write_text("nameserver 192.0.2.1\n")
    lend(file)
    assert file.read_text() == "nameserver 192.0.2.1\n"


@pytest.mark.system
@pytest.mark.parametrize("there", [True, False])
def test_a_link_becomes_a_file_and_a_link_again(file, tmp_path, there):
    target = tmp_path / "stub.conf"
    if there:
        target.write_text("nameserver 127.0.0.53\n")
    file.symlink_to("stub.conf")
    lend(file)
    assert not file.is_symlink()
    assert file.read_text() == ("nameserver 127.0.0.53\n" if there else "")
    file.write_text("# written by vpnpf; ...\n")
    lend(file)
    resolver(file, "take-back")
    assert file.read_text().startswith("# written by vpnpf")  # after a crash it is still held
    file.write_text("nameserver 127.0.0.53\n")
    resolver(file, "take-back")
    assert file.readlink() == Path("stub.conf")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resolv.conf"] + ["stub.conf"] * there


def test_where_there_is_none_an_empty_one_is_made(file):
    lend(file)
    assert file.read_text() == ""


def test_a_link_that_somebody_made_meanwhile_stays(file, tmp_path):
    file.symlink_to("stub.conf")
    lend(file)
    file.unlink()
    file.symlink_to("other.conf")
    assert resolver(file, "take-back").returncode == 0
    assert file.readlink() == Path("other.conf")
    assert [path.name for path in tmp_path.iterdir()] == ["resolv.conf"]


def test_it_says_how_it_is_called(file):
    done = resolver(file, "give")
    assert done.returncode == 64
    assert "usage" in done.stderr
