"""`vpnpf exec`: the user's program in the profile's network namespace, and nothing else of it changed."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mock_provider.product import unique_profile
from tests.system.namespace_world import PYTHON, VPNPF, clean_up
from vpnpf.io import netns, privileges
from vpnpf.tunnels import namespace_files
from vpnpf.tunnels.namespace import ProfileNamespace

pytestmark = pytest.mark.system

SELF = """
import json, os
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "uid": os.getresuid(), "gid": os.getresgid(), "groups": sorted(os.getgroups()), "cwd": os.getcwd(),
    "env": dict(os.environ), "pid": os.getpid(), "net": os.stat("/proc/self/ns/net").st_ino,
    "caps": {name: int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")},
    "nnp": int(status["NoNewPrivs"]), "ignored": int(status["SigIgn"], 16),
    "resolver": open("/etc/resolv.conf").read(), "switch": open("/etc/nsswitch.conf").read(),
}))
"""
TOO_MUCH = ("/etc/resolv.conf", "/etc/nsswitch.conf")


@pytest.fixture
def profile():
    """A profile whose namespace is there, with the loopback alone."""
    name = unique_profile()
    namespace = ProfileNamespace(name)
    subprocess.run(["ip", "netns", "add", namespace.name], check=True)
    namespace.files.make()
    namespace.files.take(("10.2.0.1",))
    yield name
    clean_up(name)


def run(*arguments, env=None, **more):
    return subprocess.run(
        [*VPNPF, *arguments], check=False, env={**os.environ, **(env or {})}, capture_output=True, text=True, **more
    )


def itself(profile, *options, env=None, **more):
    done = run("exec", *options, profile, "--", PYTHON, "-c", SELF, env=env, **more)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def as_sudo(name, **environment):
    user = pwd.getpwnam(name)
    of_sudo = {"SUDO_UID": str(user.pw_uid), "SUDO_GID": str(user.pw_gid), "SUDO_USER": name, "SUDO_COMMAND": "vpnpf"}
    return {"HOME": pwd.getpwuid(0).pw_dir, "USER": "root", "LOGNAME": "root", **of_sudo, **environment}


def someone_with_groups():
    return next(name for group in grp.getgrall() for name in group.gr_mem if pwd.getpwnam(name).pw_uid)


def test_by_sudo_it_runs_as_the_user_with_his_groups(profile):
    name = someone_with_groups()
    user = pwd.getpwnam(name)
    seen = itself(profile, env=as_sudo(name, COLOUR="blue"), cwd="/usr/share")
    assert seen["uid"] == [user.pw_uid] * 3
    assert seen["gid"] == [user.pw_gid] * 3
    assert seen["groups"] == sorted(os.getgrouplist(name, user.pw_gid))
    assert len(seen["groups"]) > 1
    assert seen["cwd"] == "/usr/share"
    assert seen["env"]["HOME"] == user.pw_dir
    assert seen["env"]["USER"] == seen["env"]["LOGNAME"] == name
    assert seen["env"]["COLOUR"] == "blue"
    assert not [key for key in seen["env"] if key.startswith("SUDO_")]


def test_as_a_user_that_is_named(profile):
    seen = itself(profile, "--user", "nobody", env=as_sudo("daemon"))
    assert seen["uid"] == [pwd.getpwnam("nobody").pw_uid] * 3
    assert seen["groups"] == [pwd.getpwnam("nobody").pw_gid]


def test_a_number_without_a_name(profile):
    seen = itself(profile, env={"SUDO_UID": "54321", "SUDO_GID": "54322"})
    assert seen["uid"] == [54321] * 3
    assert seen["gid"] == [54322] * 3
    assert seen["groups"] == [54322]


def test_a_user_has_no_capabilities_and_can_get_none_that_lead_out(profile):
    seen = itself(profile, env=as_sudo("nobody"))
    bounding = seen["caps"].pop("CapBnd")
    assert not any(seen["caps"].values())
    assert {bit for bit in range(64) if bounding >> bit & 1} <= privileges.KEPT
    assert seen["nnp"] == 0


def test_root_cannot_leave(profile):
    seen = itself(profile)
    assert seen["uid"] == [0] * 3
    assert {bit for bit in range(64) if seen["caps"]["CapEff"] >> bit & 1} <= privileges.KEPT
    leave = ("nsenter", f"--net=/proc/{os.getpid()}/ns/net", "true")
    assert subprocess.run(leave, check=False).returncode == 0  # the control: outside it can
    for command in (
        leave,
        ("umount", "/etc/resolv.conf"),
        ("ip", "link", "set", "lo", "down"),
        ("nft", "flush", "ruleset"),
    ):
        assert run("exec", profile, "--", *command).returncode != 0


def mounts_but_others(profile):
    """The machine's mounts, without the names of namespaces that are not this profile's: tests beside this one have theirs."""
    ours = str(ProfileNamespace(profile).path)
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if not line.split()[4].startswith("/run/netns/") or line.split()[4] == ours]


def test_it_is_in_the_namespace_with_its_files_and_the_machines_are_as_they_were(profile):
    before = [Path(path).read_bytes() for path in TOO_MUCH]
    mounts = mounts_but_others(profile)
    seen = itself(profile)
    assert seen["net"] == ProfileNamespace(profile).path.stat().st_ino
    assert seen["resolver"].endswith("nameserver 10.2.0.1\n")
    assert "resolve" not in seen["switch"].partition("hosts:")[2].partition("\n")[0]
    assert [Path(path).read_bytes() for path in TOO_MUCH] == before
    assert mounts_but_others(profile) == mounts


def test_programs_that_run_see_a_resolver_that_changes(profile):
    wait = "import sys; print(open('/etc/resolv.conf').read()); sys.stdout.flush(); input(); print(open('/etc/resolv.conf').read())"
    with subprocess.Popen(
        [*VPNPF, "exec", profile, PYTHON, "-c", wait], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout.readline().startswith("#")
        ProfileNamespace(profile).files.take(("10.2.0.9",))
        assert "10.2.0.9" in child.communicate("\n")[0]


def test_a_file_of_the_machine_that_is_replaced_does_not_show_through(profile, tmp_path):
    """With a file of its own in /etc, since the machine's resolv.conf is not ours to replace."""
    machines = Path("/etc", f"{profile}.test")
    files = ProfileNamespace(profile).files
    machines.write_text("the machine's\n")
    (files.directory / machines.name).write_text("the namespace's\n")
    show = f"import sys\nfor _ in sys.stdin: print(open({str(machines)!r}).read().strip(), flush=True)"
    try:
        with (
            subprocess.Popen(
                [*VPNPF, "exec", profile, PYTHON, "-c", show], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            ) as child,
            subprocess.Popen(["ip", "netns", "exec", ProfileNamespace(profile).name, "cat"], stdin=subprocess.PIPE),
            subprocess.Popen(["nsenter", f"--net={ProfileNamespace(profile).path}", "cat"], stdin=subprocess.PIPE),
        ):

            def seen():
                child.stdin.write("?\n")
                child.stdin.flush()
                return child.stdout.readline().strip()

            assert seen() == "the namespace's"
            tmp = machines.with_suffix(".new")
            tmp.write_text("a new one\n")
            tmp.replace(machines)
            assert seen() == "a new one"  # the control: what a DHCP client does
            engine = f"import os, vpnpf.io.netns as n; n.enter(os.open({str(ProfileNamespace(profile).path)!r}, os.O_RDONLY), n.CLONE_NEWNET)"
            engine += (
                f"; from vpnpf.tunnels.namespace import ProfileNamespace as P; P({profile!r}).files.take(('10.2.0.1',))"
            )
            subprocess.run([sys.executable, "-c", engine], check=True)
            assert seen() == "the namespace's"
            assert machines.read_text() == "a new one\n"
    finally:
        machines.unlink()
        (files.directory / machines.name).unlink()


def test_the_exit_status_is_the_commands(profile):
    assert run("exec", profile, "sh", "-c", "exit 7").returncode == 7
    assert run("exec", profile, "--", "sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM


def ignored_here():
    """The signals that this process ignores, as a mask (proc_pid_status(5), SigIgn)."""
    (line,) = re.findall(r"SigIgn:\s*([0-9a-f]+)", Path("/proc/self/status").read_text())
    return int(line, 16)


def test_it_is_the_process_that_was_started_and_its_signals_are_as_they_were(profile):
    with subprocess.Popen(
        [*VPNPF, "exec", profile, "--", PYTHON, "-c", f"{SELF}\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        seen = json.loads(child.stdout.readline())
        assert seen["pid"] == child.pid
        # As here: those that we got ignored from whoever started us, and Python's own, by its start.
        assert seen["ignored"] == ignored_here()
        child.send_signal(signal.SIGTERM)
        assert child.wait(5) == -signal.SIGTERM
    ignored = run("exec", profile, "sh", "-c", "grep SigIgn /proc/$$/status").stdout
    assert int(ignored.split()[1], 16) & (1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1) == 0


@pytest.mark.parametrize(("command", "status"), [("no-such-program", 127), ("/etc/passwd", 126)])
def test_a_program_that_cannot_be_started(profile, command, status):
    done = run("exec", profile, "--", command)
    assert done.returncode == status
    assert command in done.stderr
    assert "hint" in done.stderr


def test_options_of_the_command_are_its_own(profile):
    assert run("exec", profile, "echo", "--user", "x", "-h").stdout == "--user x -h\n"
    assert run("exec", profile, "--user", "nobody", "true").returncode == 64
    assert run("exec", profile).returncode == 64
    assert run("exec", "../x", "true").returncode == 64


def test_that_the_tunnel_is_not_up_is_said(profile):
    done = run("exec", profile, "--", "true")
    assert done.returncode == 0
    assert f"the tunnel of {profile} is not up" in done.stderr
    inside = ("ip", "-n", ProfileNamespace(profile).name)
    subprocess.run([*inside, "link", "add", "vpf0", "type", "veth", "peer", "name", "vpf1"], check=True)
    assert run("exec", profile, "--", "true").stderr == ""


def config(tmp_path, profile, namespace):
    (tmp_path / "proton.conf").touch()
    path = tmp_path / "config.toml"
    line = 'tunnel = { type = "wireguard", config = "proton.conf"'
    path.write_text(
        f'[profiles.{profile}]\nprovider = "protonvpn"\n{line}{", namespace = true" * namespace} }}\nforwards.game = {{}}\n'
    )
    return ("--config", str(path))


def test_a_profile_that_does_not_run(tmp_path):
    done = run("exec", *config(tmp_path, "home", True), "home", "--", "true")
    assert done.returncode == 69
    assert "vpnpf up home" in done.stderr


def test_a_profile_without_a_namespace(tmp_path):
    done = run("exec", *config(tmp_path, "home", False), "home", "--", "true")
    assert done.returncode == 69
    assert "namespace = true" in done.stderr


def test_without_root(profile):
    drop = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    done = subprocess.run([*drop, *VPNPF, "exec", profile, "true"], capture_output=True, text=True, check=False)
    assert done.returncode == 77
    assert "sudo" in done.stderr


# -- names do not leave by another program's mouth -------------------------------------------------


def in_a_child(body):
    """Run something in a process with mounts of its own; returns what it returned, as JSON."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            netns.own_mounts()
            os.write(writing, json.dumps(body()).encode())
            status = 0
        os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said = answer.read()
    assert os.waitpid(child, 0)[1] == 0
    return json.loads(said)


def reaches(path):
    with socket.socket(socket.AF_UNIX) as sock:
        return sock.connect_ex(str(path)) == 0


@pytest.mark.parametrize("link", [False, True])
async def test_resolvers_of_the_machine_are_out_of_reach(tmp_path, monkeypatch, link):
    etc, run_directory = tmp_path / "etc", tmp_path / "run"
    etc.mkdir()
    run_directory.mkdir()
    (run_directory / "stub.conf").write_text("nameserver 127.0.0.53\n")
    if link:
        (etc / "resolv.conf").symlink_to("../run/stub.conf")
    else:
        (etc / "resolv.conf").write_text("nameserver 192.168.77.1\n")
    (etc / "nsswitch.conf").write_text("hosts: mymachines resolve [!UNAVAIL=return] files dns\n")
    monkeypatch.setattr(namespace_files, "COVERED", (str(run_directory),))
    files = namespace_files.Files("vpnpf-x", tmp_path / "netns", etc)
    files.make()
    files.take(("10.2.0.1",))
    path = run_directory / "io.systemd.Resolve"
    server = await asyncio.start_unix_server(lambda _reader, writer: writer.close(), path)
    async with server:
        assert reaches(path)
        seen = await asyncio.to_thread(
            in_a_child,
            lambda: (
                files.show(),
                reaches(path),
                (etc / "resolv.conf").read_text(),
                (etc / "nsswitch.conf").read_text(),
            ),
        )
        assert seen[1] is False
        assert seen[2].endswith("nameserver 10.2.0.1\n")
        assert "hosts: files dns\n" in seen[3]
        assert reaches(path)
    assert "127.0.0.53" in (run_directory / "stub.conf").read_text()
