"""PIA's server list: what is signed, what is read of it, what is kept."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.pia_world import DAY, REGIONS, PiaService, answer, list_key, sign
from vpnpf.errors import Misconfigured, NoAnswer, Transient, Unavailable, Untrusted
from vpnpf.testing import FakeClock
from vpnpf_providers.pia_answer import address, port, server_name
from vpnpf_providers.pia_authority import LIST_KEY
from vpnpf_providers.pia_list import Listing, ServerList, parse, split


@pytest.fixture
def service():
    clock = FakeClock()
    made = PiaService(clock.now, clock.wall)
    made.clock = clock
    return made


@pytest.fixture
def io(service):
    return service.outside(service.clock)


def asked(io) -> int:
    return len(io.http.asked)


# -- what is read -----------------------------------------------------------------------------------


def test_the_list_as_it_is_served(service):
    text, signature = split(service.listed())
    assert len(signature) == 256
    listing = parse(text)
    assert [region.id for region in listing.regions] == [region["id"] for region in REGIONS]
    first = listing.regions[0]
    assert (first.name, first.country, first.forwards, first.offline) == ("Netherlands", "NL", True, False)
    assert [tuple(server) for server in first.servers["wg"]] == [
        ("198.51.100.10", "nlamsterdam400"),
        ("198.51.100.11", "nlamsterdam401"),
    ]
    assert dict(listing.ports) == {"meta": 443, "wg": 1337, "ovpnudp": 8080, "ovpntcp": 8443}
    assert listing.place_of("198.51.100.21") == (listing.regions[1], listing.regions[1].servers["wg"][1])
    assert listing.place_of("203.0.113.1") is None


def test_ports_that_the_list_does_not_say():
    regions = [{"id": "a", "servers": {}}]
    for groups in (None, {}, [], {"wg": 7}, {"wg": [{"ports": ["1337", 0, True, 70000]}]}):
        assert parse(json.dumps({"groups": groups, "regions": regions}).encode()).ports["wg"] == 1337


@pytest.mark.parametrize(
    "machine",
    [
        {"ip": "198.51.100.1", "cn": "../evil"},
        {"ip": "198.51.100.1", "cn": "Oslo417"},
        {"ip": "198.51.100.1", "cn": ""},
        {"ip": "198.51.100.1", "cn": "oslo417\n"},
        {"ip": "198.51.100.1", "cn": "oslo.example"},
        {"ip": "127.0.0.1", "cn": "oslo417"},
        {"ip": "224.0.0.1", "cn": "oslo417"},
        {"ip": "0.0.0.0", "cn": "oslo417"},
        {"ip": "255.255.255.255", "cn": "oslo417"},
        {"ip": "198.51.100.1/24", "cn": "oslo417"},
        {"ip": "2001:db8::1", "cn": "oslo417"},
        {"ip": 3325256705, "cn": "oslo417"},
        {"cn": "oslo417"},
        "oslo417",
    ],
)
def test_a_server_that_cannot_be_one_is_left_out(machine):
    good = {"ip": "198.51.100.2", "cn": "oslo418"}
    whole = {"regions": [{"id": "no", "servers": {"wg": [machine, good]}}]}
    assert [server.name for server in parse(json.dumps(whole).encode()).regions[0].servers["wg"]] == ["oslo418"]


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["198.51.100.1", "oslo417"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "name", "servers", "wg", "meta", "ip", "cn", "regions", "groups", "ports"])
            | st.text(max_size=5),
            inner,
            max_size=6,
        )
    ),
    max_leaves=30,
)


def is_clean(listing: Listing) -> bool:
    machines = [server for region in listing.regions for each in region.servers.values() for server in each]
    return (
        all(address(server.address) == server.address and server_name(server.name) for server in machines)
        and all(port(each) for each in listing.ports.values())
        and all(region.id and region.name.isprintable() and len(region.name) <= 80 for region in listing.regions)
    )


@given(
    st.fixed_dictionaries({"regions": st.lists(json_values, max_size=4)}, optional={"groups": json_values})
    | json_values
)
def test_whatever_is_signed_is_read_or_is_no_list(value):
    try:
        listing = parse(json.dumps(value).encode())
    except ValueError:
        return
    assert is_clean(listing)


@given(st.binary(max_size=200))
def test_whatever_comes_is_split_or_is_no_list(data):
    try:
        text, signature = split(data)
    except ValueError:
        return
    assert b"\n" not in text
    assert isinstance(signature, bytes)
    try:
        parse(text)
    except ValueError:
        return


def test_nesting_without_end_is_no_list():
    with pytest.raises(ValueError, match="nested"):
        parse(b"[" * 100_000)


# -- the signature ----------------------------------------------------------------------------------


async def test_a_changed_list_is_refused_in_a_sentence_of_its_own(service, io):
    service.tampered = True
    with pytest.raises(Misconfigured) as told:
        await ServerList(list_key()).current(io)
    assert str(told.value) == "reading PIA's server list: its signature is not PIA's, so it is not used"
    assert "options.list_key" in told.value.hint
    assert not io.store.texts


async def test_the_last_good_list_is_used_in_place_of_a_changed_one(service, io):
    await ServerList(list_key()).current(io)
    service.clock.advance(8 * DAY)
    service.tampered = True
    listing = await ServerList(list_key()).current(io)
    assert asked(io) == 2
    assert listing.place_of("203.0.113.66") is None
    assert listing.place_of("198.51.100.10") is not None


async def test_what_is_kept_is_verified_again(service, io):
    servers = ServerList(list_key())
    await servers.current(io)
    assert ServerList(list_key()).kept(io) is not None
    kept = io.store.load("list")
    io.store.save("list", {**kept, "text": kept["text"].replace("198.51.100.10", "203.0.113.66")})
    assert ServerList(list_key()).kept(io) is None


async def test_a_list_signed_by_somebody_else_is_not_pias(io):
    with pytest.raises(Misconfigured, match="signature"):
        await ServerList(LIST_KEY).current(io)


async def test_a_key_that_is_none_is_told(io):
    with pytest.raises(Misconfigured, match="no RSA key") as told:
        await ServerList("MIIB").current(io)
    assert "options.list_key" in told.value.hint


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "no signed list"),
        (b"<html>log in here</html>", "no signed list"),
        (b"<html>\n<body>log in</body>\n", "no signed list"),
        (b'{"regions": []}\n\n' + base64.encodebytes(sign(b'{"regions": []}')), "no servers"),
        (b"[\n\n" + base64.encodebytes(sign(b"[")), "no servers"),
    ],
)
async def test_what_is_no_list_is_told(io, body, word):
    io.http.answer = lambda _: answer(body)
    with pytest.raises(Transient, match=word):
        await ServerList(list_key()).current(io)


async def test_the_newline_before_the_signature_is_not_signed(io):
    text = json.dumps({"regions": [{"id": "a", "servers": {}}]}).encode()
    io.http.answer = lambda _: answer(text + b"\n\n" + base64.encodebytes(sign(text + b"\n")))
    with pytest.raises(Misconfigured, match="signature"):
        await ServerList(list_key()).current(io)


# -- when it is asked for -----------------------------------------------------------------------------


async def test_a_list_is_used_for_a_week_without_asking_also_after_a_restart(service, io):
    await ServerList(list_key()).current(io)
    service.clock.advance(7 * DAY - 1)
    await ServerList(list_key()).current(io)
    assert asked(io) == 1
    service.clock.advance(1)
    await ServerList(list_key()).current(io)
    assert asked(io) == 2


async def test_a_list_is_refreshed_after_a_day_where_that_costs_no_time(service, io):
    servers = ServerList(list_key())
    await servers.current(io)
    service.clock.advance(DAY - 1)
    await servers.refresh(io)
    assert asked(io) == 1
    service.clock.advance(1)
    await servers.refresh(io)
    await servers.refresh(io)
    assert asked(io) == 2
    service.down.add("serverlist")
    service.clock.advance(DAY)
    for _ in range(5):
        await servers.refresh(io)
        service.clock.advance(1200)
    assert asked(io) == 4


async def test_a_list_that_is_doubted_is_replaced_however_young_but_not_asked_for_all_the_time(service, io):
    servers = ServerList(list_key())
    await servers.current(io)
    servers.doubt()
    service.down.add("serverlist")
    for _ in range(10):
        assert await servers.current(io)
        await servers.refresh(io)
        service.clock.advance(60)
    assert asked(io) == 2, "in ten minutes, every five"
    service.down.clear()
    for _ in range(10):
        await servers.current(io)
        service.clock.advance(60)
    assert asked(io) == 3, "and then no more"


async def test_a_login_page_in_place_of_the_list_is_looked_at_again(service, io):
    service.strangers.add("list")
    with pytest.raises(Untrusted, match="its certificate is for another name") as told:
        await ServerList(list_key()).current(io)
    assert told.value.doing == "reading PIA's server list"
    assert "login page" in told.value.hint
    assert told.value.retry_after == 60


@pytest.mark.parametrize("days", [8, 400])
async def test_an_old_list_is_used_while_none_can_be_had(service, io, days):
    servers = ServerList(list_key())
    await servers.current(io)
    service.clock.advance(days * DAY)
    service.down.add("serverlist")
    for _ in range(20):
        assert await servers.current(io)
        service.clock.advance(60)
    assert asked(io) == 2
    service.clock.advance(3600)
    service.down.clear()
    await servers.current(io)
    await servers.current(io)
    assert asked(io) == 3


async def test_a_clock_that_went_back_makes_no_list_fresh(service, io):
    await ServerList(list_key()).current(io)
    service.clock._wall -= 10 * DAY
    await ServerList(list_key()).current(io)
    assert asked(io) == 2


async def test_without_any_list_the_failure_is_told(service, io):
    service.down.add("serverlist")
    with pytest.raises(NoAnswer):
        await ServerList(list_key()).current(io)


async def test_a_disk_that_is_full_costs_no_list(io):
    def full(*_):
        raise Unavailable("saving", "No space left on device")

    io.store.save = full
    assert (await ServerList(list_key()).current(io)).regions


async def test_control_without_the_signature_a_changed_list_would_be_used(service, io, monkeypatch):
    monkeypatch.setattr("vpnpf_providers.pia_list.verified", lambda *_: True)
    service.tampered = True
    assert (await ServerList(list_key()).current(io)).place_of("203.0.113.66") is not None
