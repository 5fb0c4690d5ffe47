"""The lock's modes and its two layers, with the real product and packets on the cable."""

import asyncio
import re
import signal
import sys

import pytest

from mock_provider.capture import leak
from mock_provider.peer import Echo, Peer, Result
from mock_provider.product import Product, traces, unique_profile
from mock_provider.topology import CLIENT, EXIT, INTERNET, SERVER
from vpnpf.firewall.boot import ROUTES, RULES
from vpnpf.store import InstanceLock

pytestmark = pytest.mark.system

PORT = 7000
SHORT = 0.3
CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
lock = {{ mode = "{mode}" }}
forwards.game = {{}}
"""


class World:
    """A machine with a configuration."""

    def __init__(self, provider, directory):
        self.provider, self.directory, self.host = provider, directory, provider.lab.client
        self.profile = unique_profile()
        self.config = directory / "config.toml"

    def product(self, mode):
        self.provider.client_config(self.directory / "proton.conf")
        self.config.write_text(CONFIG.format(profile=self.profile, mode=mode))
        return Product(self.host, self.directory, self.config, self.profile)

    async def command(self, *arguments):
        env = {f"{name}_DIRECTORY": str(self.directory / name.lower()) for name in ("STATE", "RUNTIME")}
        argv = (sys.executable, "-m", "vpnpf", *arguments)
        process = await self.host.popen(argv, stdout=-1, stderr=-1, env={**env, "HOME": str(self.directory)})
        _, said = await process.communicate()
        return process.returncode, said.decode()

    async def source(self):
        """The address that a connection to the internet comes from; None: it does not get there."""
        async with Echo(self.provider.lab.internet, INTERNET, PORT) as web:
            await Peer(self.host).send_udp(INTERNET, PORT, deadline=SHORT)
            return web.seen[0].source if web.seen else None

    async def marked(self):
        """Send a packet with the tunnel's mark to the server; how many packets of any kind left."""
        (mark,) = set(re.findall(r"not from all fwmark (0x[0-9a-f]+) ", await self.host.must(("ip", "rule"))))
        script = (
            "import socket; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            f"s.setsockopt(1, 36, {mark}); s.sendto(b'x', ('{SERVER}', 51820))"
        )
        async with self.provider.lab.capture(leak(endpoint="nobody")) as left:
            process = await self.host.popen((sys.executable, "-c", script), stderr=-1)
            await process.communicate()
            return await left.count()

    async def bound(self):
        """As `source`, by a socket that is bound to the uplink."""
        script = (
            "import socket,sys; s=socket.socket(socket.AF_INET, socket.SOCK_DGRAM);"
            f"s.setsockopt(1, 25, b'eth0'); s.sendto(b'x', ('{INTERNET}', {PORT}))"
        )
        async with Echo(self.provider.lab.internet, INTERNET, PORT) as web:
            process = await self.host.popen((sys.executable, "-c", script), stderr=-1)
            await process.communicate()
            return web.seen[0].source if web.seen else None


@pytest.fixture
def world(provider, tmp_path):
    return World(provider, tmp_path)


def ready(state):
    return state["phase"] == "ready"


async def test_on_unlocks_at_a_clean_stop_and_holds_after_a_kill(world):
    before = await traces(world.host)
    async with world.product("on") as product:
        await product.until(ready)
        assert await world.source() == EXIT
        assert await product.stop() == 0
    assert await world.source() == CLIENT
    assert await traces(world.host) == before
    async with world.product("on") as product:
        state = await product.until(ready)
        product.signal(signal.SIGKILL)
        await product.ended()
    await world.host.must(("ip", "link", "del", state["tunnel"]["interface"]))
    async with world.provider.lab.capture(leak()) as leaked:
        assert await world.source() is None
        assert await world.bound() is None
        # One layer at a time: either holds without the other.
        await world.host.must(("nft", "flush", "ruleset"))
        assert await world.source() is None
        assert await leaked.count() == 0
    status, said = await world.command("unlock", "--config", str(world.config))
    assert (status, said) == (0, "unlocked: everything goes its usual way\n")
    assert await world.source() == CLIENT
    assert await traces(world.host) == before


async def test_lockdown_blocks_when_stopped_and_from_boot_on_until_it_is_unlocked(world):
    before = await traces(world.host)
    async with world.product("lockdown") as product:
        await product.until(ready)
        assert await world.marked() > 0, "the control"
        assert await product.stop() == 0
        assert "unlock" in product.talk
    assert await world.marked() == 0
    async with world.provider.lab.capture(leak()) as leaked:
        assert await world.source() is None
        assert await world.bound() is None
        boot = world.directory / "state" / "lockdown"
        # As after a boot: the rules and routes are gone, and the unit puts them up again.
        await world.host.must(("nft", "flush", "ruleset"))
        for family in ROUTES:
            await world.host.must(("ip", family, "rule", "flush", "protocol", "118"))
        assert await leaked.count() == 0
        assert await world.bound() == CLIENT, "the control"
    async with world.provider.lab.capture(leak()) as leaked:
        await world.host.must(("nft", "-f", str(boot / RULES)))
        for family, name in ROUTES.items():
            await world.host.must(("ip", family, "-force", "-batch", str(boot / name)))
        assert await world.source() is None
        assert await world.bound() is None
        # It comes up out of that, and nothing goes beside the tunnel.
        async with world.product("lockdown") as product:
            await product.until(ready)
            assert await world.source() == EXIT
            refused, said = await world.command("unlock")
            assert refused == 69
            assert "end it first" in said
            assert await product.stop() == 0
        assert await leaked.count() == 0
    assert (await world.command("unlock", "--config", str(world.config)))[0] == 0
    assert not boot.exists()
    assert await world.source() == CLIENT
    assert await traces(world.host) == before


async def test_unlock_gives_block_and_resolver_back_without_a_configuration(world):
    before = await traces(world.host)
    async with world.product("on") as product:
        await product.until(ready)
        product.signal(signal.SIGKILL)
        await product.ended()
    assert world.host.resolver.read_text() != before["resolver"], "the control"
    for wrong in ("[profiles.home]\nprovider = 1\n", None):
        broken = world.directory / "broken.toml"
        broken.write_text(wrong) if wrong else broken.unlink()
        status, said = await world.command("unlock", "--config", str(broken))
        assert (status, "only the block" in said) == (0, True)
        assert world.host.resolver.read_text() == before["resolver"]
        assert await world.source() == CLIENT
    assert (await world.command("unlock", "--config", str(world.config)))[0] == 0
    assert await traces(world.host) == before


async def test_unlock_leaves_alone_the_tunnel_of_a_profile_that_runs_in_another_namespace(world):
    """The control: what nobody holds is undone."""
    world.product("on")
    kept = world.directory / "runtime" / f"profile-{world.profile}" / "rp_filter"
    kept.parent.mkdir(parents=True, mode=0o700)
    kept.parent.parent.chmod(0o700)
    kept.write_text("0\n")
    with InstanceLock(world.directory / "runtime", f"profile-{world.profile}", "runs the profile, elsewhere"):
        status, said = await world.command("unlock", "--config", str(world.config))
        assert (status, "not undone" in said, "runs the profile" in said) == (0, True, True)
        assert kept.exists()
    status, said = await world.command("unlock", "--config", str(world.config))
    assert (status, "not undone" in said) == (0, False)
    assert not kept.exists()


async def test_lock_puts_it_up_without_a_tunnel(world):
    before = await traces(world.host)
    world.product("lockdown")
    status, said = await world.command("lock", "--config", str(world.config))
    assert (status, "locked" in said) == (0, True)
    assert await world.source() is None
    assert await world.bound() is None
    assert (await world.command("unlock", "--config", str(world.config)))[0] == 0
    assert await traces(world.host) == before
    world.product("on")
    status, said = await world.command("lock", "--config", str(world.config))
    assert status == 64
    assert 'mode = "lockdown"' in said


async def test_off_blocks_nothing_but_what_comes_in_through_the_tunnel(world):
    before = await traces(world.host)
    async with world.product("off") as product:
        state = await product.until(ready)
        assert await world.source() == EXIT
        port = product.forward("game")["external_port"]
        assert (await world.provider.peer.connect_tcp(EXIT, port, deadline=SHORT)).result is not Result.TIMED_OUT
        neighbour = Peer(world.provider.lab.router)
        assert (await neighbour.connect_tcp(CLIENT, port, deadline=SHORT)).result is Result.REFUSED
        await world.provider.server.mute()
        await world.host.must(("ip", "link", "del", state["tunnel"]["interface"]))
        await product.until(lambda state: state["phase"] == "blocked" and "usual way" in product.talk)
        async with asyncio.timeout(5):
            while await world.source() != CLIENT:
                pass
        await world.provider.server.unmute()
        await product.until(ready, deadline=40)
        assert await product.stop() == 0
    assert await traces(world.host) == before


async def test_the_prefix_of_a_network_that_was_left_is_no_lan_of_the_next(world):
    """The router of a network that is joined must not get what was meant for a machine at home."""
    lab, script = (
        world.provider.lab,
        (
            "import socket\ns = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
            "try: s.sendto(b'x', ('192.168.77.50', 445))\nexcept OSError: pass"
        ),
    )

    async def sent():
        async with lab.capture(lambda packet: packet.outbound and packet.destination == "192.168.77.50") as left:
            process = await world.host.popen((sys.executable, "-c", script))
            await process.communicate()
            return await left.count()

    async with world.product("on") as product:
        await product.until(ready)
        await lab.router.must(("ip", "address", "add", "10.99.0.1/24", "dev", "p-client"))
        await world.host.must(("ip", "address", "add", "10.99.0.2/24", "dev", "eth0"))
        await world.host.must(("ip", "address", "del", "192.168.77.2/24", "dev", "eth0"))
        await world.host.must(("ip", "route", "replace", "default", "via", "10.99.0.1", "dev", "eth0"))
        assert await sent() == 0
        rule = ("ip", "rule", "add", "to", "192.168.77.0/24", "lookup", "main", "priority", "7000")
        await world.host.must(rule)
        assert await sent() > 0, "the control"
        assert await product.stop() == 0


PROBES = """
import itertools, socket, time
def made(family, device):
    s = socket.socket(family, socket.SOCK_DGRAM)
    s.setblocking(False)
    if device:
        s.setsockopt(1, 25, device)
    return s
for n in itertools.count():
    for family, to in ((socket.AF_INET, "203.0.113.80"), (socket.AF_INET6, "2001:db8:80::80")):
        for device in (b"", b"eth0"):
            try:
                with made(family, device) as s:
                    s.sendto(b"probe", (to, 7000))
            except OSError:
                pass
    if not n:
        print("begun", flush=True)
    time.sleep(0.002)
"""


async def test_restarts_with_another_mode_or_profile_let_nothing_out(world):
    """Stopped, killed and started anew as the other profile or in the other mode, with probes all the time."""
    before = await traces(world.host)
    other = World(world.provider, world.directory)
    probes = None
    try:
        async with world.product("lockdown") as product:
            await product.until(ready)
            async with world.provider.lab.capture(leak()) as leaked:
                probes = await world.host.popen((sys.executable, "-c", PROBES), stdout=-1)
                await probes.stdout.readline()
                assert await product.stop() == 0
                for who, mode, kill in (
                    (world, "on", True),
                    (other, "on", True),
                    (world, "lockdown", True),
                    (other, "lockdown", False),
                    (world, "lockdown", False),
                ):
                    async with who.product(mode) as another:
                        await another.until(ready)
                        if kill:
                            another.signal(signal.SIGKILL)
                            await another.ended()
                        else:
                            assert await another.stop() == 0
                assert await leaked.count() == 0
        async with world.provider.lab.capture(leak()) as leaked:
            assert (await world.command("unlock", "--config", str(world.config)))[0] == 0
            async with asyncio.timeout(5):
                while not await leaked.count():
                    pass  # the control
    finally:
        if probes is not None:
            probes.kill()
            await probes.communicate()
    other.product("on")
    assert (await world.command("unlock", "--config", str(other.config)))[0] == 0
    assert await traces(world.host) == before


@pytest.mark.alone  # the second is what is promised
@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "nft delete table inet vpnpf",
        "nft flush chain inet vpnpf output",
        "ip rule flush protocol 118",
        "ip -6 rule flush protocol 118",
        "ip route flush protocol 118 table all",
    ],
)
async def test_what_somebody_takes_away_is_back_within_a_second(world, damage):
    async with world.product("on") as product:
        await product.until(ready)
        rules = ("nft", "-s", "list", "table", "inet", "vpnpf")
        chains = (await world.host.must(rules)).count("chain ")
        both = [
            ("ip", family, *what) for family in ("-4", "-6") for what in (("rule",), ("route", "show", "table", "all"))
        ]
        before = [await world.host.must(argv) for argv in both]
        await world.host.must(tuple(damage.split()))
        async with asyncio.timeout(1):
            while True:
                done = await world.host.run(rules)
                same = [await world.host.must(argv) for argv in both] == before
                if same and done.stdout.count("counter drop") > 3 and done.stdout.count("chain ") == chains:
                    break
        assert await product.stop() == 0
