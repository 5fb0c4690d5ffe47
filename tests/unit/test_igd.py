"""SSDP's bytes and the meaning of error codes: pure, so tried to the end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpnpf.errors import Failure, Misconfigured, Transient, Unsupported
from vpnpf.protocol import ssdp
from vpnpf.protocol.igd import Wish, failure_of, next_wish

GATEWAY = "10.2.0.1"
ANSWER = (
    "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nST: {st}\r\nUSN: uuid:1::{st}\r\nEXT:\r\n"
    "SERVER: Debian/6 UPnP/1.1 MiniUPnPd/2.3.1\r\nLOCATION: {location}\r\n\r\n"
)


def answer(location="http://10.2.0.1:5000/rootDesc.xml", st=ssdp.TARGETS[1]):
    return ANSWER.format(st=st, location=location).encode()


def test_a_search_as_the_standard_writes_it():
    assert ssdp.search(ssdp.TARGETS[0], ssdp.GROUP) == (
        b"M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\n"
        b'MAN: "ssdp:discover"\r\nMX: 2\r\nST: urn:schemas-upnp-org:device:InternetGatewayDevice:2\r\n\r\n'
    )


def test_an_answer():
    found = ssdp.parse(answer(), GATEWAY, GATEWAY)
    assert found == ssdp.Found(1, "http://10.2.0.1:5000/rootDesc.xml")


def test_header_names_in_any_case_and_the_first_of_two():
    said = answer().replace(b"LOCATION", b"Location").replace(b"\r\n\r\n", b"\r\nlocation: http://192.0.2.1/\r\n\r\n")
    assert ssdp.parse(said, GATEWAY, GATEWAY).location == "http://10.2.0.1:5000/rootDesc.xml"


@pytest.mark.parametrize(
    "location",
    [
        "",
        "http://192.0.2.66:5000/rootDesc.xml",
        "http://127.0.0.1:5000/rootDesc.xml",
        "http://localhost/rootDesc.xml",
        "http://10.2.0.1.example/rootDesc.xml",
        "http://10.2.0.1./rootDesc.xml",
        "http://10.2.0.1@192.0.2.66/rootDesc.xml",
        "http://192.0.2.66#@10.2.0.1/",
        "http://10.2.0.1\\@192.0.2.66/",
        "http://010.2.0.1/",
        "http://0x0a020001/",
        "http://167903233/",
        "http://[::ffff:10.2.0.1]/",
        "http://[10.2.0.1/",
        "https://10.2.0.1/rootDesc.xml",
        "file:///etc/passwd",
        "ftp://10.2.0.1/",
        "//10.2.0.1/",
        "http://10.2.0.1:0/",
        "http://10.2.0.1:65536/",
        "http://10.2.0.1:x/",
        "http://10.2.0.1/a b",
        "http://10.2.0.1/\x1b[2J",
        "http://10.2.0.1/\u00e9",
        "http://10.2.0.1/" + "a" * 600,
    ],
)
def test_a_location_elsewhere_or_that_cannot_be_asked(location):
    assert ssdp.parse(answer(location), GATEWAY, GATEWAY) is None


@pytest.mark.parametrize(
    ("data", "sender"),
    [
        (answer(), "10.2.0.66"),
        (answer(st="upnp:rootdevice"), GATEWAY),
        (answer(st="urn:schemas-upnp-org:device:MediaServer:1"), GATEWAY),
        (answer().replace(b"200 OK", b"404 No"), GATEWAY),
        (answer().replace(b"HTTP/1.1 200 OK", b"NOTIFY * HTTP/1.1"), GATEWAY),
        (ssdp.search(ssdp.TARGETS[0], GATEWAY), GATEWAY),
        (answer() + b"x" * 2000, GATEWAY),
        (b"HTTP/1.1", GATEWAY),
        (b"", GATEWAY),
    ],
)
def test_what_is_no_answer(data, sender):
    assert ssdp.parse(data, sender, GATEWAY) is None


@given(st.binary(max_size=3000) | st.text().map(lambda text: answer(location=text)))
def test_no_bytes_are_an_error(data):
    found = ssdp.parse(data, GATEWAY, GATEWAY)
    assert found is None or found.location.startswith("http://10.2.0.1")


# -- error codes ----------------------------------------------------------------------------------


def asked(code, wish):
    """All the wishes that a gateway hears that always answers with the same code."""
    wishes = [wish]
    while (further := next_wish(wishes[-1], code)) is not None:
        wishes.append(further)
    return wishes


@pytest.mark.parametrize("code", [718, 729])
def test_a_conflict_leads_to_the_next_ports(code):
    wishes = asked(code, Wish(65533, 4000, 3600))
    assert [wish.external_port for wish in wishes] == [65533, 65534, 65535, 1024, 1025, 1026, 1027, 1028]
    assert {(wish.internal_port, wish.lifetime, wish.any_port) for wish in wishes} == {(4000, 3600, False)}


def test_a_conflict_leads_to_any_port_where_that_can_be_asked():
    wishes = asked(718, Wish(5000, 5000, 3600, may_any=True))
    assert [(wish.external_port, wish.any_port) for wish in wishes[:3]] == [(5000, False), (5000, True), (5001, False)]
    assert not any(wish.any_port for wish in wishes[2:])


def test_an_any_port_that_is_not_there_leads_to_the_next_ports():
    asking = next_wish(Wish(5000, 5000, 3600, may_any=True), 718)
    assert next_wish(asking, 401) == Wish(5001, 5000, 3600, conflicts=1)


def test_permanent_and_same_ports_once_each():
    assert next_wish(Wish(5000, 4000, 3600), 725) == Wish(5000, 4000, 0)
    assert next_wish(Wish(5000, 4000, 0), 725) is None
    assert next_wish(Wish(5000, 4000, 3600), 724) == Wish(4000, 4000, 3600, same=True)
    assert next_wish(Wish(4000, 4000, 3600, same=True), 724) is None
    assert next_wish(Wish(4000, 4000, 3600), 724) is None


def test_the_same_ports_stay_the_same_when_they_move():
    assert next_wish(Wish(4000, 4000, 0, same=True, may_any=True), 718) == Wish(
        4001, 4001, 0, same=True, may_any=True, conflicts=1
    )


@pytest.mark.parametrize("code", [401, 402, 404, 501, 600, 601, 603, 604, 606, 714, 715, 716, 726, 727, 728, 731, 999])
def test_everything_else_is_final(code):
    assert next_wish(Wish(5000, 4000, 3600, may_any=True), code) is None


@given(
    st.lists(st.sampled_from([718, 729, 724, 725, 401, 404, 602]) | st.integers(1, 999), min_size=40, max_size=40),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.booleans(),
)
def test_it_ends_whatever_is_answered(codes, external, internal, may_any):
    wish, tries = Wish(external, internal, 3600, may_any=may_any), 0
    for code in codes:
        assert 1 <= wish.external_port <= 65535
        assert 1 <= wish.internal_port <= 65535
        wish, tries = next_wish(wish, code), tries + 1
        if wish is None:
            break
    assert tries <= 12


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, Unsupported),
        (402, Unsupported),
        (501, Transient),
        (606, Misconfigured),
        (716, Unsupported),
        (718, Transient),
        (724, Unsupported),
        (725, Unsupported),
        (727, Unsupported),
        (728, Transient),
        (729, Transient),
        (999, Transient),
    ],
)
def test_the_kind_of_a_failure(code, kind):
    failure = failure_of(code, "asking")
    assert type(failure) is kind
    assert str(failure).startswith(f"asking: the gateway said error {code}: ")


@given(st.integers(1, 999))
def test_every_code_is_a_failure_that_can_be_read(code):
    failure = failure_of(code, "asking")
    assert isinstance(failure, Failure)
    assert failure.cause.isprintable()
    if isinstance(failure, Misconfigured):
        assert failure.hint
