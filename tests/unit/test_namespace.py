"""The files of a namespace, and whom `vpnpf exec` runs a program as; without namespaces."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from vpnpf.cli.exec import environment_for, who
from vpnpf.config import parse
from vpnpf.errors import ConfigError, Unavailable, UsageError
from vpnpf.io.privileges import Identity
from vpnpf.store import InstanceLock, holder
from vpnpf.tunnels.namespace_files import MARK, Files, asking_inside
from vpnpf.tunnels.namespace_mend import laid


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("hosts: files dns", "hosts: files dns"),
        ("hosts:          files mymachines resolve [!UNAVAIL=return] myhostname dns", "hosts: files myhostname dns"),
        ("hosts:files mdns4_minimal [NOTFOUND=return] dns # by hand", "hosts: files dns"),
        ("hosts: resolve", "hosts: dns"),
        ("hosts: files [success=return notfound=continue] wins libvirt", "hosts: files dns"),
        ("  hosts : nis", "hosts: dns"),
        ("# hosts: resolve", "# hosts: resolve"),
        ("passwd: files systemd", "passwd: files systemd"),
    ],
)
def test_names_are_asked_for_from_inside_only(given, kept):
    assert asking_inside(given) == f"{kept}\n"


@pytest.fixture
def files(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nsswitch.conf").write_text("hosts: resolve files\n")
    return Files("vpnpf-home", tmp_path / "netns", tmp_path / "etc")


def test_the_resolver_is_written_into_the_same_file(files):
    files.make()
    path = files.directory / "resolv.conf"
    assert path.read_text() == MARK
    number = path.stat().st_ino
    for servers in (("10.2.0.1", "fd00::1"), ("10.2.0.1",), ()):
        files.take(servers)
        assert path.read_text() == MARK + "".join(f"nameserver {server}\n" for server in servers)
        assert path.stat().st_ino == number
    assert path.stat().st_mode & 0o777 == 0o644


def test_a_resolver_that_stands_is_taken_over_and_given_back(files):
    files.make()
    files.take(("10.2.0.1",))
    files.make()
    assert "10.2.0.1" in (files.directory / "resolv.conf").read_text()
    files.give_back()
    assert (files.directory / "resolv.conf").read_text() == MARK


def test_what_is_ours_goes_and_what_is_not_stays(files, tmp_path):
    files.make()
    files.remove()
    assert not (tmp_path / "netns").exists()
    files.give_back()
    assert not (tmp_path / "netns").exists()
    files.make()
    (files.directory / "hosts").write_text("10.2.0.7 seedbox\n")
    files.remove()
    assert [path.name for path in files.directory.iterdir()] == ["hosts"]


def test_without_a_switch_there_is_none(files, tmp_path):
    (tmp_path / "etc/nsswitch.conf").unlink()
    files.make()
    assert [path.name for path in files.directory.iterdir()] == ["resolv.conf"]


def test_where_nothing_can_be_written_that_is_said(tmp_path):
    (tmp_path / "netns").touch()
    with pytest.raises(Unavailable, match="netns"):
        Files("vpnpf-home", tmp_path / "netns", tmp_path).make()


def test_a_link_in_the_place_of_the_resolver_is_not_followed(files, tmp_path):
    files.make()
    (tmp_path / "precious").write_text("mine")
    (files.directory / "resolv.conf").unlink()
    (files.directory / "resolv.conf").symlink_to(tmp_path / "precious")
    with pytest.raises(Unavailable):
        files.take(("10.2.0.1",))
    assert (tmp_path / "precious").read_text() == "mine"


# -- what is published ----------------------------------------------------------------------------


def config(tmp_path, publish, namespace="namespace = true"):
    (tmp_path / "proton.conf").touch()
    text = f"""
[profiles.home]
provider = "protonvpn"
forwards.torrent = {{}}
[profiles.home.tunnel]
type = "wireguard"
config = "proton.conf"
{namespace}
publish = {publish}
"""
    return parse(text, tmp_path / "config.toml")


def test_ports_for_this_machine_and_its_lan(tmp_path):
    tunnel = (
        config(tmp_path, '["127.0.0.1:8080", "[::1]:8081", "192.168.1.2:80", "[fd00::2]:65535"]').profile("home").tunnel
    )
    assert tunnel.namespace
    assert list(map(str, tunnel.publish)) == ["127.0.0.1:8080", "[::1]:8081", "192.168.1.2:80", "[fd00::2]:65535"]


@pytest.mark.parametrize(
    "place",
    ["0.0.0.0:80", "[::]:80", "203.0.113.1:80", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:65536", "home:80", ":80", "::1:80x",
     "[fe80::1%eth0]:80", "127.0.0.1:-1", "127.0.0.1:٨٠"],
)  # fmt: skip
def test_nothing_for_the_internet(tmp_path, place):
    with pytest.raises(ConfigError) as raised:
        config(tmp_path, f'["{place}"]')
    assert len(raised.value.mistakes) == 1
    assert "127.0.0.1" in raised.value.mistakes[0].hint


def test_publishing_needs_a_namespace(tmp_path):
    with pytest.raises(ConfigError, match="namespace = true"):
        config(tmp_path, '["127.0.0.1:8080"]', "")


def test_a_machine_without_a_tunnel_has_no_namespace(tmp_path):
    text = '[profiles.home]\nprovider = "router"\ntunnel = { type = "none", namespace = true }\nforwards.torrent = {}\n'
    with pytest.raises(ConfigError, match='type "none" has no "namespace"'):
        parse(text, tmp_path / "config.toml")


# -- who runs it -----------------------------------------------------------------------------------


def test_the_holder_of_a_lock_is_known_without_trying_it(tmp_path):
    assert holder(tmp_path, "profile-home") is None
    with InstanceLock(tmp_path, "profile-home", "runs the profile home"):
        assert holder(tmp_path, "profile-home") == os.getpid()
    assert holder(tmp_path, "profile-home") is None
    (tmp_path / "profile-home.lock").write_text("?")
    assert holder(tmp_path, "profile-home") is None


MOUNTS = """\
36 35 98:0 / / rw - ext4 /dev/root rw
37 36 98:0 /etc/netns/vpnpf-home/resolv.conf /etc/resolv.conf rw - ext4 /dev/root rw
38 36 98:0 /etc/netns/vpnpf-homer/hosts /etc/hosts rw - ext4 /dev/root rw
39 36 98:0 /netns/vpnpf-home/nsswitch.conf /etc/nsswitch.conf rw master:1 - ext4 /dev/root rw
40 36 98:0 /etc/netns/vpnpf-home/resolv.conf /etc/netns/vpnpf-home/resolv.conf rw - ext4 /dev/root rw
cut off
"""


def test_which_files_lie_in_their_places(tmp_path):
    assert laid(Path("/etc/netns/vpnpf-home"), MOUNTS) == {"resolv.conf", "nsswitch.conf"}
    assert laid(Path("/etc/netns/vpnpf-work"), MOUNTS) == set()


# -- who ------------------------------------------------------------------------------------------


def test_whoever_called_sudo():
    user = pwd.getpwnam("daemon")
    found = who(None, {"SUDO_UID": str(user.pw_uid), "SUDO_GID": "77"})
    assert found == Identity(user.pw_uid, 77, "daemon", user.pw_dir, user.pw_shell)
    assert who("nobody", {"SUDO_UID": str(user.pw_uid)}).name == "nobody"
    assert who(None, {}).uid == os.geteuid()


@pytest.mark.parametrize(("name", "environment"), [("no-such-user", {}), (None, {"SUDO_UID": "root"})])
def test_nobody_to_be(name, environment):
    with pytest.raises(UsageError):
        who(name, environment)


def test_what_is_roots_in_the_environment_becomes_the_users():
    root = pwd.getpwuid(os.geteuid())
    user = Identity(4711, 4711, "ada", "/home/ada", "/bin/zsh")
    given = {"HOME": root.pw_dir, "USER": root.pw_name, "SHELL": "/bin/fish", "TERM": "xterm", "SUDO_UID": "4711"}
    assert environment_for(user, given) == {
        "HOME": "/home/ada",
        "USER": "ada",
        "SHELL": "/bin/fish",
        "TERM": "xterm",
    }
    ourselves = Identity(os.geteuid(), 0)
    assert environment_for(ourselves, given) == {name: value for name, value in given.items() if name != "SUDO_UID"}
