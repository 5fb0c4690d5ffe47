"""What root does as the service's user: by which command, and never with what lies in the working directory."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vpnpf.cli import owner


@pytest.fixture
def hostile(tmp_path):
    """A directory with a package of our name."""
    package = tmp_path / "vpnpf"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("print('somebody else')\n")
    return tmp_path


def python_of(argv):
    """The command after setpriv."""
    return list(argv[argv.index(sys.executable) :])


def test_a_package_in_the_working_directory_is_not_run(hostile, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["vpnpf", "--version"])
    argv = python_of(owner._argv(1000, 1000))
    done = subprocess.run(argv, cwd=hostile, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("vpnpf ")
    # The control: as python does it by default.
    argv.remove("-P")
    done = subprocess.run(argv, cwd=hostile, capture_output=True, text=True, check=True)
    assert done.stdout == "somebody else\n"


def test_one_privilege_is_kept_and_nothing_else():
    argv = owner._argv(1000, 1001)
    assert Path(argv[0]).is_absolute()
    assert {"--reuid=1000", "--regid=1001", "--clear-groups", "--no-new-privs"} <= set(argv)
    assert {each for each in argv if "caps" in each or "bounding" in each} == {
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
    }


@pytest.mark.parametrize("name", ["STATE_DIRECTORY", "RUNTIME_DIRECTORY"])
def test_directories_that_were_named_are_used_as_whoever_we_are(monkeypatch, name):
    monkeypatch.setenv(name, "/nowhere")
    monkeypatch.setattr(os, "execve", lambda *_arguments: pytest.fail("it went on as somebody else"))
    owner.as_the_owner()
