"""The qBittorrent driver: the suites of every client, and what only qBittorrent does."""

import json
import urllib.parse

import pytest

from mock_provider.qbittorrent import QBittorrent as Daemon
from tests.contract.client_world import DEVICE, PORT, SECRET, listening, text_of, until
from tests.contract.clients import ClientSuite
from tests.contract.strangers import StrangerSuite, fake
from vpnpf.api import ClientOptions, ListenSettings, Misconfigured, Protocol, Transient, Unsupported
from vpnpf.clients.qbittorrent import QBittorrent
from vpnpf.io.http import HttpClient

KEY = "qbt_" + "k3y" * 9 + "x"
WANTED = ListenSettings(PORT, DEVICE)


@pytest.mark.system
class TestQBittorrent(ClientSuite):
    driver = QBittorrent
    version = r"qBittorrent \d+\.\d+(\.\d+)*"
    failures_to_ban = 5

    @pytest.fixture
    async def daemon(self, host, tmp_path):
        async with Daemon(host, tmp_path / "qbittorrent") as daemon:
            yield daemon

    async def said(self, daemon):
        preferences = await daemon.preferences()
        names = ("listen_port", "current_network_interface", "random_port", "upnp")
        return ListenSettings(*(preferences[name] for name in names))

    async def disturb(self, daemon):
        wrong = {"random_port": True, "upnp": True, "current_network_interface": ""}
        await daemon.set_preferences({**wrong, "current_interface_address": "127.0.0.1"})

    async def set_port(self, daemon, port):
        await daemon.set_preferences({"listen_port": port})

    async def others(self, daemon):
        preferences = await daemon.preferences()
        ours = {"listen_port", "current_network_interface", "current_interface_address", "random_port", "upnp"}
        return {name: value for name, value in preferences.items() if name not in ours}

    def edit(self, daemon, port):
        text = daemon.settings_file.read_text()
        daemon.settings_file.write_text(text.replace(f"Session\\Port={PORT}", f"Session\\Port={port}"))

    def logins(self, http):
        return http.count("auth/login")

    async def test_all_goes_out_in_one_request(self, daemon):
        await self.disturb(daemon)
        client, http = self.make(daemon)
        await client.set_listen(WANTED)
        assert http.count("setPreferences") == 1
        preferences = await daemon.preferences()
        assert preferences["current_interface_address"] == ""
        assert await self.said(daemon) == WANTED

    async def test_it_binds_anew_if_only_something_else_differs(self, daemon):
        client, http = self.make(daemon)
        await client.set_listen(WANTED)
        await daemon.set_preferences({"upnp": True})
        http.calls.clear()
        await client.set_listen(WANTED)
        assert http.count("setPreferences") == 2
        assert await self.said(daemon) == WANTED
        await until(listening(PORT, Protocol.TCP, Protocol.UDP))

    async def test_a_device_that_it_does_not_see_is_said(self, daemon):
        client, _ = self.make(daemon)
        await client.set_listen(ListenSettings(PORT, "vpn7"))
        with pytest.raises(Transient, match="does not see that device, only lo, vpn0") as caught:
            await client.set_listen(ListenSettings(PORT, "vpn7"))
        assert "container" in caught.value.hint

    async def test_without_a_login_it_keeps_one_session(self, daemon):
        await daemon.set_preferences({"bypass_local_auth": True})
        client, http = self.make(daemon, "")
        first = await client.get_listen()
        assert client._cookies
        cookies = dict(client._cookies)
        assert await client.get_listen() == first
        assert client._cookies == cookies
        assert self.logins(http) == 0

    async def test_an_address_that_it_is_not_called_by_is_said_and_no_password_sent(self, daemon):
        client, http = self.make(daemon)
        await daemon.set_preferences({"web_ui_domain_list": "torrents.example"})
        client._options = ClientOptions(daemon.url.replace("127.0.0.1", "localhost"), "admin", lambda: SECRET)
        with pytest.raises(Misconfigured, match="localhost") as caught:
            await client.get_listen()
        assert "Host" in caught.value.hint
        assert self.logins(http) == 0


class TestStranger(StrangerSuite):
    driver = QBittorrent


class Later:
    """The login of qBittorrent 5.2: 204 or 401, a cookie named after the port, API keys. One password is right."""

    def __init__(self, *, banned=False, cookie="QBT_SID_8080=a/b+c=="):
        self.said = {"listen_port": 6881, "current_network_interface": "", "random_port": True, "upnp": True}
        self.logins = 0
        self.headers = []
        self.banned = banned
        self.cookie = cookie
        self.session = True

    async def __call__(self, method, path, headers, body):
        self.headers.append(headers)
        form = dict(urllib.parse.parse_qsl(body.decode()))
        path = path.removeprefix("/api/v2/")
        if path == "auth/login":
            return self._log_in(form)
        known = self.session and headers.get("cookie") == self.cookie
        if not known and headers.get("authorization") != f"Bearer {KEY}":
            return 403, {}, b"Forbidden"
        if path == "app/setPreferences":
            self.said |= json.loads(form["json"])
            return 204, {}, b""
        return 200, {}, b"v5.2.0" if path == "app/version" else json.dumps(self.said).encode()

    def _log_in(self, form):
        self.logins += 1
        if self.banned:
            return 403, {}, b"Your IP address has been banned after too many failed authentication attempts."
        if (form["username"], form["password"]) != ("admin", SECRET):
            return 401, {}, b"Unauthorized"
        self.session = True
        return 204, {"set-cookie": f"{self.cookie}; HttpOnly; SameSite=Lax; path=/"}, b""


def made(url, password=SECRET, username="admin"):
    return QBittorrent(HttpClient(), ClientOptions(url, username, lambda: password))


async def test_the_login_of_5_2():
    server = Later()
    async with fake(server) as url:
        client = made(url)
        assert await client.probe() == "qBittorrent 5.2.0"
        await client.set_listen(WANTED)
        assert await client.get_listen() == WANTED
        assert server.logins == 1
        server.session = False
        assert await client.get_listen() == WANTED
        assert server.logins == 2


async def test_a_wrong_password_at_5_2_is_not_repeated():
    server = Later()
    async with fake(server) as url:
        client = made(url, "wrong-password")
        for _ in range(3):
            with pytest.raises(Misconfigured, match="wrong user name or password") as caught:
                await client.get_listen()
            assert "wrong-password" not in text_of(caught.value)
    assert server.logins == 1


async def test_a_ban_at_5_2():
    async with fake(Later(banned=True)) as url:
        with pytest.raises(Misconfigured, match="banned") as caught:
            await made(url).get_listen()
    assert caught.value.retry_after == 600


async def test_an_api_key_instead_of_a_login():
    server = Later()
    async with fake(server) as url:
        client = made(url, KEY, username="")
        await client.set_listen(WANTED)
        assert await client.get_listen() == WANTED
    assert server.logins == 0
    assert not any("cookie" in headers for headers in server.headers)


async def test_an_api_key_that_is_refused_is_not_repeated():
    server = Later()
    async with fake(server) as url:
        client = made(url, KEY[:-1] + "y", username="")
        for _ in range(3):
            with pytest.raises(Misconfigured, match="refused the API key") as caught:
                await client.get_listen()
            assert "qbt_" not in text_of(caught.value)
    assert sum("authorization" in headers for headers in server.headers) == 1
    assert server.logins == 0


async def test_a_key_beside_a_user_name_is_a_password():
    server = Later()
    async with fake(server) as url:
        with pytest.raises(Misconfigured, match="wrong user name or password"):
            await made(url, KEY).get_listen()
    assert server.logins == 1


async def test_a_login_whose_session_does_not_hold_ends_and_is_said():
    server = Later()

    async def forgetful(method, path, headers, body):
        return await server(method, path, headers | {"cookie": ""}, body)

    async with fake(forgetful) as url:
        with pytest.raises(Misconfigured, match="did not know us"):
            await made(url).get_listen()
    assert server.logins == 1


async def test_a_cookie_that_no_header_can_carry_is_no_crash():
    async with fake(Later(cookie="QBT_SID_8080=\u00e9\u4e2d")) as url:
        with pytest.raises(Misconfigured, match="did not know us"):
            await made(url).get_listen()


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen_port": "6881"},
        {"listen_port": True},
        {"listen_port": None},
        {"current_network_interface": 7},
        {"random_port": 0},
        {"upnp": "false"},
    ],
)
async def test_settings_of_a_wrong_type_are_said_by_name(wrong):
    server = Later()
    server.said |= wrong
    async with fake(server) as url:
        with pytest.raises(Unsupported, match=next(iter(wrong))):
            await made(url).get_listen()


async def test_what_it_says_is_safe_to_show():
    server = Later()
    server.said["current_network_interface"] = "\x1b]0;owned\x07" + "x" * 5000
    async with fake(server) as url:
        seen = await made(url).get_listen()
    assert seen.interface.isprintable()
    assert len(seen.interface) <= 200


async def test_no_referer_is_sent():
    """It compares one with Host, port and all; behind a proxy, or with :80 in the URL, they differ."""
    server = Later()

    async def below(method, path, headers, body):
        return await server(method, path.removeprefix("/torrents"), headers, body)

    async with fake(below) as url:
        await made(f"{url}/torrents").get_listen()
    assert not any({"referer", "origin"} & set(headers) for headers in server.headers)


async def test_trackers_that_cannot_be_told_are_no_reason_to_set_all_of_it_again():
    server = Later()
    asked = []

    async def without(method, path, headers, body):
        asked.append(path)
        return (404, {}, b"Not Found") if "reannounce" in path else await server(method, path, headers, body)

    async with fake(without) as url:
        client = made(url)
        await client.set_listen(WANTED)
        assert await client.get_listen() == WANTED
    assert sum("reannounce" in path for path in asked) == 1
