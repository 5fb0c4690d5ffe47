"""`vpnpf run` as a whole: a real tunnel, a real gateway, a real qBittorrent, and a host on the internet."""

import signal

import pytest

from mock_provider.capture import leak
from mock_provider.product import Product, traces, unique_profile, write_config
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.topology import EXIT

pytestmark = pytest.mark.system

PROOFS = ("tunnel", "lease", "firewall", "client", "listening", "reachable")


@pytest.fixture
def profile():
    return unique_profile()


@pytest.fixture
async def client(provider, tmp_path):
    async with QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as daemon:
        yield daemon


@pytest.fixture
def config(provider, client, profile, tmp_path):
    return write_config(tmp_path, provider, client, profile)


def ready(state):
    return state["phase"] == "ready"


def proven(product, *names):
    proofs = product.forward()["proofs"]
    return all(proofs[name]["ok"] for name in names)


async def test_the_main_job(provider, client, profile, config, tmp_path):
    provider.gateway.lifetime = 4
    before = await traces(provider.lab.client)
    async with (
        provider.lab.capture(leak()) as leaked,
        Product(provider.lab.client, tmp_path, config, profile) as product,
    ):
        await product.until(ready)
        first = product.forward()["external_port"]
        assert proven(product, *PROOFS[:-1])
        assert product.forward()["proofs"]["reachable"]["ok"] is None
        assert (await provider.peer.connect_tcp(EXIT, first)).connected
        await product.until(lambda _: proven(product, *PROOFS))

        provider.gateway.rotate()
        await product.until(
            lambda _: product.forward()["external_port"] not in {None, first} and proven(product, *PROOFS[:-1])
        )
        second = product.forward()["external_port"]
        preferences = await client.preferences()
        assert preferences["listen_port"] == second
        assert not preferences["random_port"]
        assert not preferences["upnp"]
        assert (await provider.peer.connect_tcp(EXIT, second)).connected
        assert not (await provider.peer.connect_tcp(EXIT, first)).connected
        assert [event["external_port"] for event in product.notices("port")] == [first, second]
        assert not product.notices("problem")

        assert await product.stop() == 0
        assert await leaked.count() == 0
    assert not provider.gateway.mappings
    assert await traces(provider.lab.client) == before


async def test_killed_it_blocks_and_the_next_run_takes_over(provider, client, profile, config, tmp_path):
    before = await traces(provider.lab.client)
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        await product.until(ready)
        port = product.forward()["external_port"]
        product.signal(signal.SIGKILL)
        await product.ended()
    assert "table inet vpnpf" in await provider.lab.client.must(("nft", "list", "ruleset"))
    async with (
        provider.lab.capture(leak()) as leaked,
        Product(provider.lab.client, tmp_path, config, profile) as product,
    ):
        await product.until(ready)
        assert product.forward()["external_port"] == port
        assert await leaked.count() == 0
        assert await product.stop() == 0
    assert await traces(provider.lab.client) == before


async def test_a_lost_tunnel_closes_first_and_comes_back(provider, client, profile, config, tmp_path):
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        state = await product.until(ready)
        await provider.lab.client.must(("ip", "link", "del", state["tunnel"]["interface"]))
        async with provider.lab.capture(leak()) as leaked:
            await product.until(lambda state: state["phase"] == "blocked", deadline=30)
            assert product.state["policy"]["stage"] in {"connected", "blocked"}
            await product.until(ready, deadline=30)
            assert await leaked.count() == 0
        assert proven(product, *PROOFS[:-1])
        port = product.forward()["external_port"]
        assert (await provider.peer.connect_tcp(EXIT, port)).connected
        assert await product.stop() == 0


async def test_a_restarted_client_is_put_right(provider, client, profile, config, tmp_path):
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        await product.until(ready)
        port = product.forward()["external_port"]
        await client.set_preferences({"listen_port": 6881})
        await product.until(lambda _: product.forward()["proofs"]["client"]["ok"] is False, deadline=45)
        await product.until(lambda _: proven(product, *PROOFS[:-1]), deadline=45)
        assert (await client.preferences())["listen_port"] == port
        assert (await provider.peer.connect_tcp(EXIT, port)).connected


async def test_a_gateway_that_refuses_is_told_with_a_hint(provider, client, profile, config, tmp_path):
    provider.gateway.refuse = True
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        await product.until(lambda state: bool(state["problems"]))
        problem = product.state["problems"][0]
        assert problem["kind"] == "misconfigured"
        assert "NAT-PMP" in problem["hint"]
        assert product.state["phase"] == "failed"
        assert await product.stop() == 0
    assert "hint" in product.talk


async def test_a_port_without_a_client_is_redirected_to_a_fixed_one(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    config = tmp_path / "config.toml"
    config.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "proton.conf" }}
forwards.game = {{ protocols = ["tcp"], internal_port = 25565 }}
""")
    with provider.lab.client.socket() as server:
        server.bind(("0.0.0.0", 25565))
        server.listen()
        async with Product(provider.lab.client, tmp_path, config, profile) as product:
            await product.until(lambda state: state["phase"] == "ready")
            game = product.forward("game")
            assert game["announced"]
            assert (await provider.peer.connect_tcp(EXIT, game["external_port"])).connected
            await product.until(lambda _: product.forward("game")["proofs"]["reachable"]["ok"])
            assert product.forward("game")["proofs"]["listening"]["ok"]
            assert await product.stop() == 0


async def test_block_all_lets_nobody_in_and_says_so(provider, client, profile, config, tmp_path):
    config.write_text(config.read_text().replace('"allow-list"\nallow = ["forwarded"]', '"block-all"'))
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        await product.until(lambda state: state["forwards"][0]["proofs"]["firewall"]["ok"] is False)
        await product.until(lambda _: proven(product, "client", "listening"))
        assert "block-all" in product.forward()["proofs"]["firewall"]["evidence"]
        assert not (await provider.peer.connect_tcp(EXIT, product.forward()["external_port"])).connected


# -- bad input: a clear error, a sysexits code, and nothing changed -------------------------------


async def refused(provider, tmp_path, config, profile, wrap=(), **environment):
    """Run it to its end; returns (status, what it said). Fails if anything on the machine changed."""
    before = await traces(provider.lab.client)
    product = Product(provider.lab.client, tmp_path, config, profile, wrap=wrap, env=environment)
    async with product:
        status = await product.ended()
    assert await traces(provider.lab.client) == before
    assert not product.events
    assert "Traceback" not in product.talk
    return status, product.talk


async def test_all_mistakes_of_a_configuration_in_one_go(provider, profile, config, tmp_path):
    text = config.read_text()
    text = text.replace('mode = "allow-list"', 'mode = "alow-list"').replace('client = "qb"', 'cleint = "qb"')
    config.write_text(text.replace('"forwarded"', '"70000/tcp"'))
    status, said = await refused(provider, tmp_path, config, profile)
    assert status == 78
    assert "allow-list" in said
    assert "client" in said
    assert "70000" in said
    assert said.count("config.toml") >= 3


@pytest.mark.parametrize("line", ["PostUp = touch /tmp/owned", "SaveConfig = true", "Tabel = 5"])
async def test_a_tunnel_file_with_scripts_or_unknown_keys_is_refused(provider, profile, config, tmp_path, line):
    tunnel = tmp_path / "proton.conf"
    text = tunnel.read_text().replace("[Peer]", f"{line}\n[Peer]")
    tunnel.write_text(text)
    number = text.splitlines().index(line) + 1
    status, said = await refused(provider, tmp_path, config, profile)
    assert status == 78
    assert f"proton.conf:{number}" in said


async def test_a_missing_tunnel_file(provider, profile, config, tmp_path):
    (tmp_path / "proton.conf").unlink()
    status, said = await refused(provider, tmp_path, config, profile)
    assert status == 78
    assert "proton.conf" in said


async def test_a_missing_configuration(provider, profile, tmp_path):
    status, said = await refused(provider, tmp_path, tmp_path / "none.toml", profile)
    assert status == 78
    assert "none.toml" in said


async def test_an_unknown_profile(provider, config, tmp_path, profile):
    status, said = await refused(provider, tmp_path, config, profile[:-1] + "x")
    assert status == 64
    assert profile in said


async def test_without_root(provider, profile, config, tmp_path):
    drop = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs")
    status, said = await refused(provider, tmp_path, config, profile, wrap=drop)
    assert status == 77
    assert "root" in said
    assert "hint" in said


@pytest.mark.parametrize(
    ("hidden", "named"),
    [("/dev/net/tun", "/dev/net/tun"), ("/usr/bin/wg", "wireguard-tools"), ("/usr/sbin/nft", "nftables")],
)
async def test_without_a_device_or_program(provider, profile, config, tmp_path, hidden, named):
    hide = ("unshare", "--mount", "sh", "-c", f'mount --bind /dev/null {hidden} && exec "$@"', "sh")
    status, said = await refused(provider, tmp_path, config, profile, wrap=hide)
    assert status == 69
    assert named in said


async def test_two_on_one_profile(provider, client, profile, config, tmp_path):
    async with Product(provider.lab.client, tmp_path, config, profile) as product:
        await product.until(ready)
        status, said = await refused(provider, tmp_path, config, profile)
        assert status == 69
        assert str(product.pid) in said
        assert product.state["phase"] == "ready"


# -- several servers ------------------------------------------------------------------------------


def beside(provider):
    """What is a leak at every one of the provider's servers."""
    tests = [leak(site.place.address, site.place.port) for site in provider.servers]
    return lambda packet: all(test(packet) for test in tests)


async def test_a_server_without_port_forwarding_is_left_for_the_next(profile, tmp_path):
    async with MockProvider(servers=2) as provider:
        for number in (0, 1):
            provider.servers[number].client_config(tmp_path / f"server-{number}.conf")
        config = tmp_path / "config.toml"
        config.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = ["server-0.conf", "server-1.conf"] }}
forwards.game = {{ }}
""")
        provider.servers[0].gateway.refuse = True
        async with (
            provider.lab.capture(beside(provider)) as leaked,
            Product(provider.lab.client, tmp_path, config, profile) as product,
        ):
            await product.until(ready, deadline=40)
            assert product.state["server"] == {"number": 2, "of": 2}
            assert [event["remedy"] for event in product.notices("remedy")] == ["next server"]
            assert "remedy" in [entry["event"] for entry in product.state["timeline"]]
            port = product.forward("game")["external_port"]
            assert {rule.external_port for rule in provider.servers[1].gateway.mappings} == {port}
            assert await leaked.count() == 0
            assert await product.stop() == 0
