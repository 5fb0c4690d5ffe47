"""The Transmission driver: the suites of every client, and what only Transmission does."""

import base64
import json

import pytest

from mock_provider.transmission import Transmission as Daemon
from tests.contract.client_world import ADDRESS, OTHER_PORT, PORT, SECRET, inodes, listening, text_of, until
from tests.contract.clients import ClientSuite
from tests.contract.strangers import StrangerSuite, fake
from vpnpf.api import ClientOptions, ListenSettings, Misconfigured, Protocol, Transient, Unsupported
from vpnpf.clients.transmission import Transmission, rpc_url
from vpnpf.io.http import HttpClient
from vpnpf.io.sockets import KernelSockets

WANTED = ListenSettings(PORT, "")


@pytest.mark.system
class TestTransmission(ClientSuite):
    driver = Transmission
    version = r"Transmission \d+\.\d+(\.\d+)*"
    failures_to_ban = 100

    @pytest.fixture
    async def daemon(self, host, tmp_path):
        async with Daemon(host, tmp_path / "transmission") as daemon:
            yield daemon

    async def said(self, daemon):
        settings = await daemon.settings()
        names = ("peer-port-random-on-start", "port-forwarding-enabled")
        return ListenSettings(settings["peer-port"], "", *(settings[name] for name in names))

    async def disturb(self, daemon):
        wrong = {"peer-port-random-on-start": True, "port-forwarding-enabled": True}
        await daemon.set_settings({**wrong, "peer-port": 41009})

    async def set_port(self, daemon, port):
        await daemon.set_settings({"peer-port": port})

    async def others(self, daemon):
        ours = {"peer-port", "peer-port-random-on-start", "port-forwarding-enabled", "download-dir-free-space"}
        return {name: value for name, value in (await daemon.settings()).items() if name not in ours}

    def edit(self, daemon, port):
        settings = json.loads(daemon.settings_file.read_text())
        daemon.settings_file.write_text(json.dumps(settings | {"peer-port": port}))

    def logins(self, http):
        return sum(call.status in {401, 409} for call in http.calls)

    @pytest.mark.parametrize("dht", [True, False])
    async def test_udp_follows_and_dht_stays_as_it_is(self, daemon, dht):
        await daemon.set_settings({"dht-enabled": dht})
        # The control: 3.00 by itself leaves the UDP socket where it is.
        await daemon.set_settings({"peer-port": OTHER_PORT})
        assert {each.protocol for each in await KernelSockets().listening(OTHER_PORT)} == {Protocol.TCP}
        client, http = self.make(daemon)
        await client.set_listen(WANTED)
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))
        assert (await daemon.settings())["dht-enabled"] is dht
        assert len(http.calls) == 4  # 409, session-get, and session-set twice

    async def test_a_device_is_nothing_that_it_can_be_told(self, daemon):
        client, http = self.make(daemon)
        with pytest.raises(Unsupported, match="any"):
            await client.set_listen(ListenSettings(PORT, "vpn0"))
        assert not http.calls

    async def test_an_address_in_its_settings_file_is_seen_by_the_kernel_alone(self, daemon):
        await daemon.stop()
        settings = json.loads(daemon.settings_file.read_text())
        daemon.settings_file.write_text(json.dumps(settings | {"bind-address-ipv4": ADDRESS}))
        await daemon.start()
        client, _ = self.make(daemon)
        await client.set_listen(WANTED)
        assert await client.get_listen() == WANTED
        assert not [name for name in await daemon.settings() if "bind" in name]
        found = await until(listening(PORT, Protocol.TCP, Protocol.UDP))
        assert {each.address for each in found} - {"::"} == {ADDRESS}

    async def test_a_port_test_without_a_way_out_is_no_answer_and_no_harm(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(WANTED)
        before = inodes(PORT)
        with pytest.raises(Transient, match="testing the port by Transmission") as caught:
            await client.test_port()
        assert text_of(caught.value).isprintable()
        assert inodes(PORT) == before

    async def test_a_host_name_that_is_not_on_its_whitelist_is_said(self, daemon):
        await daemon.stop()
        settings = json.loads(daemon.settings_file.read_text())
        daemon.settings_file.write_text(json.dumps(settings | {"rpc-authentication-required": False}))
        await daemon.start()

        class Elsewhere:
            async def request(self, method, url, *, headers, **more):
                return await HttpClient().request(method, url, headers={**headers, "host": "torrents.example"}, **more)

        with pytest.raises(Misconfigured, match="does not answer to") as caught:
            await Transmission(Elsewhere(), ClientOptions(daemon.url)).get_listen()
        assert "rpc-host-whitelist" in caught.value.hint
        assert await Transmission(HttpClient(), ClientOptions(daemon.url)).get_listen()

    async def test_an_address_that_is_not_on_its_whitelist_is_said(self, daemon):
        await daemon.stop()
        settings = json.loads(daemon.settings_file.read_text())
        daemon.settings_file.write_text(json.dumps(settings | {"rpc-whitelist": "192.0.2.1"}))
        await daemon.start()
        client, _ = self.make(daemon)
        with pytest.raises(Misconfigured, match="whitelist") as caught:
            await client.get_listen()
        assert "rpc-whitelist" in caught.value.hint


class TestStranger(StrangerSuite):
    driver = Transmission


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("http://127.0.0.1:9091", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://[::1]/", "http://[::1]:9091/transmission/rpc"),
        ("http://127.0.0.1:9091/transmission", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1:9091/transmission/web/", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1:9091/transmission/web/#confirm", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1:9091/transmission/rpc", "http://127.0.0.1:9091/transmission/rpc"),
        ("http://127.0.0.1:9091/torrents/rpc/", "http://127.0.0.1:9091/torrents/rpc"),
        ("https://nas.example", "https://nas.example/transmission/rpc"),
        ("https://nas.example/transmission/", "https://nas.example/transmission/rpc"),
    ],
)
def test_what_a_person_may_take_for_its_address(written, meant):
    assert rpc_url(written) == meant


class Later:
    """Transmission 4.0 or 4.1 as its source says; of 4.1 JSON-RPC 2.0 alone, so that the old dialect is noticed."""

    def __init__(self, semver="6.0.1", *, session="a" * 48):
        self.semver = semver
        self.session = session
        self.said = {"peer_port": 51413, "peer_port_random_on_start": True, "port_forwarding_enabled": True}
        self.said |= {"dht_enabled": True, "version": "4.1.1 (a0c1b2d3e4)"}
        self.open = True
        self.sets = []
        self.asked = []

    async def __call__(self, method, path, headers, body):
        self.asked.append(headers)
        pair = base64.b64encode(f"admin:{SECRET}".encode()).decode()
        if headers.get("authorization") != f"Basic {pair}":
            return 401, {"www-authenticate": 'Basic realm="Transmission"'}, b"<h1>401: Unauthorized</h1>"
        if headers.get("x-transmission-session-id") != self.session:
            version = {"x-transmission-rpc-version": self.semver} if self.semver else {}
            return 409, {"X-Transmission-Session-Id": self.session, **version}, b"<h1>409: Conflict</h1>"
        asked = json.loads(body)
        if not self.semver:
            return 200, {}, json.dumps(self._old(asked)).encode()
        if asked.get("jsonrpc") != "2.0":
            return 200, {}, json.dumps({"result": "no such method"}).encode()
        return 200, {}, json.dumps({"jsonrpc": "2.0", "id": asked["id"], **self._new(asked)}).encode()

    def _new(self, asked):
        match asked["method"]:
            case "session_get":
                return {"result": {name: self.said[name] for name in asked["params"]["fields"] if name in self.said}}
            case "session_set":
                self.sets.append(asked["params"])
                self.said |= asked["params"]
                return {"result": {}}
            case "port_test" if self.open is None:
                data = {"error_string": "Couldn't test port: No Response (0)", "result": {"ip_protocol": "ipv4"}}
                error = {"code": 7, "message": "HTTP error from backend service", "data": data}
                return {"error": error}
            case "port_test":
                return {"result": {"port_is_open": self.open, "ip_protocol": "ipv4"}}
        return {"error": {"code": -32601, "message": "Method not found"}}

    def _old(self, asked):
        params = {name.replace("-", "_"): value for name, value in asked.get("arguments", {}).items()}
        params |= {"fields": [name.replace("-", "_") for name in params.get("fields", ())]}
        if asked["method"] == "session-set":
            del params["fields"]
        said = self._new({"method": asked["method"].replace("-", "_"), "params": params})
        if "error" in said:
            return {"result": said["error"]["data"]["error_string"], "arguments": {}}
        return {"result": "success", "arguments": {n.replace("_", "-"): v for n, v in said["result"].items()}}


def old():
    server = Later("")
    server.said |= {"rpc_version": 17, "version": "4.0.6 (38c164933e)"}
    return server


def made(url, password=SECRET):
    return Transmission(HttpClient(), ClientOptions(url, "admin", lambda: password))


@pytest.mark.parametrize(("server", "version"), [(Later(), "4.1.1"), (old(), "4.0.6")])
async def test_both_dialects(server, version):
    async with fake(server) as url:
        client = made(url)
        assert await client.probe() == f"Transmission {version}"
        assert await client.get_listen() == ListenSettings(51413, "", random_port=True, port_mapping=True)
        await client.set_listen(WANTED)
        assert await client.get_listen() == WANTED
        names = ("peer_port", "peer_port_random_on_start", "port_forwarding_enabled")
        assert server.sets == [dict(zip(names, (PORT, False, False), strict=True))]
        await client.set_listen(WANTED)  # away from the port and back
        assert [each["peer_port"] for each in server.sets] == [PORT, PORT ^ 1, PORT]
        assert server.said["dht_enabled"] is True


@pytest.mark.parametrize("server", [Later(), old()])
async def test_what_a_port_test_says(server):
    async with fake(server) as url:
        client = made(url)
        for server.open in (True, False):
            assert await client.test_port() is server.open
        server.open = None
        with pytest.raises(Transient, match="No Response"):
            await client.test_port()


async def test_another_version_after_a_restart_is_spoken_to_in_its_own_dialect():
    server = old()
    async with fake(server) as url:
        client = made(url)
        await client.set_listen(WANTED)
        server.semver, server.session = "6.0.1", "b" * 48
        assert await client.get_listen() == WANTED
        server.semver, server.session = "", "c" * 48
        assert await client.get_listen() == WANTED
        assert len(server.asked) == 3 + 2 + 2


async def test_an_error_of_its_rpc_is_said():
    server = Later()
    del server.said["version"]
    async with fake(server) as url:
        with pytest.raises(Unsupported, match='nothing usable of "version"'):
            await made(url).probe()
        server.said["peer_port"] = True
        with pytest.raises(Unsupported, match='"peer-port"'):
            await made(url).get_listen()


async def test_a_wrong_password_is_not_repeated_and_nowhere_to_be_read():
    server = Later()
    async with fake(server) as url:
        client = made(url, "wrong-password")
        for _ in range(3):
            with pytest.raises(Misconfigured, match="wrong user name or password") as caught:
                await client.get_listen()
            assert "wrong-password" not in text_of(caught.value)
    assert sum("authorization" in headers for headers in server.asked) == 1


@pytest.mark.parametrize("session", ["", "\u00e9", "x" * 300])
async def test_a_session_id_that_no_header_can_carry_ends_and_is_said(session):
    server = Later(session="right")

    async def strange(method, path, headers, body):
        status, said, content = await server(method, path, headers, body)
        return status, said | {"X-Transmission-Session-Id": session}, content

    async with fake(strange) as url:
        with pytest.raises(Transient, match="session id"):
            await made(url).get_listen()
    assert len(server.asked) == 1


async def test_4_x_lets_nobody_in_without_saying_why():
    async def forbidden(method, path, headers, body):
        return 403, {}, b"<h1>403: Forbidden</h1>"

    async with fake(forbidden) as url:
        with pytest.raises(Misconfigured, match="whitelist, or too many failed logins") as caught:
            await made(url).get_listen()
    assert "rpc-whitelist" in caught.value.hint
    assert caught.value.retry_after == 600
