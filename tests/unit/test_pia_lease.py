"""A port of PIA: signed, bound, kept over restarts and servers, and what is said where there is none."""

from __future__ import annotations

import base64
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.contract.pia_world import (
    AUTHORITY,
    BROKEN,
    DAY,
    GATEWAY,
    LIST,
    MONTH,
    REGIONS,
    PiaWorld,
    answer,
    busy,
    options,
    region,
)
from tests.contract.provider_world import stored
from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer, Refused, Transient, Unsupported, Untrusted
from vpnpf.model import Endpoint, ForwardSpec, Protocol
from vpnpf_providers.pia import PrivateInternetAccess
from vpnpf_providers.pia_lease import Signed, moment, read_token, signed

EXPIRED = answer({"status": "ERROR", "message": "port expired"}, 400)
BAD = answer({"message": "bad signature"}, 401)


@pytest.fixture
def world():
    made = PiaWorld(PrivateInternetAccess, options())
    yield made
    made.check_texts()


def asked(world, what: str) -> list:
    return [each for each in world.io.http.asked if f"/{what}" in each.url]


# -- what is sent -------------------------------------------------------------------------------------


async def test_it_is_asked_at_the_gateway_by_the_servers_name(world):
    lease = await world.acquire()
    (signing,), (binding,) = asked(world, "getSignature"), asked(world, "bindPort")
    (token,) = world.service.tokens
    assert signing.url == f"https://nlamsterdam400:19999/getSignature?token={token}"
    assert {signing.connect_to, binding.connect_to} == {GATEWAY}
    assert {signing.ca, binding.ca} == {AUTHORITY}
    ((payload, (signature, port)),) = world.service.signatures.items()
    query = parse_qs(urlsplit(binding.url).query)
    assert query == {"payload": [payload], "signature": [signature]}
    assert not {"+", "/", "="} & set(binding.url.partition("payload=")[2].replace("&signature=", ""))
    assert (lease.external_port, lease.internal_port, lease.exit_address) == (port, port, None)
    assert lease.protocols == (Protocol.TCP, Protocol.UDP)


async def test_what_was_signed_is_sent_byte_by_byte(world):
    held = await world.acquire()
    for _ in range(3):
        world.clock.advance(450)
        held = await world.renew(stored(held))
    assert len({each.url for each in asked(world, "bindPort")}) == 1


async def test_the_name_is_looked_up_where_the_tunnel_does_not_say_it(world):
    world.tunnel = replace(world.tunnel, plan=replace(world.tunnel.plan, server_name=""))
    assert (await world.acquire()).external_port
    world.restart()
    plan = replace(world.tunnel.plan, endpoint=Endpoint("203.0.113.9", 1337))
    world.tunnel = replace(world.tunnel, plan=plan)
    with pytest.raises(Misconfigured, match="no region of PIA's list"):
        await world.acquire()


@pytest.mark.parametrize("gateway", ["", "gateway.example", "127.0.0.1", "fe80::1"])
async def test_a_tunnel_without_a_gateway(world, gateway):
    world.tunnel = replace(world.tunnel, gateway=gateway)
    with pytest.raises(Misconfigured) as told:
        await world.acquire()
    assert "tunnel.gateway" in told.value.hint


async def test_a_gateway_that_is_somebody_else_is_told_nothing_and_asked_again_after_five_minutes(world):
    world.service.strangers.add("gateway")
    with pytest.raises(Untrusted) as told:
        await world.acquire()
    assert str(told.value) == "asking nlamsterdam400 for a port: its certificate is for another name"
    assert "nothing was told to it" in told.value.hint
    assert told.value.retry_after == 300
    assert [each.url for each in world.io.http.asked if LIST in each.url], (
        "a fresher list is fetched through the tunnel"
    )
    world.service.strangers.clear()
    held = await world.acquire()
    # Who had a port keeps it.
    world.service.strangers.add("gateway")
    world.clock.advance(450)
    with pytest.raises(Transient, match="its certificate is for another name") as told:
        await world.renew(held)
    assert "nothing was told to it" in told.value.hint


async def test_a_gateway_is_asked_by_the_name_that_a_fresher_list_has(world):
    await world.acquire()
    regions = json.loads(json.dumps(world.service.regions).replace("nlamsterdam400", "nlamsterdam410"))
    answered, world.service.regions, world.service.current = world.io.http.answer, regions, "nlamsterdam410"
    world.io.http.answer = lambda asked: (
        Untrusted("asking", "its certificate is for another name") if "400:19999" in asked.url else answered(asked)
    )
    assert (await world.acquire()).external_port
    assert asked(world, "bindPort")[-1].url.startswith("https://nlamsterdam410:19999/")


# -- how long -----------------------------------------------------------------------------------------


async def test_the_port_stays_for_two_months_and_then_there_is_a_new_one(world):
    held = await world.acquire()
    first = held.external_port
    while world.clock.now() - held.granted_at < 450:
        world.clock.advance(DAY)
        held = await world.renew(stored(held))
        if held.external_port != first:
            break
    age = world.clock.wall() - 1_700_000_000
    assert MONTH - 8 * DAY < age <= MONTH - 6 * DAY
    assert held.lifetime == 900


async def test_the_old_port_is_bound_as_long_as_it_lasts_if_there_is_no_new_one(world):
    held = await world.acquire()
    world.clock.advance(MONTH - DAY)
    world.service.unauthorized = True
    kept = await world.renew(held)
    assert kept.external_port == held.external_port
    world.service.unauthorized = False
    assert (await world.renew(kept)).external_port != held.external_port


async def test_a_lease_ends_with_its_signature(world):
    world.service.signed_for = 300.5
    lease = await world.acquire()
    assert lease.lifetime == pytest.approx(300, abs=1)


async def test_signatures_that_are_short_are_not_fetched_anew_each_time(world):
    world.service.signed_for = 2 * DAY
    held = await world.acquire()
    for _ in range(10):
        world.clock.advance(450)
        held = await world.renew(stored(held))
    assert len(world.service.signatures) == 1


@pytest.mark.parametrize("years", [-10, 10])
async def test_a_clock_that_is_wrong_costs_no_port(world, years):
    world.clock._wall += years * 365 * DAY
    wall = world.service.wall
    world.service.wall = lambda: wall() - years * 365 * DAY
    world.service.tokens.clear()
    world.service.grant = lambda grant=world.service.grant: _for_ever(world.service, grant())
    held = await world.acquire()
    for _ in range(10):
        world.clock.advance(450)
        held = await world.renew(stored(held))
        assert held.lifetime == 900
    assert len(world.service.signatures) == 1


def _for_ever(service, token: str) -> str:
    service.tokens[token] = 1e12
    return token


async def test_nanoseconds_are_understood(world):
    lease = await world.acquire()
    found = read_token(lease.token)
    assert found.ends == pytest.approx(world.clock.wall() + MONTH, abs=1)


# -- after a restart, and on another server ------------------------------------------------------------


async def test_the_port_stays_over_a_restart_without_a_new_signature(world):
    lease = await world.acquire()
    world.restart()
    again = await world.acquire(previous=stored(lease))
    assert again.external_port == lease.external_port
    assert len(asked(world, "getSignature")) == 1


@pytest.mark.parametrize("renewal", [False, True])
async def test_the_port_stays_on_another_server(world, renewal):
    lease = await world.acquire()
    world.service.bound.clear()
    world.service.current = "deberlin401"
    plan = replace(world.tunnel.plan, endpoint=Endpoint("198.51.100.21", 1337), server_name="deberlin401")
    world.tunnel = replace(world.tunnel, plan=plan)
    again = await (world.renew(lease) if renewal else world.acquire(previous=stored(lease)))
    assert again.external_port == lease.external_port
    assert urlsplit(asked(world, "bindPort")[-1].url).hostname == "deberlin401"
    assert len(asked(world, "getSignature")) == 1


async def test_a_renewal_of_what_cannot_be_read_is_lost(world):
    lease = await world.acquire()
    with pytest.raises(LeaseLost):
        await world.renew(replace(lease, token="rubbish"))


# -- what is refused ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply", [BAD, busy(), EXPIRED, answer({"message": "Port 1 is Busy"}, 200), answer({"message": "x"}, 401)]
)
@pytest.mark.parametrize("renewal", [False, True])
async def test_a_signature_that_is_not_taken_is_replaced_once(world, reply, renewal):
    lease = await world.acquire()
    world.service.on_bind = [reply]
    again = await (world.renew(lease) if renewal else world.acquire(previous=stored(lease)))
    assert again.external_port != lease.external_port
    assert len(asked(world, "getSignature")) == 2
    assert len(asked(world, "bindPort")) == 3


UNKNOWN = answer({"status": "ERROR", "message": "payload has no grants"}, 400)


async def test_one_that_is_refused_in_unknown_words_is_given_up_after_half_an_hour(world):
    """It may pass, so the port is not given away at once; but it would be sent for two months otherwise."""
    lease = await world.acquire()
    world.service.on_bind = [UNKNOWN]
    with pytest.raises(Transient):
        await world.renew(lease)
    began = world.clock.now()
    while len(asked(world, "getSignature")) == 1:
        assert world.clock.now() - began < 1900
        world.clock.advance(40)
        world.service.on_bind = [UNKNOWN]
        with pytest.raises(Transient):
            await world.acquire(previous=stored(lease))
    assert world.clock.now() - began >= 1800
    world.clock.advance(40)
    world.service.on_bind = [UNKNOWN]
    with pytest.raises(Transient):
        await world.acquire(previous=stored(lease))
    assert len(asked(world, "getSignature")) == 2, "the new one was refused, too: there is not another each time"
    world.clock.advance(1800)
    anew = await world.acquire(previous=stored(lease))
    assert anew.external_port != lease.external_port


@pytest.mark.parametrize("reply", [BROKEN, answer(b"", 503), answer({"status": "ERROR"}, 429)])
async def test_the_servers_own_trouble_never_costs_the_port(world, reply):
    lease = await world.acquire()
    for _ in range(200):
        world.service.on_bind = [reply]
        with pytest.raises(Transient):
            await world.acquire(previous=stored(lease))
        world.clock.advance(40)
    world.service.on_bind = []
    assert (await world.acquire(previous=stored(lease))).external_port == lease.external_port
    assert len(asked(world, "getSignature")) == 1


@pytest.mark.parametrize("reply", [BAD, busy(), EXPIRED])
async def test_one_that_is_not_taken_either_is_lost_or_tried_later(world, reply):
    lease = await world.acquire()
    world.service.on_bind = [reply] * 2
    with pytest.raises(LeaseLost):
        await world.renew(lease)
    world.service.on_bind = [reply] * 2
    with pytest.raises(Transient) as told:
        await world.acquire(previous=lease)
    assert told.value.hint
    world.service.on_bind = [reply] * 2
    with pytest.raises(Transient):
        await world.acquire()
    assert not world.service.on_bind


async def test_a_busy_port_is_said(world):
    world.service.on_bind = [busy(45000), busy(45001)]
    with pytest.raises(Transient) as told:
        await world.acquire()
    assert str(told.value) == "binding port 45001 at nlamsterdam400: the port is busy there"


async def test_a_client_that_is_not_known_logs_in_anew_once(world):
    await world.acquire()
    world.service.tokens.clear()
    await world.acquire()
    assert len(world.service.logins) == 2
    world.service.unauthorized = True
    for _ in range(3):
        with pytest.raises(Misconfigured) as told:
            await world.acquire()
    assert (
        str(told.value)
        == 'asking nlamsterdam400 for a port: it takes no login by a new token: HTTP 401: "Unauthorized client"'
    )
    assert "through this tunnel" in told.value.hint
    assert told.value.retry_after == 300
    assert len(world.service.logins) == 3


@pytest.mark.parametrize("reply", [BROKEN, answer(b"", 503), answer({"status": "ERROR", "message": "x" * 500}, 418)])
async def test_anything_else_is_told_with_its_status(world, reply):
    lease = await world.acquire()
    world.service.forward = reply
    for attempt in (world.acquire(), world.renew(lease)):
        with pytest.raises(Transient, match=f"HTTP {reply.status}") as told:
            await attempt
        assert type(told.value) is Transient
        assert len(str(told.value)) < 200


# -- nobody answers -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "trouble", [Refused("asking", "connection refused"), NoAnswer("asking", "no whole answer within 10 s")]
)
async def test_for_a_minute_a_gateway_may_be_starting_then_there_is_no_port_forwarding(world, trouble):
    world.service.forward = trouble
    began = world.clock.now()
    while world.clock.now() - began < 60:
        with pytest.raises(type(trouble)) as told:
            await world.acquire()
        assert GATEWAY in told.value.hint
        world.clock.advance(15)
    for _ in range(2):
        with pytest.raises(Unsupported, match="there is no port forwarding here") as told:
            await world.acquire()
        assert told.value.retry_after == 300
        world.clock.advance(300)
    world.service.forward = None
    assert await world.acquire()
    world.service.forward = trouble
    with pytest.raises(type(trouble)):
        await world.acquire()


async def test_another_server_has_its_own_minute(world):
    world.service.forward = Refused("asking", "connection refused")
    with pytest.raises(Refused):
        await world.acquire()
    world.clock.advance(100)
    world.tunnel = replace(world.tunnel, plan=replace(world.tunnel.plan, server_name="deberlin400"))
    with pytest.raises(Refused):
        await world.acquire()


async def test_a_region_that_the_list_says_has_none_is_told_at_once(world):
    world.service.regions = [region(1, "Netherlands", id="nl_amsterdam", port_forward=False), *REGIONS[1:]]
    world.service.forward = Refused("asking", "connection refused")
    with pytest.raises(Unsupported) as told:
        await world.acquire()
    assert str(told.value) == "asking nlamsterdam400 for a port: Netherlands has no port forwarding"
    assert 'options.region = "de_berlin"' in told.value.hint


async def test_nobody_at_a_renewal_is_never_more_than_a_wait(world):
    lease = await world.acquire()
    world.service.forward = Refused("asking", "connection refused")
    for _ in range(10):
        with pytest.raises(Refused) as told:
            await world.renew(lease)
        assert told.value.retry_after is None
        world.clock.advance(60)


# -- beside it ------------------------------------------------------------------------------------------


async def test_a_release_asks_nobody(world):
    lease = await world.acquire()
    before = len(world.io.http.asked)
    await world.release(lease)
    assert len(world.io.http.asked) == before


async def test_the_list_is_refreshed_through_the_tunnel_once_a_day_and_never_delays_the_first_port(world):
    held = await world.acquire()
    assert not asked(world, "vpninfo")
    for _ in range(8):
        world.clock.advance(450)
        held = await world.renew(held)
    assert len(asked(world, "vpninfo")) == 1
    world.service.down.add("serverlist")
    world.clock.advance(DAY)
    for _ in range(16):
        held = await world.renew(held)
        world.clock.advance(450)
    assert len(asked(world, "vpninfo")) == 3
    assert held.lifetime == 900


async def test_the_time_that_a_port_stays_bound_is_the_classs(world):
    class Sooner(PrivateInternetAccess):
        lifetime = 10.0

    world.plugin = Sooner
    world.restart()
    assert (await world.acquire()).lifetime == 10


async def test_whatever_protocol_is_asked_for_is_what_is_opened(world):
    lease = await world.acquire(ForwardSpec("torrent", protocols=(Protocol.UDP,)))
    assert lease.protocols == (Protocol.UDP,)


# -- what is signed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:01Z", 1.0),
        ("2031-05-04T03:02:01.123456789Z", 1935630121.123456789),
        ("2031-05-04T03:02:01.1Z", 1935630121.1),
        ("2031-05-04T05:02:01+02:00", 1935630121.0),
        ("2031-05-04 03:02:01z", 1935630121.0),
        ("2031-05-04T03:02:01", None),
        ("2031-13-04T03:02:01Z", None),
        ("0001-01-01T00:00:00+14:00", None),
        ("9999-12-31T23:59:59-14:00", None),
        ("2031-05-04T03:02:01.1234567890123Z", None),
        ("tomorrow", None),
        (1935630121, None),
        (None, None),
    ],
)
def test_moments(text, seconds):
    assert moment(text) == (None if seconds is None else pytest.approx(seconds))


values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)
payloads = (
    st.dictionaries(st.sampled_from(["port", "expires_at", "token"]), values | st.just("2031-05-04T03:02:01Z") | st.integers(0, 70000))
    .map(lambda value: base64.b64encode(json.dumps(value).encode()).decode())
)  # fmt: skip


@given(payloads | values, payloads | values, st.floats(0, 1e12))
def test_whatever_is_signed_is_a_port_or_nothing(payload, signature, since):
    found = signed(payload, signature, since)
    if found is not None:
        assert 1 <= found.port <= 65535
        assert (found.payload, found.signature) == (payload, signature)
        assert 60 <= found.lifetime(900, since) <= 900
        assert found.lifetime(10, since) == 10
        found.ending(since)
        assert read_token(found.as_token()) == found


@given(
    st.text(max_size=60)
    | st.dictionaries(st.sampled_from(["payload", "signature", "since"]), values | payloads).map(json.dumps)
)
def test_whatever_is_kept_is_a_port_or_nothing(token):
    found = read_token(token)
    assert found is None or (1 <= found.port <= 65535 and found.since >= 0)


def test_a_signature_is_in_no_text():
    assert "c2ln" not in repr(Signed("cGF5", "c2ln", 45000, 1.0))
