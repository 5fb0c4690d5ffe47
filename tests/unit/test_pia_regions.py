"""Which of PIA's servers a profile goes to, and what is said where there is none."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from tests.contract.pia_world import BROKEN, DAY, REGIONS, PiaService, options, region
from vpnpf.errors import Misconfigured, NoAnswer, Transient, Unsupported
from vpnpf.interfaces import Credentials
from vpnpf.model import Endpoint, Protocol
from vpnpf.testing import FakeClock
from vpnpf_providers.pia import PrivateInternetAccess

TCP, UDP = Protocol.TCP, Protocol.UDP
LISTED = "`vpnpf servers pia` lists them"


@pytest.fixture
def service():
    clock = FakeClock()
    made = PiaService(clock.now, clock.wall)
    made.clock = clock
    return made


@pytest.fixture
def io(service):
    made = service.outside(service.clock)
    made.distances = {"198.51.100.10": 0.030, "198.51.100.20": 0.020, "198.51.100.30": 0.090}
    return made


async def offers(io, kind="wireguard", **more):
    return await PrivateInternetAccess(options(**more)).offers(io, kind)


async def places(io, **more) -> list[str]:
    return [offer.place for offer in await offers(io, **more)]


async def refused(io, kind, **more) -> str:
    with pytest.raises(kind) as told:
        await offers(io, **more)
    return f"{told.value} ({told.value.hint})"


# -- what an offer is -------------------------------------------------------------------------------


async def test_wireguard(io):
    first, second = await offers(io, region="nl_amsterdam")
    assert first.endpoint == Endpoint("198.51.100.10", 1337, UDP)
    assert first.server_name == "nlamsterdam400"
    assert first.place == "Netherlands (nlamsterdam400)"
    assert first.services == (
        Endpoint("198.51.100.10", 1337, TCP),
        Endpoint("198.51.100.10", 443, TCP),
        Endpoint("198.51.100.11", 443, TCP),
    )
    assert second.endpoint.address == "198.51.100.11"
    assert first.identity == second.identity == "pia"


@pytest.mark.parametrize(("transport", "port"), [("udp", 8080), ("tcp", 8443)])
async def test_openvpn(io, transport, port):
    first, _ = await offers(io, "openvpn", region="nl_amsterdam", transport=transport)
    assert first.endpoint == Endpoint("198.51.100.10", port, Protocol(transport))
    assert {each.port for each in first.services} == {443}


async def test_the_port_for_logins_is_let_out_whatever_else_the_list_says(service, io):
    """What `configure` asks is what the packet filter lets out."""
    service.groups = {**service.groups, "meta": [{"name": "meta", "ports": [8080, 443]}]}
    provider = PrivateInternetAccess(options(region="nl_amsterdam"))
    offer, *_ = await provider.offers(io, "wireguard")
    await provider.configure(io, "wireguard", offer)
    asked = {(each.connect_to, urlsplit(each.url).port) for each in io.http.asked if each.connect_to}
    assert ("198.51.100.10", 443) in asked
    assert asked <= {(each.address, each.port) for each in offer.services}


async def test_a_region_without_servers_for_logins_is_given_those_of_another(service, io):
    alone = region(7, "Iceland")
    alone["servers"] = {"wg": alone["servers"]["wg"]}
    service.regions = [alone, *REGIONS]
    first, _ = await offers(io, region="iceland")
    assert first.services[1:] == (Endpoint("198.51.100.10", 443, TCP), Endpoint("198.51.100.11", 443, TCP))


async def test_a_tunnel_of_another_kind(io):
    with pytest.raises(Unsupported) as told:
        await offers(io, "pigeons")
    assert "tunnel.type" in told.value.hint


async def test_the_password_is_not_asked_for(io):
    io.login = None
    assert await offers(io)


# -- regions by name --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["nl_amsterdam", "NL_Amsterdam", "Netherlands", " netherlands "])
async def test_a_region_by_id_or_name(io, name):
    assert await places(io, region=name) == ["Netherlands (nlamsterdam400)", "Netherlands (nlamsterdam401)"]


async def test_several_regions_one_after_another(io):
    found = await places(io, region="CA Toronto, nl_amsterdam,CA Toronto")
    assert [place.split()[0] for place in found] == ["CA", "CA", "Netherlands", "Netherlands"]


async def test_a_region_that_is_off_is_passed_over(io):
    assert len(await places(io, region="Norway, nl_amsterdam")) == 2


async def test_there_are_not_too_many(service, io):
    service.regions = [region(n, f"R{n}") for n in range(1, 20)]
    assert len(await offers(io, region=", ".join(f"R{n}" for n in range(1, 20)))) == 12


async def test_an_unknown_region(io):
    told = await refused(io, Misconfigured, region="netherland")
    assert told == (
        'choosing a region of PIA: there is no region "netherland" '
        f'(did you mean "nl_amsterdam" (Netherlands)? {LISTED})'
    )
    assert await refused(io, Misconfigured, region="xyzzy") == (
        f'choosing a region of PIA: there is no region "xyzzy" ({LISTED})'
    )
    assert "\x1b" not in await refused(io, Misconfigured, region="\x1b[31mnowhere" * 50)


async def test_a_region_without_port_forwarding_names_the_nearest_that_has_it(io):
    assert await refused(io, Misconfigured, region="US East") == (
        "choosing a region of PIA: US East (us_east) has no port forwarding: PIA forwards no ports in the United States "
        f'(the nearest that has it is DE Berlin: set options.region = "de_berlin"; {LISTED})'
    )


async def test_the_nearest_is_in_the_same_country_if_there_is_one(io):
    io.distances["198.51.100.20"] = 0.5
    assert await refused(io, Misconfigured, region="de_frankfurt") == (
        "choosing a region of PIA: DE Frankfurt (de_frankfurt) has no port forwarding "
        f'(the nearest that has it is DE Berlin: set options.region = "de_berlin"; {LISTED})'
    )


async def test_a_region_without_port_forwarding_beside_a_good_one_is_said_all_the_same(io):
    assert "us_east" in await refused(io, Misconfigured, region="nl_amsterdam, us_east")


async def test_a_region_that_is_off(io):
    assert await refused(io, Unsupported, region="norway") == (
        "choosing a region of PIA: Norway (norway) is off at the moment "
        f'(the nearest that has it is DE Berlin: set options.region = "de_berlin"; {LISTED})'
    )


async def test_a_region_without_servers_of_this_kind(service, io):
    alone = region(7, "Iceland", servers={})
    service.regions = [alone, *REGIONS]
    assert "has no servers for this kind of tunnel" in await refused(io, Unsupported, region="Iceland")


async def test_nobody_is_there_to_be_named(service, io):
    service.regions = [REGIONS[3]]
    assert (await refused(io, Misconfigured, region="us_east")).endswith(f"(choose another region: {LISTED})")
    assert "no region has port forwarding at the moment" in await refused(io, Unsupported)


# -- the nearest ------------------------------------------------------------------------------------


def first_words(found: list[str]) -> list[str]:
    return list(dict.fromkeys(place.rpartition(" ")[0] for place in found))


async def test_auto_is_the_nearest_with_port_forwarding(io):
    assert first_words(await places(io)) == ["DE Berlin", "Netherlands", "CA Toronto"]
    assert first_words(await places(io, region="CA Toronto, auto")) == ["CA Toronto", "DE Berlin", "Netherlands"]


async def test_what_was_measured_is_used_for_a_day_also_after_a_restart(service, io):
    await places(io)
    io.distances = {"198.51.100.30": 0.001, "198.51.100.20": 0.02}
    service.clock.advance(DAY - 1)
    assert first_words(await places(io))[0] == "DE Berlin"
    service.clock.advance(2)
    assert first_words(await places(io))[0] == "CA Toronto"


async def test_while_nothing_can_be_reached_what_was_measured_last_is_used(service, io):
    await places(io)
    io.distances = {}
    service.down.add("serverlist")
    service.clock.advance(30 * DAY)
    assert first_words(await places(io))[0] == "DE Berlin"


async def test_what_a_lock_lets_out_to_is_no_measure_of_the_others(service, io):
    """The packet filter lets out to the services of the last offer: that region alone answers."""
    service.regions = [region(n, f"R{n}") for n in range(1, 9)]
    io.distances = {f"198.51.100.{n}0": 0.01 * (9 - n) for n in range(1, 9)}
    nearest = first_words(await places(io))
    assert nearest == ["R8", "R7", "R6", "R5"]
    io.distances = {"198.51.100.80": 0.01}
    service.clock.advance(2 * DAY)
    assert first_words(await places(io)) == nearest
    io.distances = {f"198.51.100.{n}0": 0.01 * n for n in range(1, 9)}
    service.clock.advance(2 * DAY)
    assert first_words(await places(io)) == ["R1", "R2", "R3", "R4"]


async def test_while_nothing_can_be_reached_that_is_not_tried_at_each_start(service, io):
    await places(io)
    service.clock.advance(2 * DAY)
    asked, reach_all = [], io.reach_all

    async def counted(endpoints, within):
        asked.append(within)
        return await reach_all(endpoints, within)

    io.reach_all, io.distances = counted, {}
    for _ in range(10):
        assert first_words(await places(io))[0] == "DE Berlin"
        service.clock.advance(600)
    assert asked == [1.5, 1.5]


async def test_without_any_measure_the_order_is_that_of_the_list(io):
    io.distances = {}
    assert first_words(await places(io)) == ["Netherlands", "DE Berlin", "CA Toronto"]


async def test_far_ones_are_not_waited_for(io):
    io.distances = {"198.51.100.10": 5.0, "198.51.100.20": NoAnswer("connecting", "no"), "198.51.100.30": 0.1}
    assert first_words(await places(io))[0] == "CA Toronto"


async def test_what_pias_own_client_does_not_choose_is_the_last_resort(service, io):
    service.regions = [region(1, "Netherlands"), region(2, "DE Berlin", auto_region=False)]
    assert first_words(await places(io)) == ["Netherlands"]
    service.regions = [region(2, "DE Berlin", auto_region=False)]
    io.store.forget("list")
    assert first_words(await places(io)) == ["DE Berlin"]


@pytest.mark.parametrize(
    "kept", [{}, {"at": 1}, {"at": "x", "seconds": {}}, {"at": 1e308, "seconds": {"a": "b", "de_berlin": -1}}]
)
async def test_distances_that_are_none_are_measured_anew(io, kept):
    io.store.save("distances", kept)
    assert first_words(await places(io))[0] == "DE Berlin"


# -- all of them --------------------------------------------------------------------------------------


async def test_regions(io):
    found = {each.id: each for each in await PrivateInternetAccess(options()).regions(io)}
    assert len(found) == len(REGIONS)
    assert found["nl_amsterdam"].knock == Endpoint("198.51.100.10", 443, TCP)
    assert found["norway"].knock is None
    assert [each.id for each in found.values() if not each.forwards] == ["us_east", "de_frankfurt"]


# -- who can be asked for a token while all else is blocked ---------------------------------------


@pytest.mark.parametrize("wanted", ["nl_amsterdam", "de_berlin", "DE Berlin", "auto", "de_berlin,nl_amsterdam"])
async def test_a_login_asks_the_servers_that_the_offer_lets_out(service, io, wanted):
    provider = PrivateInternetAccess(options(region=wanted))
    offer = (await provider.offers(io, "wireguard"))[0]
    io.http.asked.clear()
    service.login = BROKEN
    with pytest.raises(Transient):
        await provider.log_in(io, Credentials("p1234567", "of nobody"))
    by_address = {each.connect_to for each in io.http.asked if each.connect_to}
    assert by_address == {each.address for each in offer.services if each.port == 443}
