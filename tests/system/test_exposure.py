"""What the internet can reach: told by `vpnpf exposure`, and held against what real packets do."""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
from pathlib import Path

import pytest

from mock_provider.host import Host
from mock_provider.product import Product, unique_profile, write_config
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import CLIENT, CLIENT6
from tests.system.namespace_world import Machine, clean_up
from tests.system.test_privileges import ROOT, as_user, mounted
from tests.unit.test_cli import TUNNEL
from vpnpf.core.reach import Place, reaches
from vpnpf.io import process
from vpnpf.io.listeners import addresses, listening
from vpnpf.model import Protocol
from vpnpf.tunnels.namespace import ProfileNamespace

pytestmark = pytest.mark.system

TCP, UDP = Protocol.TCP, Protocol.UDP
USER = 64901
BESIDE = "10.99.0.1"
"""An address of the machine on another link."""
SO_BINDTODEVICE = 25
SERVE = """
import socket, sys
made = [socket.create_server((address, int(port))) for address, _, port in (a.rpartition(":") for a in sys.argv[1:])]
print("ready", flush=True)
sys.stdin.read()
"""


def within(host, work):
    """Run a coroutine in the namespace, in a thread of its own."""

    def there():
        with host.inside():
            return asyncio.run(work())

    return asyncio.to_thread(there)


async def beside(host):
    """Give the machine a second link; its first one stands for the tunnel."""
    await host.must(("ip", "link", "add", "uplink0", "type", "veth", "peer", "name", "far0"))
    await host.must(("ip", "link", "set", "far0", "up"))
    await host.must(("ip", "link", "set", "uplink0", "up"))
    await host.must(("ip", "addr", "add", f"{BESIDE}/24", "dev", "uplink0"))


# -- which sockets the tunnel reaches: the kernel has the last word ------------------------------

CASES = [
    ("0.0.0.0", "", None),
    ("0.0.0.0", "eth0", None),
    ("0.0.0.0", "uplink0", None),
    ("0.0.0.0", "lo", None),
    ("127.0.0.1", "", None),
    (CLIENT, "", None),
    (CLIENT, "uplink0", None),
    (BESIDE, "", None),
    ("::", "", True),
    ("::", "", False),
    ("::", "uplink0", False),
    ("::1", "", None),
    (CLIENT6, "", None),
    ("239.255.255.250", "", None),
]


@pytest.mark.parametrize("protocol", Protocol)
async def test_what_is_said_to_be_reached_is_what_packets_reach(lab, protocol):
    await beside(lab.client)
    with contextlib.ExitStack() as stack:
        made, socks = {}, []
        for address, device, only6 in CASES:
            if protocol is TCP and address.startswith("239."):
                continue  # the kernel takes no such thing
            sock = stack.enter_context(waiting(lab.client, protocol, address, device, only6))
            made[sock.getsockname()[1]] = (address, device, only6)
            socks.append(sock)
        marker = stack.enter_context(waiting(lab.client, UDP, "::", "", only6=False))
        seen = (await within(lab.client, listening)).listeners
        by_device = await within(lab.client, addresses)
        place = Place("eth0", by_device["eth0"], by_device["uplink0"])
        assert {each.port for each in seen if each.protocol is protocol} >= set(made)
        said = {each.port: reaches(each, place) for each in seen if each.port in made and each.protocol is protocol}
        true = {sock.getsockname()[1]: await reached(lab.internet, sock, marker) for sock in socks}
    assert {made[port]: told for port, told in said.items()} == {made[port]: told for port, told in true.items()}
    assert set(true.values()) == {True, False}


@contextlib.contextmanager
def waiting(host, protocol, address, device, only6):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with host.socket(family, socket.SOCK_STREAM if protocol is TCP else socket.SOCK_DGRAM) as made:
        if only6 is not None:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only6)
        if device:
            made.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, device.encode())
        made.bind((address, 0))
        if protocol is TCP:
            made.listen()
        yield made


async def reached(host, sock, marker):
    """Whether a stranger's packets get to the socket by either of the machine's addresses on that link.

    `marker` is a socket that they get to for sure.
    """
    return any([await _reached(host, sock, sock.type, address, marker) for address in (CLIENT, CLIENT6)])


async def _reached(host, sock, kind, address, marker):
    loop = asyncio.get_running_loop()
    port = sock.getsockname()[1]
    async with asyncio.timeout(5):
        with host.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind) as stranger:
            if kind is socket.SOCK_STREAM:
                try:
                    await loop.sock_connect(stranger, (address, port))
                except ConnectionRefusedError:
                    return False
                return True
            await loop.sock_sendto(stranger, b"?", (address, port))
            # What comes after it by the same way was seen: then so was it, or never will be.
            await loop.sock_sendto(stranger, b"!", (address, marker.getsockname()[1]))
            await loop.sock_recv(marker, 1)
            with contextlib.suppress(BlockingIOError):
                return sock.recv(1) == b"?"
    return False


# -- the command ----------------------------------------------------------------------------------

CONFIG = """
[profiles.{profile}]
provider = "natpmp"
tunnel = {{ type = "existing", interface = "eth0" }}
policy = {{ {policy} }}
forwards.torrent = {{ {forward} }}
[clients.qb]
type = "qbittorrent"
url = "http://127.0.0.1:8080"
"""


@contextlib.asynccontextmanager
async def program(host, directory, name, *places, wrap=()):
    """A script of this name that listens on "ADDRESS:PORT"; yields its process."""
    directory.mkdir(exist_ok=True)
    script = directory / name
    script.write_text(SERVE)
    child = await host.popen(
        (*wrap, sys.executable, str(script), *places), stdin=asyncio.subprocess.PIPE, cwd=ROOT, stderr=None
    )
    try:
        assert await child.stdout.readline() == b"ready\n"
        yield child
    finally:
        child.stdin.close()
        await child.wait()


async def told(host, directory, policy, *, forward="", wrap=(), status):
    """What the command says, as JSON and as text."""
    config = directory / "config.toml"
    config.write_text(CONFIG.format(profile="home", policy=policy, forward=forward))
    env = {"RUNTIME_DIRECTORY": str(directory / "run"), "HOME": str(directory), "PYTHONPATH": str(ROOT)}
    argv = (*wrap, sys.executable, "-m", "vpnpf", "exposure", "home", "--config", str(config))
    data, text = [await host.run((*argv, *more), env=env) for more in (("--json",), ())]
    assert (data.status, text.status) == (status, status), (data.stderr, text.stderr)
    return json.loads(data.stdout), text.stdout


def kinds(said):
    return {(each["severity"], each["kind"]) for each in said["findings"]}


async def test_dangerous_programs_are_named_for_each_policy(lab, tmp_path):
    await beside(lab.client)
    async with (
        program(lab.client, tmp_path / "a", "redis-server", "0.0.0.0:7000") as redis,
        program(lab.client, tmp_path / "b", "sshd", f"{CLIENT}:22"),
        program(lab.client, tmp_path / "c", "mysqld", "127.0.0.1:3306", f"{BESIDE}:3306"),
    ):
        said, text = await told(lab.client, tmp_path, 'mode = "open-all"', status=1)
        assert kinds(said) == {
            ("danger", "redis"),
            ("warning", "ssh"),
            ("warning", "open-all"),
            ("warning", "linkable"),
        }
        assert (
            f"danger: a database (Redis) is open to anybody on 7000/tcp: redis-server (python3.11), pid {redis.pid}"
            in text
        )
        assert "mysqld" not in text, "the tunnel does not reach it"
        (linked,) = [each for each in said["findings"] if each["kind"] == "linkable"]
        assert linked["ports"] == ["7000/tcp"]
        said, text = await told(lab.client, tmp_path, 'allow = ["22/tcp"]', status=1)
        assert kinds(said) == {("warning", "ssh")}
        assert "redis" not in text
        said, _ = await told(lab.client, tmp_path, 'allow = ["8000/tcp"]', status=0)
        assert kinds(said) == set()
        said, text = await told(lab.client, tmp_path, 'mode = "block-all"', status=0)
        assert (said["open"], kinds(said)) == ([], set())
        # A redirect, by the port where its packets end.
        said, _ = await told(lab.client, tmp_path, 'allow = ["forwarded"]', forward="internal_port = 7000", status=1)
        assert ("danger", "redis") in kinds(said)


async def test_another_user_is_told_what_can_be_seen(lab, tmp_path, place):
    """Without root all sockets are seen, and programs of others are not; as root they are (above)."""
    plain = (*mounted(), *as_user(USER))
    async with (
        program(lab.client, tmp_path / "a", "redis-server", f"{CLIENT}:6379"),
        program(lab.client, place / "b", "sshd", f"{CLIENT}:2222", wrap=plain) as own,
    ):
        said, text = await told(lab.client, place, 'allow = ["2222/tcp", "6379/tcp"]', wrap=plain, status=1)
        assert kinds(said) == {("danger", "redis"), ("warning", "ssh")}
        assert "danger: the port of a database (Redis) is open to anybody on 6379/tcp: a program of user root" in text
        assert "its name is hidden from you" in text
        assert f"sshd (python3.11), pid {own.pid}, user {USER}" in text
        assert "note: run it as root to see the names of all programs" in text
        said, text = await told(lab.client, tmp_path, 'allow = ["2222/tcp", "6379/tcp"]', status=1)
        assert "hidden from you" not in text


@pytest.fixture
def place():
    """A directory that every user reaches: pytest's own are 0700."""
    made = Path("/var/tmp", f"vpnpf-exposure-{os.getpid()}-{unique_profile()}")
    made.mkdir(mode=0o755)
    yield made
    shutil.rmtree(made)


# -- the web interface of a torrent client --------------------------------------------------------

EVERYWHERE = {"Preferences/WebUI\\Address": "*"}


@pytest.mark.parametrize(
    ("settings", "severity", "word"),
    [
        ({}, "warning", "asks for a login"),
        ({"Preferences/WebUI\\LocalHostAuth": "false"}, "warning", "asks for a login"),
        (
            {
                "Preferences/WebUI\\AuthSubnetWhitelistEnabled": "true",
                "Preferences/WebUI\\AuthSubnetWhitelist": "0.0.0.0/0",
            },
            "danger",
            "asks for no login",
        ),
    ],
    ids=["login", "login for others than this machine", "none"],
)
async def test_a_web_interface_without_a_login_is_found(lab, tmp_path, settings, severity, word):
    """A real qBittorrent: its exception for loopback is not taken for an open door."""
    async with QBittorrent(lab.client, tmp_path / "qb", settings={**EVERYWHERE, **settings}):
        said, text = await told(lab.client, tmp_path, 'allow = ["8080/tcp"]', forward='client = "qb"', status=1)
        assert (severity, "web-interface") in kinds(said)
        assert f"the web interface of qBittorrent, which {word}, is open to anybody on 8080/tcp" in text


async def test_one_on_loopback_alone_is_no_matter(lab, tmp_path):
    async with QBittorrent(lab.client, tmp_path / "qb"):
        said, _ = await told(lab.client, tmp_path, 'allow = ["8080/tcp"]', forward='client = "qb"', status=0)
        assert kinds(said) == set()


# -- a profile that runs --------------------------------------------------------------------------


async def test_the_port_of_a_profile_that_runs(provider, tmp_path):
    """The torrent client behind the port that is held: told by name, and nothing is wrong with it."""
    profile = unique_profile()
    host = provider.lab.client
    async with QBittorrent(host, tmp_path / "qb") as client:
        config = write_config(tmp_path, provider, client, profile)
        async with Product(host, tmp_path, config, profile) as running:
            await running.until(lambda state: state["phase"] == "ready")
            port = running.forward()["external_port"]
            await written(tmp_path / "runtime" / f"status-{profile}.json", port)
            env = {"RUNTIME_DIRECTORY": str(tmp_path / "runtime"), "HOME": str(tmp_path)}
            argv = (sys.executable, "-m", "vpnpf", "exposure", profile, "--json", "--config", str(config))
            done = await host.run(argv, env=env)
            assert done.status == 0, done.stderr
            said = json.loads(done.stdout)
            opened = {each["protocol"]: each for each in said["open"]}
            assert set(opened) == {"tcp", "udp"}
            for each in opened.values():
                assert (each["first"], each["last"], each["why"]) == (port, port, "forward torrent")
                assert {one["program"] for one in each["listeners"]} == {"qbittorrent-nox"}
                assert not any(one["beside_the_tunnel"] for one in each["listeners"])
            assert said["findings"] == []
            assert await running.stop() == 0, running.talk


async def written(path, port):
    """Wait until the status file has the port; it is written once a second at most."""
    async with asyncio.timeout(10):
        while not path.exists() or json.loads(path.read_text())["forwards"][0]["listen_port"] != port:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0.05)


# -- a tunnel in a network namespace of its own ---------------------------------------------------

ALONE = """
[profiles.{profile}]
provider = "natpmp"
tunnel = {{ type = "wireguard", config = "home.conf", namespace = true }}
policy = {{ mode = "open-all" }}
forwards.game = {{}}
"""


async def test_in_a_namespace_of_its_own_its_sockets_are_looked_at(lab, tmp_path):
    """What listens outside is not told, though this command is started there; and nothing can be tied to that line."""
    profile = unique_profile()
    namespace = ProfileNamespace(profile)
    outside, inside = Machine(lab.client), Host("inside", namespace.name)
    config = tmp_path / "config.toml"
    config.write_text(ALONE.format(profile=profile))
    (tmp_path / "home.conf").write_text(TUNNEL)
    env = {"RUNTIME_DIRECTORY": str(tmp_path / "run"), "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    argv = (sys.executable, "-m", "vpnpf", "exposure", "--json", "--config", str(config))
    absent = await outside.run(argv, env=env)
    assert absent.status == 69
    assert f"hint: start it with: vpnpf up {profile}" in absent.stderr
    await process.must(("ip", "netns", "add", namespace.name), doing="making a namespace")
    try:
        namespace.files.make()
        async with (
            program(outside, tmp_path / "a", "mysqld", "0.0.0.0:3306"),
            program(inside, tmp_path / "b", "redis-server", "0.0.0.0:6379"),
        ):
            done = await outside.run(argv, env=env)
        assert done.status == 1, done.stderr
        said = json.loads(done.stdout)
        assert [one["port"] for each in said["open"] for one in each["listeners"]] == [6379]
        assert kinds(said) == {("warning", "open-all"), ("danger", "redis")}
    finally:
        clean_up(profile)
