"""Configurations for PIA's servers: what is registered, what is checked, and that our own parsers take what comes of it."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.contract.pia_world import AUTHORITY, BROKEN, GATEWAY, OWN, PASSWORD, PiaService, answer, options, region
from vpnpf.errors import Failure, Misconfigured, NoAnswer, Transient, Untrusted
from vpnpf.interfaces import HttpResponse, Offer
from vpnpf.model import Endpoint, Protocol
from vpnpf.protocol import openvpn_config, values, wireguard_config
from vpnpf.protocol.openvpn_config import Remote
from vpnpf.testing import FakeClock
from vpnpf_providers.pia import PrivateInternetAccess
from vpnpf_providers.pia_authority import AUTHORITY as REAL
from vpnpf_providers.pia_list import URL
from vpnpf_providers.pia_tunnel import Registered, read

KEY = base64.b64encode(bytes(range(1, 33))).decode()


@pytest.fixture
def service():
    clock = FakeClock()
    made = PiaService(clock.now, clock.wall)
    made.clock = clock
    return made


@pytest.fixture
def io(service):
    return service.outside(service.clock)


@pytest.fixture
def provider():
    return PrivateInternetAccess(options(region="nl_amsterdam"))


async def configure(provider, io, kind="wireguard", number=0, **more):
    offer = (await provider.offers(io, kind))[number]
    return await provider.configure(io, kind, offer, **more)


# -- WireGuard ----------------------------------------------------------------------------------------


async def test_the_configuration_is_taken_by_the_parser(service, io, provider):
    made = await configure(provider, io)
    config = wireguard_config.parse(made.text, "pia")
    assert (config.host, config.port) == ("198.51.100.10", 1337)
    assert config.addresses == (f"{OWN}/32",)
    assert config.dns == ("10.0.0.243", "10.0.0.242")
    assert config.public_key == base64.b64encode(bytes(range(32))).decode()
    assert config.keepalive == 25
    assert made.gateway == GATEWAY
    assert (made.username, made.password) == ("", "")
    (server, public), private = service.keys[0], config.private_key
    assert server == "nlamsterdam400"
    assert public != private
    assert values.key(public)
    assert private not in repr(made)


async def test_it_is_asked_at_the_servers_address_by_its_name(io, provider):
    await configure(provider, io)
    asked = io.http.asked[-1]
    assert asked.connect_to == "198.51.100.10"
    assert asked.ca == AUTHORITY
    assert asked.url.startswith("https://nlamsterdam400:1337/addKey?pt=00000001")
    assert asked.url.partition("&pubkey=")[2].endswith("%3D")


async def test_only_the_offers_services_are_asked_while_all_else_is_blocked(service, io, provider):
    (offer, _) = await provider.offers(io, "wireguard")
    allowed = {(each.address, each.port) for each in offer.services}
    io.http.asked.clear()
    await provider.configure(io, "wireguard", offer)
    ports = [int(asked.url.split(":")[2].split("/")[0]) for asked in io.http.asked]
    assert {(asked.connect_to, port) for asked, port in zip(io.http.asked, ports, strict=True)} <= allowed


async def test_the_same_key_is_registered_again_and_another_at_another_server(service, io, provider):
    first = await configure(provider, io)
    again = await configure(provider, io, again=True)
    anew = await configure(provider, io)
    other = await configure(provider, io, number=1)
    assert first.text == again.text == anew.text
    assert other.text != first.text
    assert len({key for _, key in service.keys}) == 2
    assert len(service.logins) == 1


@pytest.mark.parametrize("silent", [False, True])
async def test_servers_that_are_gone_are_not_gone_to_for_a_week(service, io, provider, silent):
    """PIA's list names other machines now; a kept one would do for a week."""
    assert await configure(provider, io)
    service.clock.advance(2 * 3600)
    gone, service.regions = service.regions, [region(6, "Netherlands", id="nl_amsterdam")]
    if not silent:
        service.down = {"nlamsterdam"}
    else:
        service.regions = [*service.regions, *gone[1:]]
        service.addresses = lambda name: {"198.51.100.10", "198.51.100.11"}  # they answer, and no handshake comes
    for _ in range(3):
        offers = await provider.offers(io, "wireguard")
        assert offers[0].endpoint.address == "198.51.100.10", "one failure is no reason to wait for a list"
        if silent:
            await provider.configure(io, "wireguard", offers[0], again=True)
        else:
            with pytest.raises(NoAnswer):
                await provider.configure(io, "wireguard", offers[0])
    assert (await provider.offers(io, "wireguard"))[0].endpoint.address == "198.51.100.60"
    lists = sum("serverlist" in each.url for each in io.http.asked)
    for _ in range(5):
        await provider.offers(io, "wireguard")
    assert sum("serverlist" in each.url for each in io.http.asked) == lists


async def test_no_list_is_asked_for_again_and_again_while_nothing_can_be_had(service, io, provider):
    offer, *_ = await provider.offers(io, "wireguard")
    service.clock.advance(2 * 3600)
    service.down = {"nlamsterdam", "serverlist"}
    asked = len(io.http.asked)
    for _ in range(60):
        service.clock.advance(60)
        with pytest.raises(NoAnswer):
            await provider.configure(io, "wireguard", offer)
        await provider.offers(io, "wireguard")
    assert sum("serverlist" in each.url for each in io.http.asked[asked:]) == 1


async def test_a_token_that_the_server_does_not_take_is_renewed_once(service, io, provider):
    await configure(provider, io)
    service.tokens.clear()
    await configure(provider, io, again=True)
    assert len(service.logins) == 2


async def test_a_server_that_is_somebody_else_is_told_nothing_and_the_list_is_doubted(service, io, provider):
    offered = await provider.offers(io, "wireguard")
    service.strangers.add("addKey")
    with pytest.raises(Untrusted) as told:
        await provider.configure(io, "wireguard", offered[0])
    assert str(told.value) == "registering a key at nlamsterdam400: its certificate is for another name"
    assert "nothing was told to it" in told.value.hint
    assert "name the host" not in told.value.hint
    assert told.value.retry_after == 300
    before = len(io.http.asked)
    service.clock.advance(300)
    await provider.offers(io, "wireguard")
    assert [each.url for each in io.http.asked[before:]] == [URL]
    service.strangers.clear()
    await provider.configure(io, "wireguard", offered[0])


async def test_a_server_that_takes_no_token_is_told(service, io, provider):
    await configure(provider, io)
    offered = await provider.offers(io, "wireguard")
    refuse = answer({"status": "ERROR", "message": "Login failed!"})
    io.http.answer = lambda asked: refuse if "addKey" in asked.url else service.answer(asked)
    for _ in range(3):
        with pytest.raises(Misconfigured) as told:
            await provider.configure(io, "wireguard", offered[0])
    assert str(told.value) == (
        'registering a key at nlamsterdam400: it takes no login by a new token: HTTP 200: "Login failed!"'
    )
    assert "vpnpf login pia" in told.value.hint
    assert len(service.logins) == 2


@pytest.mark.parametrize(
    "reply", [BROKEN, answer(b""), answer({"status": "ERROR", "message": "\x1b[31mno"}), answer([])]
)
async def test_an_answer_that_nothing_is_known_of(service, io, provider, reply):
    io.http.answer = lambda asked: reply if "addKey" in asked.url else service.answer(asked)
    with pytest.raises(Transient) as told:
        await configure(provider, io)
    assert str(told.value).isprintable()
    assert "HTTP" in told.value.cause


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("server_key", "x"), ("server_key", KEY[:-2] + "=="), ("server_key", None), ("server_key", base64.b64encode(bytes(32)).decode()),
        ("server_ip", "203.0.113.1"), ("server_ip", None),
        ("server_port", "1337"), ("server_port", 1338), ("server_port", True), ("server_port", None),
        ("server_vip", "x"), ("server_vip", "127.0.0.1"), ("server_vip", "198.51.100.10"), ("server_vip", "10.0.0.1\nPostUp = x"),
        ("peer_ip", "10.1.2.3/8"), ("peer_ip", "0.0.0.0"), ("peer_ip", 5), ("peer_ip", GATEWAY), ("peer_ip", "10.1.2.3\n"),
        ("peer_pubkey", KEY), ("peer_pubkey", None),
        ("dns_servers", []), ("dns_servers", "10.0.0.243"), ("dns_servers", ["10.0.0.243", "x"]), ("dns_servers", None),
    ],
)  # fmt: skip
async def test_each_field_of_the_answer_is_checked(service, io, provider, field, value):
    service.registration = {field: value}
    with pytest.raises(Transient) as told:
        await configure(provider, io)
    assert field in told.value.cause


@pytest.mark.parametrize("own", [OWN, f"{OWN}/32"])
async def test_our_address_comes_with_and_without_its_length(service, io, provider, own):
    service.registration = {"peer_ip": own}
    assert f"Address = {OWN}/32\n" in (await configure(provider, io)).text


async def test_an_offer_without_a_name_is_not_asked(io, provider):
    offer = (await provider.offers(io, "wireguard"))[0]
    with pytest.raises(Misconfigured):
        await provider.configure(io, "wireguard", replace(offer, server_name="evil.example/x?"))


def offered():
    return Offer(Endpoint("198.51.100.10", 1337, Protocol.UDP), "pia", "nlamsterdam400")


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
texts = st.sampled_from(
    ["10.1.2.3", "10.1.2.3/32", GATEWAY, "198.51.100.10", KEY, base64.b64encode(bytes(range(32))).decode()]
)
fields = st.sampled_from(
    ["server_key", "server_port", "server_ip", "server_vip", "peer_ip", "peer_pubkey", "dns_servers", "status"]
)


@given(st.dictionaries(fields, scalars | texts | st.lists(scalars | texts, max_size=3) | st.just(1337)))
def test_whatever_is_answered_is_a_configuration_or_a_failure(value):
    good = {
        "status": "OK", "server_key": base64.b64encode(bytes(range(32))).decode(), "server_port": 1337, "server_ip": "198.51.100.10",
        "server_vip": GATEWAY, "peer_ip": OWN, "peer_pubkey": KEY, "dns_servers": ["10.0.0.243"],
    }  # fmt: skip
    response = HttpResponse(200, {}, json.dumps({**good, **value}).encode())
    try:
        found = read(response, offered(), KEY)
    except Failure:
        return
    assert_good(found)


def assert_good(found: Registered) -> None:
    assert values.key(found.public_key)
    assert found.port == 1337
    assert values.interface_address(found.address) == f"{found.address}/32"
    assert all(values.resolver(each) == each for each in (*found.resolvers, found.gateway))


# -- OpenVPN ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("transport", "port"), [("udp", 8080), ("tcp", 8443)])
async def test_openvpn_is_taken_by_the_parser(service, io, transport, port):
    provider = PrivateInternetAccess(options(region="nl_amsterdam", transport=transport, ca=REAL))
    service.answer = _any_authority(service)
    io.http.answer = service.answer
    made = await configure(provider, io, "openvpn")
    config = openvpn_config.parse(made.text.encode(), "pia")
    assert config.remotes == (Remote("198.51.100.10", port, Protocol(transport)),)
    assert config.needs_password
    words = {each[0]: each[1:] for each in config.options}
    assert words["remote-cert-tls"] == ("server",)
    assert words["verify-x509-name"] == ("nlamsterdam400", "name")
    assert words["auth"] == ("SHA256",)
    assert words["cipher"] == ("AES-256-CBC",)
    assert dict(config.inline)["ca"].strip() == REAL.strip()
    assert made.gateway == ""
    (token,) = service.tokens
    assert (made.username, made.password) == (token[:62], token[62:])
    assert PASSWORD not in made.text


def _any_authority(service):
    """The service as it is, whatever authority it is asked with."""
    answered = service.answer
    return lambda asked: answered(replace(asked, ca=AUTHORITY if asked.connect_to else ""))


async def test_again_is_another_token_but_not_every_few_minutes(service, io, provider):
    first = await configure(provider, io, "openvpn")
    second = await configure(provider, io, "openvpn", again=True)
    assert (second.username, second.password) != (first.username, first.password)
    third = await configure(provider, io, "openvpn", again=True)
    assert (third.username, third.password) == (second.username, second.password)
    assert len(service.logins) == 2


async def test_without_anybody_to_log_in_at_the_tunnel_is_tried_later(service, io, provider):
    offer = (await provider.offers(io, "openvpn"))[0]
    io.http.answer = lambda _: NoAnswer("asking", "no whole answer within 10 s")
    with pytest.raises(NoAnswer):
        await provider.configure(io, "openvpn", offer)
