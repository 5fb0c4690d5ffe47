"""What is built and installed: the wheel, the source archive, and a program that runs from them. No network."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from configparser import ConfigParser
from email import message_from_bytes
from pathlib import Path, PurePosixPath

import pytest
from packaging.requirements import Requirement

from vpnpf import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
STEM = f"vpnpf-{__version__}"


def tracked(*folders):
    """Files of the checkout that git knows, under these folders; all there are where there is no git."""
    git = ["git", "-C", str(ROOT), "ls-files", "--", *folders]
    done = subprocess.run(git, check=False, capture_output=True, text=True)
    if done.returncode == 0 and done.stdout:
        return {name for name in done.stdout.splitlines() if (ROOT / name).exists()}
    files = {
        path.relative_to(ROOT).as_posix() for folder in folders for path in (ROOT / folder).rglob("*") if path.is_file()
    }
    return {name for name in files if "__pycache__" not in name}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The directory with the wheel and the source archive."""
    directory = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(directory)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    return directory


@pytest.fixture(scope="module")
def wheel(built):
    with zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as archive:
        yield archive


@pytest.fixture(scope="module")
def source(built):
    with tarfile.open(built / f"{STEM}.tar.gz") as archive:
        yield {name.removeprefix(f"{STEM}/") for name in archive.getnames()}


def test_the_wheel_has_the_program_and_the_providers_and_nothing_else(wheel):
    names = {name for name in wheel.namelist() if not name.startswith(f"{STEM}.dist-info/")}
    assert {PurePosixPath(name).parts[0] for name in names} == {"vpnpf", "vpnpf_providers"}
    assert names >= {name.removeprefix("providers/") for name in tracked("vpnpf", "providers")}
    assert not [name for name in names if "__pycache__" in name or "test_" in name]
    assert {"vpnpf/py.typed", "vpnpf_providers/py.typed"} <= names
    assert f"{STEM}.dist-info/licenses/LICENSE" in wheel.namelist()


def test_the_entry_points_are_those_of_the_project(wheel):
    parser = ConfigParser()
    parser.optionxform = str
    parser.read_string(wheel.read(f"{STEM}.dist-info/entry_points.txt").decode())
    groups = {section: dict(parser[section]) for section in parser.sections()}
    assert groups == {"console_scripts": PROJECT["scripts"], **PROJECT["entry-points"]}


def test_what_it_says_of_itself(wheel):
    said = message_from_bytes(wheel.read(f"{STEM}.dist-info/METADATA"))
    assert (said["Name"], said["Version"], said["License-Expression"]) == ("vpnpf", __version__, "MIT")
    assert said["Requires-Python"] == ">=3.11"
    needed = [Requirement(line) for line in said.get_all("Requires-Dist")]
    assert {str(need) for need in needed if not need.marker} == {str(Requirement(n)) for n in PROJECT["dependencies"]}
    assert "Get a port behind your VPN" in said.get_payload()


def test_the_source_archive_has_what_is_needed_to_test_it(source):
    assert tracked("vpnpf", "providers", "mock_provider", "tests", "docs", "deploy") <= source
    assert {"pyproject.toml", "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "constraints.txt"} <= source
    assert not [name for name in source if "__pycache__" in name or name.startswith((".venv", ".git/", "dist"))]


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """A directory that the wheel was installed into, without what it needs."""
    target = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--disable-pip-version-check"]
    subprocess.run([*pip, "--target", str(target), str(built / f"{STEM}-py3-none-any.whl")], check=True)
    return target


def run(installed, *arguments):
    """Run Python with the installed wheel before everything else, outside of the checkout."""
    return subprocess.run(
        [sys.executable, *arguments],
        check=True,
        capture_output=True,
        text=True,
        cwd=installed.parent,
        env={"PYTHONPATH": str(installed), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"},
    ).stdout


def test_the_installed_program_runs(installed):
    assert run(installed, "-m", "vpnpf", "--version") == f"vpnpf {__version__}\n"
    assert run(installed, "-c", "import vpnpf; print(vpnpf.__file__)").startswith(str(installed))
    assert run(installed, str(installed / "bin" / "vpnpf"), "--version") == f"vpnpf {__version__}\n"


def test_the_installed_program_finds_its_plugins(installed):
    for command, group in (("providers", "vpnpf.providers"), ("clients", "vpnpf.clients")):
        said = run(installed, "-m", "vpnpf", command)
        for name in PROJECT["entry-points"][group]:
            assert f"{name} " in said
    code = "import vpnpf_providers; print(vpnpf_providers.__file__)"
    assert run(installed, "-c", code).startswith(str(installed))


def test_a_wheel_can_be_made_from_the_source_archive(built, tmp_path):
    with tarfile.open(built / f"{STEM}.tar.gz") as archive:
        archive.extractall(tmp_path, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=tmp_path / STEM, check=True, capture_output=True)
    with (
        zipfile.ZipFile(tmp_path / f"{STEM}-py3-none-any.whl") as again,
        zipfile.ZipFile(built / f"{STEM}-py3-none-any.whl") as first,
    ):
        assert sorted(again.namelist()) == sorted(first.namelist())
