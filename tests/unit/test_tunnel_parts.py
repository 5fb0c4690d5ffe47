"""What tunnel back ends are made of, without a network: undoing, files, prerequisites, and what a plan says."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import platform
import threading
from pathlib import Path

import pytest

from vpnpf.errors import ConfigError, Misconfigured, PermissionDenied, Transient, Unavailable
from vpnpf.interfaces import TunnelOptions
from vpnpf.io import privileges
from vpnpf.model import LanPrefix
from vpnpf.tunnels import config_file, endpoints, prerequisites, routing, wireguard
from vpnpf.tunnels.config_file import read_text
from vpnpf.tunnels.endpoints import Endpoints
from vpnpf.tunnels.names import interface_name
from vpnpf.tunnels.rp_filter import ReversePathFilter
from vpnpf.tunnels.whole import all_of, in_thread, to_the_end
from vpnpf.tunnels.wireguard import WireGuard

# -- work that is not left half done ---------------------------------------------------------------


async def test_work_goes_to_its_end_though_cancelled_twice():
    begun, go, done = asyncio.Event(), asyncio.Event(), []

    async def work():
        begun.set()
        await go.wait()
        done.append("all")

    task = asyncio.create_task(to_the_end(work()))
    await begun.wait()
    for _ in range(2):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["all"]


async def test_a_deadline_is_kept_after_the_end():
    done = []

    async def work():
        await asyncio.sleep(0.03)
        done.append("all")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await to_the_end(work())
    assert done == ["all"]


async def test_what_work_returns_and_raises_comes_back():
    async def work(answer):
        await asyncio.sleep(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await to_the_end(work(7)) == 7
    with pytest.raises(Transient, match="doing x: why"):
        await to_the_end(work(Transient("doing x", "why")))


async def test_a_call_in_a_thread_that_was_begun_is_waited_for():
    begun, go, done = threading.Event(), threading.Event(), []

    def call():
        begun.set()
        go.wait(5)
        done.append("all")

    task = asyncio.create_task(in_thread(call))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    go.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert done == ["all"]


async def test_every_step_is_taken_and_the_first_failure_raised():
    taken = []

    def step(name, error=None):
        async def take():
            taken.append(name)
            if error:
                raise error

        return take

    steps = (step(1), step(2, Unavailable("doing 2", "why")), step(3, ValueError("3")), step(4))
    with pytest.raises(Unavailable, match="doing 2: why"):
        await all_of(*steps)
    assert taken == [1, 2, 3, 4]


@pytest.mark.parametrize("broken", range(4))
async def test_a_part_of_down_that_fails_keeps_no_other_from_being_undone(tmp_path, monkeypatch, broken):
    undone = []

    def part(number, *, waits):
        def undo(*_arguments):
            if number == broken:
                raise Unavailable(f"undoing {number}", "why")
            undone.append(number)

        async def undo_and_wait(*arguments, **_options):
            undo(*arguments)

        return undo_and_wait if waits else undo

    backend = WireGuard(TunnelOptions("home", (str(tmp_path / "none.conf"),), str(tmp_path)))
    monkeypatch.setattr(routing, "clear", part(0, waits=True))
    monkeypatch.setattr(backend._device, "remove", part(1, waits=True))
    monkeypatch.setattr(backend._around.rp_filter, "restore", part(2, waits=False))
    monkeypatch.setattr(backend._around.resolver, "give_back", part(3, waits=False))
    with pytest.raises(Unavailable, match=f"undoing {broken}: why"):
        await backend.down()
    assert undone == [number for number in range(4) if number != broken]


# -- the provider's file ---------------------------------------------------------------------------


def refused(path):
    with pytest.raises(ConfigError) as raised:
        read_text(str(path))
    (mistake,) = raised.value.mistakes
    assert mistake.where.removesuffix(":1") == str(path)
    assert mistake.hint
    return mistake.what


def test_a_file_is_read_whole(tmp_path):
    (tmp_path / "a.conf").write_bytes("[Interface]\r\n# é\n".encode())
    assert read_text(str(tmp_path / "a.conf")) == "[Interface]\r\n# é\n"


def test_a_file_that_cannot_be_read_is_a_mistake(tmp_path):
    assert refused(tmp_path / "none.conf") == "No such file or directory"
    assert refused(tmp_path) == "Is a directory"
    (tmp_path / "loop").symlink_to("loop")
    assert "symbolic links" in refused(tmp_path / "loop")
    (tmp_path / "utf16").write_bytes("[Interface]".encode("utf-16"))
    assert refused(tmp_path / "utf16") == "it is not UTF-8 text"


def test_a_pipe_or_a_device_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    assert refused(tmp_path / "pipe") == "it is not a file"
    assert refused("/dev/zero") == "it is not a file"


def test_a_huge_file_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(config_file, "LARGEST", 1 << 20)
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(1 << 40)
    assert refused(tmp_path / "huge") == "it is larger than 1 MiB"


# -- the server's addresses ------------------------------------------------------------------------


@pytest.fixture
def names(monkeypatch):
    """What looking up says from now on: by name, addresses or an error."""
    said = {}

    async def resolve(host, _port, _enter):
        if isinstance(said.get(host, ()), Exception):
            raise said[host]
        return said.get(host, (host,))

    monkeypatch.setattr(endpoints, "resolve", resolve)
    return said


async def test_addresses_are_known_when_nobody_answers_any_more(names, tmp_path):
    keep = tmp_path / "run" / "endpoint.json"
    names["vpn.example"] = ("198.51.100.10", "2001:db8::1")
    assert await Endpoints(keep).addresses("vpn.example", 1) == ("198.51.100.10", "2001:db8::1")
    for problem in (Transient("looking up", "no answer"), Misconfigured("looking up", "no such name")):
        names["vpn.example"] = names["other.example"] = problem
        assert await Endpoints(keep).addresses("vpn.example", 1) == ("198.51.100.10", "2001:db8::1")
        with pytest.raises(type(problem)):
            await Endpoints(keep).addresses("other.example", 1)


async def test_each_hosts_addresses_are_known_and_only_so_many(names, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoints, "_MOST", 3)
    keep = tmp_path / "endpoints.json"
    for number in (1, 2, 3, 2, 4):
        names[f"{number}.example"] = (f"198.51.100.{number}",)
        await Endpoints(keep).addresses(f"{number}.example", 1)
    names.update((name, Transient("looking up", "no answer")) for name in list(names))
    for number in (2, 3, 4):
        assert await Endpoints(keep).addresses(f"{number}.example", 1) == (f"198.51.100.{number}",)
    with pytest.raises(Transient):
        await Endpoints(keep).addresses("1.example", 1)
    assert [path.name for path in tmp_path.iterdir()] == ["endpoints.json"]


async def test_an_address_is_not_kept(names, tmp_path):
    assert await Endpoints(tmp_path / "endpoint.json").addresses("198.51.100.10", 1) == ("198.51.100.10",)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "kept",
    ["", "{", "[]", "7", "{}", '{"host": "vpn.example"}', "[" * 9999]
    + [json.dumps({"vpn.example": each}) for each in ([], 7, None, "x", {}, ["x"], ["1.2.3.4; flush"], [None])],
)
async def test_a_damaged_memory_is_none(names, tmp_path, kept):
    keep = tmp_path / "endpoint.json"
    keep.write_text(kept)
    names["vpn.example"] = Transient("looking up", "no answer")
    with pytest.raises(Transient, match="no answer"):
        await Endpoints(keep).addresses("vpn.example", 1)


async def test_a_memory_that_cannot_be_written_is_no_failure(names, tmp_path):
    (tmp_path / "file").touch()
    names["vpn.example"] = ("198.51.100.10",)
    assert await Endpoints(tmp_path / "file/endpoint.json").addresses("vpn.example", 1) == ("198.51.100.10",)


# -- the reverse path filter -----------------------------------------------------------------------


@pytest.fixture
def filters(tmp_path):
    """A made-up /proc/sys/net/ipv4/conf: filters(all="0", eth0="1")."""
    conf = tmp_path / "conf"

    def write(**values):
        for name, value in values.items():
            (conf / name).mkdir(parents=True, exist_ok=True)
            (conf / name / "rp_filter").write_text(f"{value}\n")
        return ReversePathFilter(tmp_path / "run/rp_filter", conf)

    write.all = conf / "all/rp_filter"
    return write


@pytest.mark.parametrize(
    ("values", "loosened"),
    [
        ({"all": 0, "eth0": 0}, False),
        ({"all": 2, "eth0": 1}, False),
        ({"all": 0, "eth0": 2}, False),
        ({"all": 1, "eth0": 0}, True),
        ({"all": 0, "eth0": 1}, True),
        ({"all": 0, "default": 1}, True),
    ],
)
def test_a_strict_filter_is_loosened_and_put_back(filters, values, loosened):
    made = filters(**values)
    before = filters.all.read_text()
    made.loosen()
    assert filters.all.read_text().strip() == ("2" if loosened else before.strip())
    made.loosen()
    made.restore()
    assert filters.all.read_text().strip() == before.strip()
    made.restore()
    assert filters.all.read_text().strip() == before.strip()


def test_what_somebody_set_meanwhile_stays(filters):
    made = filters(all=1)
    made.loosen()
    filters(all=0)
    made.restore()
    assert filters.all.read_text() == "0\n"


def test_made_strict_again_meanwhile_it_is_loosened_again_and_put_back_to_that(filters):
    made = filters(all=0, eth0=1)
    made.loosen()
    filters(all=1)
    made.loosen()
    assert filters.all.read_text() == "2"
    made.restore()
    assert filters.all.read_text() == "1"


@pytest.mark.parametrize("kept", ["", "7", "x\n"])
def test_a_damaged_memory_of_the_filter_changes_nothing(filters, tmp_path, kept):
    made = filters(all=2)
    (tmp_path / "run").mkdir()
    (tmp_path / "run/rp_filter").write_text(kept)
    made.restore()
    assert filters.all.read_text() == "2\n"
    assert not (tmp_path / "run/rp_filter").exists()


def test_a_filter_that_cannot_be_changed_is_told(filters, tmp_path):
    made = filters(all=0, eth0=1)
    (tmp_path / "run").touch()
    with pytest.raises(Unavailable) as raised:
        made.loosen()
    assert "rp_filter = 2" in raised.value.hint
    assert filters.all.read_text() == "0\n"


def test_a_filter_that_may_not_be_changed_is_told_and_what_a_person_sets_then_stays(filters, tmp_path, monkeypatch):
    made = filters(all=0, eth0=1)
    write = Path.write_text

    def read_only(path, text):
        if path == filters.all:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return write(path, text)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", read_only)
        with pytest.raises(Unavailable, match="Read-only file system") as raised:
            made.loosen()
    assert "deploy/systemd/sysctl.conf" in raised.value.hint
    filters(all=2)
    made.restore()
    assert filters.all.read_text() == "2\n"


# -- the machine -----------------------------------------------------------------------------------


def test_a_tun_device_is_needed(tmp_path):
    prerequisites.need_tun()
    with pytest.raises(Unavailable, match="No such file") as raised:
        prerequisites.need_tun(tmp_path / "tun")
    assert "modprobe tun" in raised.value.hint
    for path in ("/dev/null", str(tmp_path)):
        with pytest.raises(Unavailable, match="it is not the TUN device"):
            prerequisites.need_tun(prerequisites.Path(path))


def test_a_tun_device_must_be_ours_to_open(monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_arguments: False)
    with pytest.raises(PermissionDenied, match="this user may not") as raised:
        prerequisites.need_tun()
    assert "chmod 0666" in raised.value.hint


def test_the_directory_of_the_sockets_must_be_ours_to_write(monkeypatch, tmp_path):
    prerequisites.need_directory(tmp_path)
    prerequisites.need_directory(tmp_path / "wireguard")
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    for path in (tmp_path, tmp_path / "wireguard"):
        with pytest.raises(PermissionDenied, match="may not write") as raised:
            prerequisites.need_directory(path)
        assert f"RuntimeDirectory={path.name}" in raised.value.hint


def test_modules_that_are_hidden_may_be_there(monkeypatch, tmp_path):
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert not prerequisites.kernel_has_wireguard(tmp_path)
    directory = tmp_path / platform.release()
    directory.mkdir()
    (directory / "modules.dep").write_text("kernel/drivers/net/wireguard/wireguard.ko.xz: kernel/net/ipv4/udp.ko\n")
    assert prerequisites.kernel_has_wireguard(tmp_path)

    def hidden(path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "read_text", hidden)
    assert prerequisites.kernel_has_wireguard(tmp_path)


@pytest.mark.parametrize(
    ("capabilities", "enough"), [("000001ffffffffff", True), ("1000", True), ("0", False), ("ef", False)]
)
def test_the_capability_counts_not_the_user(tmp_path, monkeypatch, capabilities, enough):
    status = tmp_path / "status"
    status.write_text(f"Name:\tx\nCapEff:\t{capabilities}\nCapBnd:\tffff\n")
    monkeypatch.setattr(privileges, "Path", lambda *_path: status)
    with contextlib.nullcontext() if enough else pytest.raises(PermissionDenied, match="needs root"):
        prerequisites.need_the_privilege()


# -- what a plan says ------------------------------------------------------------------------------

CONFIG = """\
[Interface]
PrivateKey = AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=
Address = {address}
DNS = {dns}
[Peer]
PublicKey = ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=
AllowedIPs = 0.0.0.0/0
Endpoint = vpn.example:51820
"""


@pytest.fixture
def backend(tmp_path, monkeypatch, names):
    """Makes a WireGuard whose machine has these LANs: backend(address, dns, *prefixes)."""
    names["vpn.example"] = ("198.51.100.10", "198.51.100.11")

    def make(address="10.2.0.2/32", dns="10.2.0.1", *prefixes, lan=True):
        async def connected(_self, _without):
            return tuple(LanPrefix("eth0", prefix) for prefix in prefixes)

        monkeypatch.setattr(wireguard.KernelLinks, "prefixes", connected)
        config = tmp_path / "proton.conf"
        config.write_text(CONFIG.format(address=address, dns=dns))
        return WireGuard(TunnelOptions("home", (str(config),), str(tmp_path / "run"), lan=lan))

    return make


@pytest.mark.parametrize(
    ("address", "dns", "prefix"),
    [
        ("10.2.0.2/32", "10.2.0.1", "10.2.0.0/16"),  # the tunnel's own address
        ("10.2.0.2/32", "10.2.0.1", "10.2.0.0/31"),  # only its gateway and resolver
        ("10.13.128.97/32", "10.0.0.243", "10.0.0.0/24"),  # a resolver elsewhere
        ("10.2.0.2/32, fc00:bbbb:bbbb:bb01::3:c06/128", "10.2.0.1", "fc00:bbbb:bbbb:bb01::/64"),
    ],
)
async def test_a_lan_that_has_the_tunnels_addresses_is_none(backend, address, dns, prefix):
    plan = await backend(address, dns, "192.168.77.0/24", prefix).plan()
    assert plan.lan == (LanPrefix("eth0", "192.168.77.0/24"),)


async def test_without_lan_nothing_is_beside_the_tunnel(backend):
    assert (await backend("10.2.0.2/32", "10.2.0.1", "192.168.77.0/24", lan=False).plan()).lan == ()


@pytest.mark.parametrize(
    ("address", "dns", "gateway"),
    [
        ("10.2.0.2/32", "10.2.0.1", "10.2.0.1"),
        ("10.2.0.2/24", "1.1.1.1", "10.2.0.1"),
        ("10.96.7.9/32", "10.96.7.3", "10.96.7.3"),
        ("10.13.128.97/32", "10.0.0.243", "10.13.128.1"),
        ("172.21.5.9/16", "172.21.0.1", "172.21.0.1"),
    ],
)
async def test_where_the_gateway_is_expected(backend, address, dns, gateway):
    assert (await backend(address, dns).plan()).gateway == gateway


async def test_after_a_failure_the_next_address_has_its_turn(backend, monkeypatch):
    made = backend()

    async def fail():
        raise Transient("making the device", "why")

    async def nothing():
        pass

    monkeypatch.setattr(made, "down", nothing)
    monkeypatch.setattr(made._device, "create", fail)
    tried = []
    for _ in range(3):
        plan = await made.plan()
        tried.append(plan.endpoint.address)
        with pytest.raises(Transient):
            await made.up(plan)
    assert tried == ["198.51.100.10", "198.51.100.11", "198.51.100.10"]


async def test_each_server_has_its_own_turns(backend, tmp_path, monkeypatch):
    made = backend()
    other = tmp_path / "other.conf"
    other.write_text(CONFIG.format(address="10.3.0.2/32", dns="10.3.0.1"))
    made = WireGuard(TunnelOptions("home", (str(tmp_path / "proton.conf"), str(other)), str(tmp_path / "run")))

    async def fail():
        raise Transient("making the device", "why")

    async def nothing():
        pass

    monkeypatch.setattr(made, "down", nothing)
    monkeypatch.setattr(made._device, "create", fail)
    tried = []
    for server in (0, 1, 1, 0):
        plan = await made.plan(server)
        tried.append((plan.server, plan.endpoint.address))
        with pytest.raises(Transient, match="making the device"):
            await made.up(plan)
    assert tried == [(0, "198.51.100.10"), (1, "198.51.100.10"), (1, "198.51.100.11"), (0, "198.51.100.11")]


def test_the_mistakes_of_all_files_are_named(tmp_path):
    files = [tmp_path / f"{number}.conf" for number in range(4)]
    files[0].write_text(CONFIG.format(address="10.2.0.2/32", dns="10.2.0.1"))
    files[1].write_text(CONFIG.format(address="10.2.0.2/99", dns="10.2.0.1"))
    files[3].write_text("[Interface]\n")
    with pytest.raises(ConfigError) as raised:
        WireGuard(TunnelOptions("home", tuple(map(str, files)), str(tmp_path))).check_config()
    where = [mistake.where for mistake in raised.value.mistakes]
    assert not any("0.conf" in each for each in where)
    assert sum("1.conf" in each for each in where) == 1
    assert [each for each in where if "2.conf" in each] == [str(files[2])]
    assert sum("3.conf" in each for each in where) >= 3


@pytest.mark.parametrize(
    ("profile", "name"),
    [
        ("home", "vpf-home"),
        ("a-b_c", "vpf-a-b_c"),
        ("elevenchars", "vpf-elevenchars"),
        ("x y", None),
        ("../../etc", None),
    ],
)
def test_devices_are_named_after_the_profile_as_the_kernel_allows(profile, name):
    found = interface_name(profile)
    assert len(found) <= 15
    assert "/" not in found
    assert " " not in found
    if name:
        assert found == name


def test_long_names_of_profiles_do_not_collide():
    names = {interface_name(f"a-very-long-profile-{number}") for number in range(1000)}
    assert len(names) == 1000
