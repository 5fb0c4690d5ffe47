"""The mock of Private Internet Access, asked by curl through real tunnels: what the product is tested against."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from datetime import UTC, datetime, timedelta

import pytest

from mock_provider.https import Fault
from mock_provider.peer import Echo, Result
from mock_provider.pia import MockPia
from mock_provider.pia_account import DENIED, ENDED, too_many
from mock_provider.pia_forward import BAD_SIGNATURE, PORT_EXPIRED, UNAUTHORIZED_CLIENT, busy
from mock_provider.pia_list import ListTrouble
from mock_provider.pia_register import LOGIN_FAILED, UNAUTHORIZED
from mock_provider.topology import EXIT
from tests.system.pia_client import (
    HTTP_CERTIFICATE,
    HTTP_CUT_OFF,
    HTTP_REFUSED,
    HTTP_TIMED_OUT,
    Curl,
    connect,
    key_pair,
    signed,
)

pytestmark = pytest.mark.system

WWW = "https://www.privateinternetaccess.com"
SOON = ("-m", "0.3")


@pytest.fixture
async def pia():
    async with MockPia(servers=2) as made:
        yield made


@pytest.fixture
def curl(pia, tmp_path):
    return Curl(pia.lab.client, tmp_path)


async def test_all_ways_to_log_in(pia, curl):
    name, word = pia.account.username, pia.account.password
    form = ("-d", f"username={name}", "--data-urlencode", f"password={word}")
    parts = ("-F", f"username={name}", "--form-string", f"password={word}")
    text = ("-H", "Content-Type: application/json", "-d", json.dumps({"username": name, "password": word}))
    basic = ("-u", f"{name}:{word}")
    site = pia.servers[0]
    said = [
        await curl.ask(f"{WWW}/api/client/v2/token", *form),
        await curl.ask("https://apiv2.privateinternetaccess.com/api/client/v2/token", *parts),
        await curl.ask("https://apiv2.piaproxy.net/api/client/v2/token", *text),
        await curl.machine(site.cn, site.place.address, 443, "/api/client/v2/token", *form),
        await curl.machine(site.cn, site.place.address, 8080, "/apiv2/token", *form),
        await curl.machine(site.cn, site.place.address, 443, "/authv3/generateToken", *basic),
        await curl.ask(f"{WWW}/gtoken/generateToken", *basic),
    ]
    tokens = {each.json["token"] for each in said}
    assert len(tokens) == 7
    assert all(len(token) == 128 and pia.account.valid(token) for token in tokens)
    assert said[-1].json["status"] == "OK"
    assert [attempt.status for attempt in pia.account.attempts] == [200] * 7

    ended = tokens.pop()
    logout = ("-X", "POST", "-H", f"Authorization: Token {ended}")
    assert "status" in (await curl.ask(f"{WWW}/api/client/v2/expire_token", *logout)).json
    assert not pia.account.valid(ended)
    pia.account.end_tokens()
    assert not any(map(pia.account.valid, tokens))
    # The machine's own authorities do not vouch for a server, nor the other way round.
    assert (await curl.ask(f"{WWW}/api/client/v2/token", *form, ca=curl.ca)).exit == HTTP_CERTIFICATE


async def test_logins_that_fail_are_remembered(pia, curl):
    url = f"{WWW}/api/client/v2/token"
    wrong = ("-d", "username=p1234567", "-d", "password=wrong")
    right = ("-d", f"username={pia.account.username}", "--data-urlencode", f"password={pia.account.password}")
    said = await curl.ask(url, *wrong)
    assert (said.status, said.body.strip()) == (401, "HTTP Token: Access denied.")
    said = await curl.ask(f"{WWW}/gtoken/generateToken", "-u", "p1234567:wrong")
    assert said.json == {"status": "ERROR", "message": "authentication failed"}

    pia.account.fail_next(ENDED, too_many(7), too_many(), DENIED)
    assert (await curl.ask(url, *right)).status == 402
    said = await curl.ask(url, "-i", *right)
    assert said.status == 429
    assert "Retry-After: 7" in said.body
    said = await curl.ask(url, "-i", *right)
    assert said.status == 429
    assert "Retry-After" not in said.body
    assert '"code": "too_many_attempts"' in said.body
    assert (await curl.ask(url, *right)).status == 401
    assert (await curl.ask(url, *right)).status == 200
    assert [attempt.status for attempt in pia.account.attempts] == [401, 401, 402, 429, 429, 401, 200]

    pia.web.www.fail_next(Fault.HTML, Fault.SLOW, Fault.CUT_OFF, Fault.REDIRECT)
    assert (await curl.ask(url, *right)).status == 502
    assert (await curl.ask(url, *SOON, *right)).exit == HTTP_TIMED_OUT
    assert (await curl.ask(url, *right)).exit == HTTP_CUT_OFF
    assert (await curl.ask(url, *right)).status == 302
    await pia.web.www.close()
    assert (await curl.ask(url, *right)).exit == HTTP_REFUSED
    assert (await curl.ask(url.replace("www", "apiv2"), *right)).status == 200


async def test_the_list_is_signed(pia, curl, tmp_path):
    async def fetch():
        return await curl.ask(
            "https://serverlist.piaservers.net/vpninfo/servers/v6", "--max-filesize", "40000000", "-m", "30"
        )

    body = (await fetch()).body
    assert signed(tmp_path, body, pia.list_key)
    listed = json.loads(body.split("\n")[0])
    assert [group["ports"] for group in listed["groups"]["wg"]] == [[1337]]
    regions = {region["id"]: region for region in listed["regions"]}
    main = regions["nl_amsterdam"]
    assert [server["cn"] for server in main["servers"]["wg"]] == ["amsterdam401", "amsterdam402"]
    assert main["port_forward"]
    assert [name for name, region in regions.items() if region["offline"]] == ["pt_lisbon"]
    assert {name for name, region in regions.items() if not region["port_forward"]} == {"us_chicago", "be_brussels"}

    for trouble, right in {
        ListTrouble.BAD_SIGNATURE: False,
        ListTrouble.OTHER_KEY: False,
        ListTrouble.BROKEN: True,
        ListTrouble.EMPTY: True,
        ListTrouble.HUGE: True,
    }.items():
        pia.catalogue.trouble = trouble
        assert signed(tmp_path, (await fetch()).body, pia.list_key) is right, trouble
    pia.catalogue.trouble = ListTrouble.NO_SIGNATURE
    assert "\n" not in (await fetch()).body.strip()


async def test_a_key_is_registered_and_a_port_forwarded(pia, curl):
    site = pia.servers[0]
    token = await curl.token(pia)
    device, reply = await connect(pia, curl, site, token)
    assert (reply["server_ip"], reply["server_port"], reply["server_vip"]) == ("198.51.100.10", 1337, "10.2.0.1")
    assert reply["dns_servers"] == ["10.0.0.243", "10.0.0.242"]

    payload, signature = await curl.signature(site, token)
    said = json.loads(base64.b64decode(payload))
    ahead = datetime.fromisoformat(said["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=61) < ahead < timedelta(days=62, seconds=2)
    assert len(said["expires_at"]) == len("2031-05-04T03:02:01.123456789Z")
    port = said["port"]
    assert (await pia.peer.connect_tcp(EXIT, port)).result is Result.UNREACHABLE
    assert (await curl.bind(site, payload, signature)).json == {"status": "OK", "message": "port scheduled for add"}
    assert (await curl.bind(site, payload, signature)).json == {"status": "OK", "message": "timer refreshed"}
    async with Echo(pia.lab.client, reply["peer_ip"], port):
        assert (await pia.peer.connect_tcp(EXIT, port, send=b"tcp")).data == b"tcp"
        assert (await pia.peer.send_udp(EXIT, port, b"udp")).data == b"udp"

    # Another payload is another port, and takes the place of the first.
    other, sign = await curl.signature(site, token)
    new = json.loads(base64.b64decode(other))["port"]
    assert new != port
    assert (await curl.bind(site, other, sign)).json["status"] == "OK"
    assert list(site.forwards.forwards) == [new]
    assert (await pia.peer.connect_tcp(EXIT, port)).result is Result.UNREACHABLE

    # Every byte counts.
    altered = base64.b64encode(base64.b64decode(payload).replace(b'": ', b'":', 1)).decode()
    for wrong in (altered, payload[:-4], payload.rstrip("=") + "=" * 3, ""):
        said = await curl.bind(site, wrong, signature)
        assert (said.status, said.json) == (401, {"message": "bad signature"})
    raw = await curl.api(site, f"/bindPort?payload={other}&signature={sign}")
    assert raw.status == (401 if "+" in other + sign else 200), "a plus sign that is not encoded is a blank"
    await device.remove()


async def test_only_a_registered_key_with_a_token_is_served_and_only_in_the_tunnel(pia, curl):
    site = pia.servers[0]
    token = await curl.token(pia)
    outside = await curl.api(site, f"/getSignature?token={token}", address=site.place.address)
    assert (outside.status, outside.json) == (401, {"status": "ERROR", "message": "Unauthorized client"})
    assert (await curl.api(site, "/ping", arguments=SOON)).exit in {HTTP_REFUSED, HTTP_TIMED_OUT}
    pair = await key_pair()
    device, _ = await connect(pia, curl, site, token, pair)
    assert (await curl.api(site, "/getSignature?token=wrong")).status == 401
    payload, signature = await curl.signature(site, token)
    # By the public address too, if the packets take the tunnel.
    await pia.lab.client.must(("ip", "route", "replace", site.place.address, "dev", device.name, "table", "77"))
    rule = ("ip", "rule", "add", "to", site.place.address, "ipproto", "tcp", "lookup", "77")
    await pia.lab.client.must(rule)
    assert (await curl.api(site, "/ping", address=site.place.address)).status == 200
    assert (await curl.api(site, f"/getSignature?token={token}", address=site.place.address)).status == 200
    await pia.lab.client.must(("ip", "rule", "del", *rule[3:]))
    # Binding needs no token.
    pia.account.end_tokens()
    assert (await curl.bind(site, payload, signature)).status == 200
    assert (await curl.api(site, f"/getSignature?token={token}")).status == 401
    await site.registry.forget(pair[1])
    assert (await curl.api(site, "/ping", arguments=SOON)).exit == HTTP_TIMED_OUT
    await device.remove()


async def test_a_payload_can_be_bound_elsewhere_and_ends(pia, curl):
    first, second = pia.servers
    token = await curl.token(pia)
    device, _ = await connect(pia, curl, first, token)
    payload, signature = await curl.signature(first, token)
    port = json.loads(base64.b64decode(payload))["port"]
    first.forwards.bind_for = 0.4
    began = time.monotonic()
    await curl.bind(first, payload, signature)
    await asyncio.sleep(0.2)
    await curl.bind(first, payload, signature)
    bound = time.monotonic()
    assert (await pia.peer.connect_tcp(EXIT, port)).result is Result.REFUSED
    await first.forwards.until(lambda: not first.forwards.forwards)
    assert time.monotonic() - began > 0.6
    assert time.monotonic() - bound < 1.5
    assert (await pia.peer.connect_tcp(EXIT, port)).result is Result.UNREACHABLE
    assert not await first.nat.read()
    await device.remove()

    device, reply = await connect(pia, curl, second, token)
    assert (await curl.bind(second, payload, signature)).json["message"] == "port scheduled for add"
    async with Echo(pia.lab.client, reply["peer_ip"], port):
        assert (await pia.peer.connect_tcp(second.exit_address, port, send=b"tcp")).data == b"tcp"
    await second.forwards.occupy(port)
    said = await curl.bind(second, payload, signature)
    assert said.status == 409
    assert said.json["message"].lower() == f"port {port} is busy. please use another server"
    assert "status" not in said.json
    pia.signer.lease_for = -1
    assert (await curl.bind(second, *await curl.signature(second, token))).json["message"] == "port expired"
    await device.remove()


async def test_the_gateway_fails_as_told(pia, curl):
    site = pia.servers[0]
    token = await curl.token(pia)
    device, _ = await connect(pia, curl, site, token)
    payload, signature = await curl.signature(site, token)
    told = (UNAUTHORIZED_CLIENT, BAD_SIGNATURE, busy(51999, capital=False), PORT_EXPIRED, Fault.HTML, Fault.REDIRECT)
    site.api.fail_next(*told, path="/bindPort")
    assert (await curl.api(site, "/ping")).status == 200
    assert [(await curl.bind(site, payload, signature)).status for _ in told] == [401, 401, 409, 400, 502, 302]
    assert not site.forwards.forwards
    assert (await curl.bind(site, payload, signature)).status == 200
    site.api.fail_next(Fault.CUT_OFF, Fault.SLOW)
    assert (await curl.bind(site, payload, signature)).exit == HTTP_CUT_OFF
    assert (await curl.api(site, "/ping", arguments=SOON)).exit == HTTP_TIMED_OUT
    site.present("oslo417")
    asked = len(site.api.asked)
    assert (await curl.bind(site, payload, signature)).exit == HTTP_CERTIFICATE
    assert len(site.api.asked) == asked
    site.present("")
    await site.api.close()
    assert (await curl.bind(site, payload, signature)).exit == HTTP_REFUSED
    await site.api.open()
    assert (await curl.bind(site, payload, signature)).status == 200
    await device.remove()


async def test_registration_fails_as_told(pia, curl):
    site = pia.servers[0]
    token = await curl.token(pia)
    _, key = await key_pair()
    assert (await curl.add_key(site, "wrong", key)).json == LOGIN_FAILED.body
    site.add_key.fail_next(UNAUTHORIZED)
    assert (await curl.add_key(site, token, key)).status == 401
    assert (await curl.add_key(site, token, "AAAA")).json["status"] == "ERROR"
    site.registry.spoil_next(peer_pubkey="else", server_ip="203.0.113.80", server_vip=None)
    said = (await curl.add_key(site, token, key)).json
    assert (said["peer_pubkey"], said["server_ip"]) == ("else", "203.0.113.80")
    assert "server_vip" not in said
    assert (await curl.add_key(site, token, key)).json["peer_ip"] == said["peer_ip"]
    site.registry.move_next()
    assert (await curl.add_key(site, token, key)).json["peer_ip"] != said["peer_ip"]
    # One key a token: the next one of the same token takes its place.
    _, other = await key_pair()
    assert (await curl.add_key(site, token, other)).json["status"] == "OK"
    assert site.registry.keys == (other,)
    assert list(await site.server.handshakes()) == [other]


@pytest.mark.parametrize("tunnel", ["openvpn", "openvpn-tcp"])
async def test_openvpn_logs_in_by_halves_of_a_token(tmp_path, tunnel):
    async with MockPia(tunnel=tunnel) as pia:
        site, host, curl = pia.servers[0], pia.lab.client, Curl(pia.lab.client, tmp_path)
        token = await curl.token(pia)
        login = tmp_path / "login"

        async def openvpn(username, password, cn):
            login.write_text(f"{username}\n{password}\n")
            options = f"--client --dev tun9 --dev-type tun --nobind --remote {site.place.address} {site.place.port} "
            options += "--proto " + ("udp " if tunnel == "openvpn" else "tcp-client ")
            options += f"--ca {curl.ca} --remote-cert-tls server --verify-x509-name {cn} name "
            options += f"--auth-user-pass {login} --auth-retry none --connect-retry-max 1 --tls-exit --verb 3"
            process = await host.popen(["openvpn", *options.split()])
            said = ""
            while line := (await process.stdout.readline()).decode():
                said += line
                if "Initialization Sequence Completed" in line:
                    return process, said
            await process.wait()
            return None, said

        child, said = await openvpn(token[:62], token[62:], site.cn)
        assert child, said
        assert "comp-lzo no" in said
        payload, signature = await curl.signature(site, token)
        assert (await curl.bind(site, payload, signature)).status == 200
        port = json.loads(base64.b64decode(payload))["port"]
        assert (await pia.peer.connect_tcp(EXIT, port)).result is Result.REFUSED, "as far as the client's machine"
        child.terminate()
        await child.wait()

        child, said = await openvpn(token[:64], token[64:], "oslo417")
        assert child is None
        assert "VERIFY X509NAME ERROR" in said
        pia.account.end_tokens()
        child, said = await openvpn(token[:62], token[62:], site.cn)
        assert child is None
        assert "AUTH_FAILED" in said
        assert [each.status for each in site.openvpn.attempts] == [200, 401]
