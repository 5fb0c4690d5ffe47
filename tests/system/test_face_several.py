"""The face over real runs: two servers, two forwards, a torrent client, and a second profile with a namespace of its own."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest
from msgspec.structs import replace

from mock_provider.product import Product, traces, unique_profile
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from tests.contract.tunnels import until
from tests.system.namespace_world import clean_up, ready
from tests.system.pressing import ON_SEVERAL, Pressed, applied, on_top, planned, soon
from tests.system.test_up_down import Cli
from tests.tui.pilots import closed, said
from tests.tui.snapshots import picture
from vpnpf import launch
from vpnpf.tui.link import SocketLink
from vpnpf.tui.view import Reach

pytestmark = pytest.mark.system

CONFIG = """\
[profiles.{home}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = ["server-0.conf", "server-1.conf"] }}
policy = {{ mode = "allow-list", allow = ["forwarded"] }}
forwards.torrent = {{ client = "qb" }}
forwards.game = {{ protocols = ["tcp"], internal_port = 25565 }}
[profiles.{away}]
provider = "protonvpn"
tunnel = {{ type = "wireguard", config = "away.conf", namespace = true }}
forwards.web = {{ protocols = ["tcp"], internal_port = 8000 }}
[clients.qb]
type = "qbittorrent"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""


class World:
    """A provider with two servers, a client of it and another machine beside that, and who runs there."""

    def __init__(self, provider, client, directory):
        self.provider, self.client, self.directory = provider, client, directory
        self.host = provider.lab.client
        self.gateways = [site.gateway for site in provider.servers]
        self.home, self.away = unique_profile(), unique_profile()
        self.config = directory / "vpnpf" / "config.toml"
        self.password = self.config.with_name("qb.password")
        self.cli = Cli(self.host, directory)
        self.launched = []

    async def configure(self):
        self.config.parent.mkdir()
        for number, site in enumerate(self.provider.servers):
            site.client_config(self.config.with_name(f"server-{number}.conf"))
        (await self.provider.servers[0].server.add_client()).write(self.config.with_name("away.conf"))
        names = {"home": self.home, "away": self.away}
        self.config.write_text(CONFIG.format(url=self.client.url, username=self.client.username, **names))
        self.password.touch(mode=0o600)
        self.password.write_text(self.client.password)

    def run(self, profile, host):
        return Product(host, self.directory, self.config, profile)

    def start_in_the_lab(self, monkeypatch):
        """What the face starts is started in the lab, as all of it is there on a person's machine."""
        begin = launch.launch

        def there(plan):
            self.launched.append(begin(replace(plan, command=self.host._argv(plan.command, None))))
            return self.launched[-1]

        monkeypatch.setattr(launch, "launch", there)

    def held(self, number, address=None):
        """The external ports that a gateway forwards to the first customer, by internal port."""
        own = address or self.provider.servers[number].customer.address
        rules = [rule for rule in self.gateways[number].mappings if rule.address == own.partition("/")[0]]
        return {rule.internal_port: rule.external_port for rule in rules}

    async def listens(self):
        return (await self.client.preferences())["listen_port"]

    async def rules(self):
        return await self.host.must(("nft", "list", "table", "inet", "vpnpf"))


@pytest.fixture
async def world(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    for name in ("STATE_DIRECTORY", "RUNTIME_DIRECTORY"):
        monkeypatch.setenv(name, str(tmp_path / name.partition("_")[0].lower()))
    async with (
        MockProvider(servers=2, lan_host=True) as provider,
        QBittorrent(provider.lab.client, tmp_path / "qbittorrent") as client,
    ):
        made = World(provider, client, tmp_path)
        await made.configure()
        made.start_in_the_lab(monkeypatch)
        yield made
        for each in made.launched:
            each._process.kill()
            await asyncio.to_thread(each._process.wait)
    clean_up(made.away)


def port(pilot):
    return pilot.app.view.port


async def each_forward_is_looked_at_and_its_port_copied(pilot, world):
    names = []
    for _ in range(2):
        await pilot.press("c")
        forward = pilot.app.view.forward
        names.append(forward.name)
        assert pilot.app.clipboard == str(forward.external_port)
        held = world.held(0)
        if forward.name == "game":
            assert held[25565] == forward.external_port
        else:
            assert await world.listens() == forward.listen_port
            assert forward.external_port in held.values()
        await pilot.press("f")
    assert names == ["torrent", "game"]
    assert pilot.app.view.forward.name == "torrent"


async def the_clients_settings_are_those_that_it_has(pilot, world):
    await pilot.press("t")
    await on_top(pilot, "Client")
    has = await world.client.preferences()
    for each in (str(has["listen_port"]), has["current_network_interface"]):
        assert f"{each}  ✓" in said(pilot)
    await pilot.press("escape")


async def themes_and_help(pilot):
    await closed(pilot)
    seen = [picture(pilot.app)]
    for _ in range(3):
        await pilot.press("v")
        pilot.app.clear_notifications()
        await pilot.pause()
        seen.append(picture(pilot.app))
    assert len(set(seen[:3])) == 3
    assert pilot.app.theme == "dark"
    await pilot.press("question_mark")
    await on_top(pilot, "Help")
    assert "Ask the provider for another port" in said(pilot)
    await pilot.press("escape")
    await closed(pilot)


async def the_other_server(pilot, world):
    site = world.provider.servers[1]
    await pilot.press("s")
    await on_top(pilot, "Servers")
    await pilot.press(*"server-1")  # by the name of its file: no tunnel went there yet, so nothing else is known of it
    await soon(pilot, lambda: "1 of 2 servers" in said(pilot))
    await pilot.press("enter")
    await soon(pilot, lambda: f"At {site.place.address}" in said(pilot))
    device = pilot.app.view.seen.tunnel.interface
    assert site.place.address in await world.host.must(("wg", "show", device, "endpoints"))
    assert set(world.held(1).values()) == {each.external_port for each in pilot.app.view.seen.forwards}
    await until(lambda: is_told(pilot, world))


async def is_told(pilot, world):
    return await world.listens() == pilot.app.view.seen.forwards[0].listen_port


async def another_port(pilot, name):
    """Press n for one of the forwards, and wait until it has another port."""
    old = port_of(pilot, name)
    await closed(pilot)
    await pilot.press("n")
    await on_top(pilot, "Choose")
    await pilot.press("down", *(["down"] if name == "game" else []), "enter")
    await on_top(pilot, "Confirm")
    await pilot.press("right", "enter")
    await soon(pilot, lambda: f"{old} → " in said(pilot))
    await closed(pilot)


def port_of(pilot, name):
    return next(each.external_port for each in pilot.app.view.seen.forwards if each.name == name)


async def one_of_two_ports_is_another_and_both_are_renewed(pilot, world):
    before = world.held(1)
    await another_port(pilot, "game")
    after = world.held(1)
    assert after.pop(25565) != before.pop(25565)
    assert after == before
    asked = len(world.gateways[1].log)
    await pilot.press("r")
    await on_top(pilot, "Choose")
    await pilot.press("enter")
    await soon(pilot, lambda: "torrent: confirmed" in said(pilot))
    assert "game: confirmed" in said(pilot)
    assert len(world.gateways[1].log) > asked
    await closed(pilot)


async def shown(world):
    """The policy as the command line has it, which reads the rules back."""
    code, out, error = await world.cli("policy", "show", world.home, "--config", str(world.config), "--json")
    assert code == 0, error
    return json.loads(out)


async def somebody_else_changes_the_policy_meanwhile(pilot, world):
    await pilot.press("p")
    await on_top(pilot, "Policy")
    await pilot.press("down", "down", "enter")
    screen = await planned(pilot)
    code, _, error = await world.cli("policy", "open", world.home, "2222/tcp", "--config", str(world.config), "--yes")
    assert code == 0, error
    assert "2222" in await world.rules()
    await pilot.click("#apply")
    await soon(pilot, lambda: "Somebody else changed the policy" in said(pilot))
    assert "2222" in await world.rules()
    await soon(pilot, lambda: not screen.query_one("#apply").disabled)
    assert await pilot.click("#apply")
    await soon(pilot, lambda: "In force: block-all" in said(pilot))
    assert (await shown(world))["policy"]["mode"] == "block-all"
    await closed(pilot)
    await pilot.press("p")
    await on_top(pilot, "Policy")
    await pilot.press("end", "enter")
    await applied(pilot)
    await soon(pilot, lambda: "In force: allow-list" in said(pilot))
    assert (await shown(world))["differs"] is False
    assert "2222" not in await world.rules()
    await closed(pilot)


async def a_login_is_made_anew(pilot, world):
    old, client = client_password(world), world.client
    await client.stop()
    client.password = "another battery staple"
    client.settings_file.write_text(client.first_settings())
    await client.start()
    # The session is over, and what is kept is wrong; another port has to be told, so that this shows at once.
    await another_port(pilot, "torrent")
    await soon(pilot, lambda: pilot.app.view.seen.forwards[0].proofs["client"].ok is False)
    pilot.app.clear_notifications()
    await pilot.press("l")
    screen = await on_top(pilot, "Login")
    await pilot.press(*"wrong", "enter")
    await soon(pilot, lambda: "Nothing was kept" in said(pilot))
    assert client_password(world) == old
    await pilot.press(*(("space" if letter == " " else letter) for letter in client.password), "enter")
    await soon(pilot, lambda: f"logged in; kept in {world.password}" in said(pilot))
    assert client_password(world) == client.password
    assert world.password.stat().st_mode & 0o777 == 0o600
    assert client.password not in str(vars(screen))
    await soon(pilot, lambda: pilot.app.view.seen.forwards[0].proofs["client"].ok)
    assert await is_told(pilot, world)
    await closed(pilot)


def client_password(world):
    return world.password.read_text().strip()


async def the_other_profile_and_back(pilot, world, other):
    theirs = other.forward("web")["external_port"]
    ours = port(pilot)
    for profile, there in ((world.away, theirs), (world.home, ours)):
        await pilot.press("o")
        screen = await on_top(pilot, "Choose")
        texts = [str(each.prompt) for each in screen.query_one("OptionList").options]
        (row,) = [number for number, text in enumerate(texts) if text.startswith(f"{profile}\n")]
        assert f"port {there}" in texts[row] or profile == world.home
        screen.query_one("OptionList").highlighted = row
        await pilot.press("enter")
        await soon(pilot, lambda profile=profile: pilot.app.view.profile == profile and port(pilot))
        assert port(pilot) == there
        await closed(pilot)
    assert theirs in world.gateways[0].external_ports


async def one_that_died_is_started_again(pilot, world, product):
    product.signal(signal.SIGKILL)
    await product.ended()
    await soon(pilot, lambda: pilot.app.view.reach is Reach.AWAY)
    pilot.app.clear_notifications()
    await pilot.press("d")
    await on_top(pilot, "Confirm")
    assert f"{world.home} is not running" in said(pilot)
    await pilot.press("enter")
    await soon(pilot, lambda: pilot.app.view.reach is Reach.ATTACHED and pilot.app.view.seen.phase == "ready")
    await closed(pilot)
    pid = world.cli.background(world.home)
    assert pid not in {None, product.pid}
    assert pid in world.host.processes
    assert {each.external_port for each in pilot.app.view.seen.forwards} == set(world.held(0).values())
    await until(lambda: is_told(pilot, world))


async def test_what_is_pressed_is_done_where_there_are_several(world):
    lan, before = world.provider.lab.lan, await traces(world.host)
    async with world.run(world.home, world.host) as product, world.run(world.away, lan) as other:
        await asyncio.gather(product.until(ready), other.until(ready))
        async with Pressed(SocketLink(world.home)).run_test(size=(120, 40)) as pilot:
            await soon(pilot, lambda: port(pilot))
            await each_forward_is_looked_at_and_its_port_copied(pilot, world)
            await the_clients_settings_are_those_that_it_has(pilot, world)
            await themes_and_help(pilot)
            await the_other_server(pilot, world)
            await one_of_two_ports_is_another_and_both_are_renewed(pilot, world)
            await somebody_else_changes_the_policy_meanwhile(pilot, world)
            await a_login_is_made_anew(pilot, world)
            await the_other_profile_and_back(pilot, world, other)
            await one_that_died_is_started_again(pilot, world, product)
            kept = port(pilot)
            await pilot.press("q")
        assert pilot.app.return_value.startswith(f"vpnpf keeps port {kept} ({world.home})")
        assert pilot.app.pressed == ON_SEVERAL
        assert kept in world.gateways[0].external_ports
        assert (await world.cli("down", world.home))[0] == 0
        assert not world.held(0)
        assert await other.stop() == 0
    assert await traces(world.host) == before
