"""UPnP against gateways that mean it no good, each on loopback and each bounded in time."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.io.igd_device import PPP, V1, V2, WHAT, Gateway, answer, description, done, envelope, fault, page
from vpnpf.errors import Misconfigured, NoAnswer, Refused, Transient, Unsupported
from vpnpf.interfaces import IgdMapping
from vpnpf.io import ssdp, upnp_device
from vpnpf.io.clock import BootClock
from vpnpf.io.udp import TunnelIO
from vpnpf.model import Endpoint, Protocol, Tunnel, TunnelPlan
from vpnpf.protocol.ssdp import TARGETS
from vpnpf.testing import FakeAccount

OWN = "127.0.0.1"
TCP, UDP = Protocol.TCP, Protocol.UDP


@pytest.fixture
async def gateway():
    async with Gateway() as made:
        yield made


def io(device="lo", address=OWN):
    plan = TunnelPlan(device, Endpoint("192.0.2.1", 51820), (f"{address}/8",))
    return TunnelIO(Tunnel(plan, "test", "10.2.0.1"), BootClock(), FakeAccount())


async def find(gateway):
    return await io().igd(gateway.address)


async def within(seconds, awaitable):
    """The answer or failure, which must be there in time."""
    started = time.monotonic()
    try:
        return await awaitable
    finally:
        assert time.monotonic() - started < seconds


@pytest.fixture
def quick(monkeypatch):
    """Deadlines for those who keep others waiting."""
    monkeypatch.setattr(upnp_device, "_DEADLINE", 0.4)
    monkeypatch.setattr(upnp_device, "_MAPPING_DEADLINE", 0.6)
    monkeypatch.setattr(ssdp, "_DIRECT", (0.1, 0.1))
    monkeypatch.setattr(ssdp, "_MULTICAST", (0.1, 0.1))


# -- a gateway as it should be --------------------------------------------------------------------


async def test_the_whole_way(gateway):
    igd = await within(5, find(gateway))
    assert gateway.searches == list(TARGETS)
    assert await igd.external_address() == "8.8.4.4"
    assert await igd.get_mapping(TCP, 40000) is None
    granted = IgdMapping(40000, 30000, OWN, 3600.0)
    assert await igd.add_mapping(TCP, 40000, 30000, 3600) == granted
    assert await igd.get_mapping(TCP, 40000) == granted
    assert await igd.get_mapping(UDP, 40000) is None
    assert await igd.add_mapping(TCP, 40000, 30000, 3600) == granted, "renewed"
    await igd.delete_mapping(TCP, 40000)
    assert await igd.get_mapping(TCP, 40000) is None
    await igd.delete_mapping(TCP, 40000)
    assert next(said for action, said in gateway.calls if action == "AddPortMapping") == {
        "NewRemoteHost": "",
        "NewExternalPort": "40000",
        "NewProtocol": "TCP",
        "NewInternalPort": "30000",
        "NewInternalClient": OWN,
        "NewEnabled": "1",
        "NewPortMappingDescription": "vpnpf",
        "NewLeaseDuration": "3600",
    }
    assert [path for _, path in gateway.requests] == ["/desc.xml", *["/ctl"] * len(gateway.calls)]


@pytest.mark.parametrize(("lifetime", "asked"), [(0, "1"), (-5, "1"), (7, "7"), (10**9, "604800")])
async def test_a_lifetime_is_brought_into_its_range(gateway, lifetime, asked):
    await (await find(gateway)).add_mapping(UDP, 40000, 40000, lifetime)
    assert gateway.mappings["UDP", "40000"]["NewLeaseDuration"] == asked


@pytest.mark.parametrize(
    ("offered", "taken"),
    [((PPP, V1, V2), V2), ((V1, PPP), V1), ((PPP,), PPP)],
)
async def test_the_best_connection_is_taken(gateway, offered, taken):
    gateway.kind = taken
    gateway.pages["/desc.xml"] = page(description("urn:schemas-upnp-org:service:Layer3Forwarding:1", *offered))
    igd = await find(gateway)
    assert igd._service.service_type == taken
    assert await igd.external_address() == "8.8.4.4"


async def test_the_best_answer_is_taken_also_if_it_is_not_the_first(gateway):
    late = []

    def search(target):
        late.append(answer(gateway.address, gateway.port, target=target, path=f"/{TARGETS.index(target)}.xml"))
        return reversed(late) if target == TARGETS[-1] else []

    gateway.search = search
    gateway.pages["/0.xml"] = page(description(V2))
    await find(gateway)
    assert gateway.requests[0] == ("GET", "/0.xml")


async def test_a_search_that_was_lost_is_sent_again(gateway):
    def search(target):
        return [answer(gateway.address, gateway.port, target=target)] if gateway.searches.count(target) > 1 else []

    gateway.search = search
    await within(2, find(gateway))


async def test_blanks_around_the_xml(gateway):
    gateway.pages["/desc.xml"] = page("\r\n" + description(V2) + "\r\n\0\0")
    gateway.act = lambda action, said: page(gateway.map(action, said).partition(b"\r\n\r\n")[2] + b"\r\n\0")
    assert await (await find(gateway)).external_address() == "8.8.4.4"


async def test_relative_urls_belong_to_the_base_if_that_is_the_gateways_own(gateway):
    base = f"<URLBase>http://{gateway.address}:{gateway.port}/deep/</URLBase>"
    for more, path in ((base, "/deep/ctl"), ("<URLBase>http://192.0.2.66/deep/</URLBase>", "/ctl")):
        gateway.pages["/desc.xml"] = page(description(V2, control="ctl", more=more))
        await (await find(gateway)).external_address()
        assert gateway.requests[-1] == ("POST", path)


# -- error codes ----------------------------------------------------------------------------------


def refusing(gateway, refused, code):
    """Answers with an error code where `refused(action, arguments)` says so."""

    def act(action, said):
        return fault(code) if refused(action, said) else gateway.map(action, said)

    return act


@pytest.mark.parametrize("code", [718, 729])
async def test_a_taken_port_leads_to_the_next(gateway, code):
    gateway.kind = V1
    gateway.pages["/desc.xml"] = page(description(V1))
    gateway.act = refusing(gateway, lambda _, said: int(said.get("NewExternalPort", 0)) < 40002, code)
    igd = await find(gateway)
    assert await igd.add_mapping(TCP, 40000, 30000, 60) == IgdMapping(40002, 30000, OWN, 60.0)
    assert "AddAnyPortMapping" not in dict(gateway.calls)


async def test_a_taken_port_leads_to_the_next_where_any_port_is_not_known(gateway):
    gateway.act = refusing(gateway, lambda _, said: int(said.get("NewExternalPort", 0)) < 40002, 718)
    gateway.act = lambda action, said, act=gateway.act: fault(401) if "Any" in action else act(action, said)
    assert (await (await find(gateway)).add_mapping(TCP, 40000, 30000, 60)).external_port == 40002


async def test_a_taken_port_leads_to_any_port(gateway):
    def act(action, said):
        if action == "AddAnyPortMapping":
            gateway.mappings["TCP", "51000"] = said
            return done(action, ReservedPort=51000)
        return fault(718) if action == "AddPortMapping" else gateway.map(action, said)

    gateway.act = act
    assert await (await find(gateway)).add_mapping(TCP, 40000, 30000, 60) == IgdMapping(51000, 30000, OWN, 60.0)


async def test_all_ports_taken_is_a_failure_that_passes(gateway):
    gateway.act = lambda *_: fault(718)
    igd = await find(gateway)
    with pytest.raises(Transient, match="error 718: the port is taken"):
        await within(5, igd.add_mapping(TCP, 40000, 30000, 60))
    assert len(gateway.calls) == 9


async def test_only_permanent_mappings(gateway):
    gateway.act = refusing(gateway, lambda _, said: said.get("NewLeaseDuration", "0") != "0", 725)
    igd = await find(gateway)
    assert await igd.add_mapping(TCP, 40000, 30000, 60) == IgdMapping(40000, 30000, OWN, None)
    await igd.delete_mapping(TCP, 40000)
    assert not gateway.mappings


async def test_only_equal_ports(gateway):
    gateway.act = refusing(
        gateway,
        lambda action, said: action == "AddPortMapping" and said["NewExternalPort"] != said["NewInternalPort"],
        724,
    )
    assert await (await find(gateway)).add_mapping(TCP, 40000, 30000, 60) == IgdMapping(30000, 30000, OWN, 60.0)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (401, Unsupported),
        (402, Unsupported),
        (501, Transient),
        (600, Misconfigured),
        (606, Misconfigured),
        (716, Unsupported),
        (724, Unsupported),
        (727, Unsupported),
        (728, Transient),
        (999, Transient),
    ],
)
async def test_a_final_error_code(gateway, code, kind):
    gateway.act = lambda *_: fault(code, "&lt;b&gt;; rm -rf /")
    igd = await find(gateway)
    for question in (
        igd.add_mapping(TCP, 40000, 40000, 60),
        igd.delete_mapping(TCP, 40000),
        igd.get_mapping(TCP, 40000),
        igd.external_address(),
    ):
        with pytest.raises(kind, match=f"the gateway said error {code}: ") as caught:
            await question
        assert type(caught.value) is kind
        assert "rm" not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize("code", [713, 714, 730])
async def test_no_such_mapping_is_an_answer(gateway, code):
    gateway.act = lambda *_: fault(code)
    igd = await find(gateway)
    assert await igd.get_mapping(TCP, 40000) is None
    await igd.delete_mapping(TCP, 40000)


async def test_a_gateway_that_cannot_say_what_it_holds(gateway):
    gateway.act = refusing(gateway, lambda action, _: action == "GetSpecificPortMappingEntry", 401)
    assert await (await find(gateway)).add_mapping(TCP, 40000, 40000, 60) == IgdMapping(40000, 40000, OWN, 60.0)


@pytest.mark.parametrize(("held", "lifetime"), [("20", 20.0), ("0", 60.0), ("4000000000", 60.0)])
async def test_the_lifetime_is_what_the_gateway_holds(gateway, held, lifetime):
    def act(action, said):
        if action == "GetSpecificPortMappingEntry":
            gateway.mappings["TCP", "40000"]["NewLeaseDuration"] = held
        return gateway.map(action, said)

    gateway.act = act
    assert (await (await find(gateway)).add_mapping(TCP, 40000, 40000, 60)).lifetime == lifetime


async def test_a_grant_that_goes_to_another_is_none(gateway):
    def act(action, said):
        answered = gateway.map(action, said)
        gateway.mappings["TCP", "40000"]["NewInternalClient"] = "192.0.2.66"
        return answered

    gateway.act = act
    igd = await find(gateway)
    with pytest.raises(Transient, match=r"goes to 192\.0\.2\.66"):
        await igd.add_mapping(TCP, 40000, 40000, 60)


# -- gateways that mean it no good ----------------------------------------------------------------


async def never(writer):
    await asyncio.Event().wait()


async def drip(writer):
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n")
    while True:
        writer.write(b"<")
        await writer.drain()
        await asyncio.sleep(0.02)


BOMB = (
    '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "aaaaaaaaaa">'
    + "".join(f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghi", strict=True))
    + "]>"
)
QUADRATIC = f'<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a "{"a" * 30000}">]>'
FILE = '<?xml version="1.0"?><!DOCTYPE z [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
REMOTE = '<?xml version="1.0"?><!DOCTYPE z SYSTEM "http://192.0.2.66/z.dtd">'
XML = {
    "nothing": b"",
    "no xml": b"hello",
    "half": description(V2)[:200].encode(),
    "binary": bytes(range(256)) * 20,
    "another encoding": description(V2).encode("utf-16"),
    "an unknown encoding": b'<?xml version="1.0" encoding="x-none"?><root/>',
    "a bomb of entities": (BOMB + "<root>&i;</root>").encode(),
    "a quadratic bomb": (QUADRATIC + f"<root>{'&a;' * 5000}</root>").encode(),
    "an entity of a file": (FILE + "<root>&a;</root>").encode(),
    "a remote document type": (REMOTE + "<root>&a;</root>").encode(),
    "deep": b"<a>" * 8000 + b"</a>" * 8000,
    "wide": b"<a>" + b"<b/>" * 15000 + b"</a>",
    "many attributes": b"<a " + b" ".join(b"a%d='1'" % n for n in range(5000)) + b"/>",
    "another root": b"<html><body>login</body></html>",
    "only blanks": b" " * 60000,
}


@pytest.mark.parametrize("name", XML)
async def test_a_description_that_is_none(gateway, name):
    gateway.pages["/desc.xml"] = page(XML[name])
    with pytest.raises((Transient, Unsupported)):
        await within(2, find(gateway))


@pytest.mark.parametrize("name", XML)
async def test_an_answer_that_is_none(gateway, name):
    igd = await find(gateway)
    for status in ("200 OK", "500 Internal Server Error", "302 Found"):
        gateway.act = lambda *_, status=status: page(XML[name], status)
        for question in (
            igd.add_mapping(TCP, 40000, 40000, 60),
            igd.delete_mapping(TCP, 40000),
            igd.get_mapping(TCP, 40000),
            igd.external_address(),
        ):
            with pytest.raises(Transient):
                await within(2, question)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (page("<root/>" + " " * 70000), Transient),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"<a>" * 200_000, Transient),
        (b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(200)) + b"\r\n", Transient),
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", Transient),
        (b"", Transient),
        (page("no", "404 Not Found"), Transient),
        (b"HTTP/1.1 302 Found\r\nlocation: http://192.0.2.66/\r\ncontent-length: 0\r\n\r\n", Transient),
        (never, NoAnswer),
        (drip, NoAnswer),
    ],
)
async def test_http_that_means_no_good(gateway, quick, said, kind):
    gateway.pages["/desc.xml"] = said
    with pytest.raises(kind):
        await within(2, find(gateway))


@pytest.mark.parametrize(("said", "kind"), [(never, NoAnswer), (drip, NoAnswer), (b"", Transient)])
async def test_soap_that_does_not_come(gateway, quick, said, kind):
    igd = await find(gateway)
    gateway.act = lambda *_: said
    for question in (
        igd.add_mapping(TCP, 40000, 40000, 60),
        igd.delete_mapping(TCP, 40000),
        igd.get_mapping(TCP, 40000),
        igd.external_address(),
    ):
        with pytest.raises(kind) as caught:
            await within(1.5, question)
        assert gateway.address in caught.value.doing


async def test_a_gateway_whose_port_is_closed(gateway):
    gateway._server.close()
    with pytest.raises(Refused) as caught:
        await within(2, find(gateway))
    assert "program" not in caught.value.hint


async def test_a_closed_port_after_it_was_found(gateway):
    igd = await find(gateway)
    gateway._server.close()
    with pytest.raises(Refused):
        await within(2, igd.add_mapping(TCP, 40000, 40000, 60))


async def test_a_thousand_services_cost_one_request(gateway):
    others = "".join(
        f"<service><serviceType>urn:x:service:Y:{n}</serviceType><SCPDURL>/{n}</SCPDURL></service>" for n in range(700)
    )
    text = description(V2).replace("<serviceList>", f"<serviceList>{others}")
    assert 60000 < len(text) < 65000
    gateway.pages["/desc.xml"] = page(text)
    await within(2, find(gateway))
    assert gateway.requests == [("GET", "/desc.xml")]


async def test_of_several_connections_of_a_kind_the_first_that_can_be_asked_is_taken(gateway):
    first, second = (description(V2, control=control) for control in ("http://192.0.2.66/ctl", "/second"))
    service = second.partition("<serviceList>")[2].partition("</serviceList>")[0]
    gateway.pages["/desc.xml"] = page(first.replace("</serviceList>", f"{service}</serviceList>"))
    await (await find(gateway)).external_address()
    assert gateway.requests[-1] == ("POST", "/second")


@pytest.mark.parametrize(
    "control",
    [
        "http://192.0.2.66/ctl",
        "//192.0.2.66/ctl",
        "file:///etc/passwd",
        "http://[::1/ctl",
        "http://user@{gateway}/ctl",
        "https://{gateway}/ctl",
        "/c\u00e9",
        "/a b",
        "/" + "a" * 2000,
        "",
    ],
)
async def test_it_is_never_asked_elsewhere(gateway, control):
    gateway.pages["/desc.xml"] = page(description(V2, control=control.format(gateway=gateway.address)))
    with pytest.raises(Unsupported, match="no connection whose ports can be mapped"):
        await within(2, find(gateway))
    assert gateway.requests == [("GET", "/desc.xml")]


async def test_a_url_is_written_as_xml_again(gateway):
    gateway.pages["/desc.xml"] = page(description(V2, control="/ctl?a=1&amp;b=&lt;/controlURL&gt;"))
    await (await find(gateway)).external_address()
    assert gateway.requests[-1] == ("POST", "/ctl?a=1&b=%3C/controlURL%3E")


async def test_no_connection(gateway):
    gateway.pages["/desc.xml"] = page(description("urn:schemas-upnp-org:service:Layer3Forwarding:1"))
    with pytest.raises(Unsupported, match="no connection"):
        await find(gateway)


NUMBERS = ("", "0", "-1", "65536", "4e4", "0x10", "40000.5", "9" * 5000, "\u0664", "soon", "<b>1</b>", "true")


@pytest.mark.parametrize("value", NUMBERS)
async def test_a_port_that_is_none(gateway, value):
    gateway.act = lambda action, _: (
        done(action, ReservedPort=value) if action == "AddAnyPortMapping" else fault(718 if "Add" in action else 401)
    )
    igd = await find(gateway)
    with pytest.raises(Transient, match="broken answer"):
        await within(2, igd.add_mapping(TCP, 40000, 40000, 60))


@pytest.mark.parametrize("name", ["InternalPort", "LeaseDuration"])
@pytest.mark.parametrize("value", [value for value in NUMBERS if value not in {"0", "65536"}])
async def test_an_entry_that_is_none(gateway, name, value):
    good = dict(zip(WHAT, ("1", OWN, "1", "x", "60"), strict=True))
    gateway.act = lambda action, _: done(action, **good | {name: value})
    igd = await find(gateway)
    with pytest.raises(Transient, match="broken answer"):
        await igd.get_mapping(TCP, 40000)


async def test_whose_mapping_it_is_may_be_a_name(gateway):
    good = dict(zip(WHAT, ("1", "nas.example", "1", "x", "0"), strict=True))
    gateway.act = lambda action, _: done(action, **good)
    assert await (await find(gateway)).get_mapping(TCP, 40000) == IgdMapping(40000, 1, "", None)


@pytest.mark.parametrize("value", ["", "0.0.0.0", "fe80::1", "8.8.4.4; reboot", "1", "example.com"])
async def test_an_external_address_that_is_none(gateway, value):
    gateway.act = lambda action, _: done(action, ExternalIPAddress=value)
    with pytest.raises(Transient, match="it has none"):
        await (await find(gateway)).external_address()


@pytest.mark.parametrize("code", ["", "0", "-718", "718.0", "x", "9" * 50, "9" * 5000])
async def test_an_error_code_that_is_none(gateway, code):
    gateway.act = lambda *_: fault(code)
    igd = await find(gateway)
    with pytest.raises(Transient) as caught:
        await within(2, igd.add_mapping(TCP, 40000, 40000, 60))
    assert len(str(caught.value)) < 200


@pytest.mark.parametrize("inside", ["", "<u:Other xmlns:u='x'/>", "<s:Fault/>", "text"])
async def test_an_envelope_with_something_else(gateway, inside):
    gateway.act = lambda *_: page(envelope(inside))
    igd = await find(gateway)
    with pytest.raises(Transient):
        await igd.external_address()


# -- the search -----------------------------------------------------------------------------------


async def test_nobody_there(quick):
    with pytest.raises(NoAnswer) as caught:
        await within(2, io().igd("127.255.1.2"))
    assert caught.value.hint


@pytest.mark.parametrize(
    "location",
    ["http://192.0.2.66:80/desc.xml", "http://127.0.0.1:{port}/desc.xml", "https://{gateway}:{port}/desc.xml", ""],
)
async def test_a_location_elsewhere_is_no_answer(gateway, quick, location):
    said = location.format(gateway=gateway.address, port=gateway.port)
    gateway.search = lambda target: [f"HTTP/1.1 200 OK\r\nST: {target}\r\nLOCATION: {said}\r\n\r\n".encode()]
    with pytest.raises(NoAnswer):
        await within(2, find(gateway))
    assert gateway.connections == 0


@pytest.mark.parametrize("honest", [False, True])
async def test_an_answer_of_somebody_else_is_none(gateway, quick, honest):
    async with Gateway() as other:

        def search(target):
            sender = gateway if honest else other
            sender._socket.sendto(answer(gateway.address, gateway.port, target=target), gateway.searcher)
            return []

        gateway.search = search
        if honest:
            await find(gateway)
        else:
            with pytest.raises(NoAnswer):
                await find(gateway)
            assert gateway.connections == 0


async def test_garbage_before_the_answer(gateway):
    gateway.search = lambda target: [
        b"",
        b"\xff" * 3000,
        b"HTTP/1.1",
        answer(gateway.address, gateway.port, target=target),
    ]
    await within(2, find(gateway))


async def test_a_flood_of_garbage_holds_neither_the_loop_nor_the_end(quick, monkeypatch):
    loop = asyncio.get_running_loop()
    until = loop.time() + 3

    async def always(sock, size):
        """Something is there to be read whenever it is asked, so that reading never waits."""
        assert loop.time() < until, "the end did not come"
        return b"x" * 100, ("127.0.0.9", 1900)

    monkeypatch.setattr(loop, "sock_recvfrom", always)
    longest, last = 0.0, loop.time()

    async def watch():
        nonlocal longest, last
        while True:
            await asyncio.sleep(0)
            longest, last = max(longest, loop.time() - last), loop.time()

    watching = asyncio.create_task(watch())
    with pytest.raises(NoAnswer):
        await within(2, io().igd("127.0.0.9"))
    watching.cancel()
    assert longest < 0.3


async def test_a_device_that_is_not_there():
    with pytest.raises(Transient, match="looking for a UPnP gateway at 127") as caught:
        await within(1, io(device="nosuch0").igd("127.0.0.9"))
    assert not isinstance(caught.value, NoAnswer)
    assert "nosuch0" in caught.value.hint


@pytest.mark.parametrize("address", ["", "example.com", "fd00::1", "10.2.0.1/24", "010.2.0.1", "10.2.0.1\n"])
async def test_an_address_that_is_none(address):
    with pytest.raises(Unsupported):
        await io().igd(address)


# -- the package ----------------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]


def python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return json.loads(done.stdout)


LOADED = "print(json.dumps([name in sys.modules for name in ('async_upnp_client', 'aiohttp', 'defusedxml')]))"


def test_the_package_is_loaded_when_it_is_used_and_not_before():
    assert python(f"import json, sys, vpnpf.io.udp, vpnpf.wiring; {LOADED}") == [False, False, False]
    assert python(f"import json, sys, vpnpf.io.upnp_device; {LOADED}") == [True, True, True]


@pytest.mark.parametrize("missing", ["async_upnp_client", "aiohttp", "defusedxml"])
async def test_without_the_package_nothing_is_sent(missing):
    async with Gateway() as gateway:
        code = (
            "import asyncio, json, sys\n"
            f"sys.modules[{missing!r}] = None\n"
            "from vpnpf.errors import Unsupported\n"
            "from vpnpf.io.upnp import find\n"
            "try: asyncio.run(find('lo', '127.0.0.1', sys.argv[1]))\n"
            "except Unsupported as error: print(json.dumps([str(error), error.hint]))\n"
        )
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", code, gateway.address],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        said, hint = json.loads(done.stdout)
        assert missing in said
        assert hint == "pip install vpnpf[upnp]"
        assert gateway.searches == []
