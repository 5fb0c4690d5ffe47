"""Ports that a person sets on the provider's site: the list, the forwards that have them, their end; and nobody is asked."""

from __future__ import annotations

import inspect
from datetime import UTC, datetime
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contract.provider_world import Mapped, World
from tests.contract.providers import ProviderContract
from vpnpf import plugins
from vpnpf.config import parse
from vpnpf.errors import ConfigError, LeaseLost, Misconfigured, Transient
from vpnpf.model import BOTH, ForwardSpec, Lease, MappingRequest, Protocol
from vpnpf.plugins import Group
from vpnpf.testing import FakeClock, FakeHttp, FakeIO, a_tunnel, scripted
from vpnpf_providers import static, static_ports
from vpnpf_providers.static import AirVpn, PureVpn, Static, TorGuard
from vpnpf_providers.static_ports import Port, end_of

TCP, UDP = (Protocol.TCP,), (Protocol.UDP,)
KIN = (
    "static", "airvpn", "anonine", "nordvpn-dedicated", "ovpn", "purevpn", "torguard", "vyprvpn", "windscribe",
)  # fmt: skip
everyone = pytest.mark.parametrize("name", KIN)
TUNNEL = a_tunnel()


def nobody(asked):
    raise AssertionError(f"it asked {asked.url}")


@pytest.fixture
def io():
    """A world that breaks the test if anybody in it is asked."""
    made = FakeIO(scripted({}), clock=FakeClock(5000.0, datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()))
    made.http = FakeHttp(nobody)
    yield made
    assert not made.sent
    assert not made.store.texts


async def lease_of(io, options, spec=None, plugin=Static):
    return await plugin(options).acquire(io, TUNNEL, MappingRequest(spec or ForwardSpec("torrent")))


def mistakes(tmp_path, name, options, forwards="forwards.torrent = {}"):
    """What the configuration's checker says, as (key, what, hint)."""
    (tmp_path / "home.conf").write_text("[Interface]\n")
    text = f"""
[profiles.home]
provider = "{name}"
tunnel = {{ type = "wireguard", config = "home.conf" }}
{forwards}
{options}
"""
    try:
        parse(text, tmp_path / "config.toml")
    except ConfigError as error:
        return [(m.where.rpartition(": ")[2].removeprefix("profiles.home."), m.what, m.hint) for m in error.mistakes]
    return []


# -- all of them ----------------------------------------------------------------------------------


@everyone
async def test_a_port_is_as_it_was_written_down(io, name):
    provider = plugins.provider(name)({"ports": [41001]})
    before = io.now()
    lease = await provider.acquire(io, TUNNEL, MappingRequest(ForwardSpec("torrent")))
    assert lease == Lease(41001, 41001, BOTH, before, None)
    again = await provider.acquire(io, TUNNEL, MappingRequest(ForwardSpec("torrent"), lease, renewal=True))
    assert again == lease
    await provider.release(io, TUNNEL, lease)


@everyone
def test_it_says_what_a_person_has_to_do(name, tmp_path):
    manifest = plugins.manifest(Group.PROVIDERS, name)
    assert "options.ports" in manifest.help or name == "static"
    assert manifest.help.endswith(".")
    assert manifest.verified == "not needed"
    ((key, what, hint),) = mistakes(tmp_path, name, "")
    assert (key, what) == ("options.ports", 'the option "ports" is missing')
    assert manifest.help.rstrip(".") in hint


@everyone
def test_the_configuration_is_good(name, tmp_path):
    assert not mistakes(tmp_path, name, 'options = { ports = [41001], ends = "2026-12-08" }')


def test_each_is_an_entry_point_with_a_class_of_its_own():
    classes = {plugins.provider(name) for name in KIN}
    assert len(classes) == len(KIN)
    assert all(issubclass(each, Static) for each in classes)


def test_nothing_of_the_network_is_within_reach():
    """Without an `await` nobody can be asked: what `io` has to ask with are coroutines."""
    for module in (static, static_ports):
        assert "await" not in inspect.getsource(module)


# -- the list -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("items", "ports"),
    [
        ([41001], [Port(41001, 41001, BOTH)]),
        (["41001"], [Port(41001, 41001, BOTH)]),
        (["41001/tcp"], [Port(41001, 41001, TCP)]),
        (["41001:6881"], [Port(41001, 6881, BOTH)]),
        (["41001:6881/udp"], [Port(41001, 6881, UDP)]),
        (["41001/udp", 41002, "41001/tcp"], [Port(41001, 41001, BOTH), Port(41002, 41002, BOTH)]),
        (["41001:1/udp", "41001:2/tcp"], [Port(41001, 1, UDP), Port(41001, 2, TCP)]),
        ([1, 65535], [Port(1, 1, BOTH), Port(65535, 65535, BOTH)]),
    ],
)
def test_what_may_be_in_the_list(items, ports):
    assert static_ports.read(Static.panel, {"ports": items}) == (tuple(ports), ())


WRONG = [
    (0, "not a port from 1 to 65535"),
    (65536, "not a port from 1 to 65535"),
    (-1, "not a port"),
    (True, "not a port"),
    (41001.5, "not a port"),
    ("", "not a port"),
    ("x", "not a port"),
    ("99999", "not a port from 1 to 65535"),
    ("41002/sctp", "not a port"),
    ("41002/TCP", "not a port"),
    (" 41002", "not a port"),
    ("41002\n", "not a port"),
    ("41002-41005", "not a port"),
    ("\u0664\u0661", "not a port"),
    ("41002:0", "not a port from 1 to 65535"),
    ("41002:", "not a port"),
    (41001, "is there already, as item 1"),
    ("41001/udp", "is there already, as item 1"),
    ("41001:6881/tcp", "is there already, as item 1"),
]


@pytest.mark.parametrize(("item", "said"), WRONG)
async def test_what_may_not_is_named_by_its_place(item, said, io, tmp_path):
    ((key, what, hint),) = mistakes(tmp_path, "static", f"options.ports = [41001, {toml(item)}]")
    assert key == "options.ports.1"
    assert said in what
    assert hint
    with pytest.raises(Misconfigured, match=r"options\.ports\.1"):
        await lease_of(io, {"ports": [41001, item]})


def toml(value):
    if isinstance(value, str):
        return '"' + "".join(f"\\u{ord(character):04x}" for character in value) + '"'
    return str(value).lower()


def test_all_mistakes_of_the_list_come_at_once(tmp_path):
    found = mistakes(tmp_path, "static", 'options.ports = [0, 41001, "x", 41001]')
    assert [key for key, _, _ in found] == ["options.ports.0", "options.ports.2", "options.ports.3"]


def test_a_wrong_end_does_not_hide_what_is_wrong_in_the_list(tmp_path):
    found = mistakes(tmp_path, "static", 'options = { ports = [0], ends = "soon" }')
    assert sorted(key for key, _, _ in found) == ["options.ends", "options.ports.0"]


def test_a_list_with_nothing_in_it(tmp_path):
    ((key, what, _),) = mistakes(tmp_path, "static", "options.ports = []")
    assert (key, what) == ("options.ports", "there is no port in it")


@pytest.mark.parametrize("value", ["41001", '"41001"', "true", "{ a = 1 }"])
def test_what_is_no_list(tmp_path, value):
    ((key, what, _),) = mistakes(tmp_path, "static", f"options.ports = {value}")
    assert key == "options.ports"
    assert "list" in what


@given(st.lists(st.one_of(st.integers(-5, 70000), st.text(max_size=12), st.booleans(), st.none(), st.lists(st.none()))))
def test_whatever_is_in_the_list_it_is_ports_or_objections(items):
    ports, wrong = static_ports.read(Static.panel, {"ports": items})
    assert ports or wrong
    assert all(1 <= port.external <= 65535 and 1 <= port.internal <= 65535 and port.protocols for port in ports)
    ways = [(port.external, protocol) for port in ports for protocol in port.protocols]
    assert len(set(ways)) == len(ways)


@pytest.mark.parametrize(
    ("plugin", "item", "said"),
    [
        (AirVpn, 2047, "no port below 2048"),
        (PureVpn, "41001:6881", "arrives as the same port"),
        (TorGuard, "41001:6881", "arrives as the same port"),
    ],
)
async def test_what_a_panel_does_not_give(io, plugin, item, said, tmp_path):
    ((_, what, hint),) = mistakes(tmp_path, plugin.manifest.id, f"options.ports = [{toml(item)}]")
    assert said in what
    assert hint
    with pytest.raises(Misconfigured, match=said):
        await lease_of(io, {"ports": [item]}, plugin=plugin)
    assert not mistakes(tmp_path, "static", f"options.ports = [{toml(item)}]")


# -- which forward has which ----------------------------------------------------------------------


async def test_the_first_has_the_first_and_who_names_one_has_that(io):
    options = {"ports": [41001, "41002:6881", "41003/tcp"]}
    assert (await lease_of(io, options, ForwardSpec("a", 0))).external_port == 41001
    second = await lease_of(io, options, ForwardSpec("b", 1))
    assert (second.external_port, second.internal_port) == (41002, 6881)
    third = await lease_of(io, options, ForwardSpec("c", 2, TCP))
    assert (third.external_port, third.protocols) == (41003, TCP)
    named = await lease_of(io, options, ForwardSpec("d", 0, external_port=41002))
    assert named.external_port == 41002


async def test_a_port_for_both_serves_who_wants_one(io):
    assert (await lease_of(io, {"ports": [41001]}, ForwardSpec("a", 0, UDP))).protocols == UDP


async def test_one_number_that_arrives_at_two_places(io):
    options = {"ports": ["41001:1/udp", "41001:2/tcp"]}
    assert (await lease_of(io, options, ForwardSpec("a", 0, TCP, external_port=41001))).internal_port == 2
    assert (await lease_of(io, options, ForwardSpec("a", 1, UDP, external_port=41001))).internal_port == 1


PLACED = [
    # forwards, ports, (key, a part of what, a part of the hint)
    ("forwards.a = { external_port = 40000 }", "[41001, 41002]", "forwards.a.external_port", "40000 is not in", "41001, 41002"),
    ("forwards.a = {}", '["41001/tcp"]', "forwards.a.protocols", "41001 is listed for tcp alone", 'protocols = ["tcp"]'),
    ("forwards.a = { protocols = ['udp'] }", '["41001/tcp"]', "forwards.a.protocols", "for tcp alone", "for udp on the site"),
    ("forwards.a = {}\nforwards.b = {}", "[41001]", "forwards.b", "1 port is listed", "add its port"),
    ("forwards.a = { external_port = 41002 }\nforwards.b = {}", "[41001, 41002]", "forwards.b", "which the forward a has", "external_port = 41001"),
    ("forwards.a = {}\nforwards.b = { external_port = 41001 }", "[41001, 41002]", "forwards.a", "which the forward b has", "external_port = 41002"),
]  # fmt: skip


@pytest.mark.parametrize(("forwards", "ports", "key", "said", "todo"), PLACED)
async def test_a_forward_without_its_port_is_told_by_check_config(tmp_path, forwards, ports, key, said, todo):
    ((found, what, hint),) = mistakes(tmp_path, "static", f"options.ports = {ports}", forwards)
    assert found == key
    assert said in what
    assert todo in hint


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ForwardSpec("a", 1), "there are more forwards"),
        (ForwardSpec("a", 0, external_port=40000), "40000 is not in options.ports"),
        (ForwardSpec("a", 0, BOTH), "listed for tcp alone"),
    ],
)
async def test_it_is_told_at_the_start_as_well(io, spec, said):
    with pytest.raises(Misconfigured, match=said) as told:
        await lease_of(io, {"ports": ["41001/tcp"]}, spec)
    assert told.value.hint


def test_forwards_that_do_not_stand_in_their_order_say_which_they_mean(tmp_path):
    """One with a local port of its own has the last place, wherever it stands: nobody would expect its port to follow."""
    forwards = "forwards.game = { internal_port = 25565 }\nforwards.torrent = {}"
    found = mistakes(tmp_path, "static", "options.ports = [41001, 41002]", forwards)
    assert [(key, hint) for key, _, hint in found] == [
        ("forwards.game", "write external_port = 41001"),
        ("forwards.torrent", "write external_port = 41002"),
    ]
    explicit = (
        "forwards.game = { internal_port = 25565, external_port = 41001 }\nforwards.torrent = { external_port = 41002 }"
    )
    assert not mistakes(tmp_path, "static", "options.ports = [41001, 41002]", explicit)


def test_each_with_a_port_of_its_own(tmp_path):
    forwards = "\n".join(f"forwards.f{each} = {{}}" for each in range(64))
    ports = list(range(41001, 41065))
    assert not mistakes(tmp_path, "static", f"options.ports = {ports}", forwards)
    ((_, what, _),) = mistakes(
        tmp_path, "static", f"options.ports = {[*ports, 42000]}", f"{forwards}\nforwards.more = {{}}"
    )
    assert "at most 64" in what


# -- ports that end -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-12-08", "2026-12-09T00:00:00+00:00"),
        ("2026-12-08T14:30:00Z", "2026-12-08T14:30:00+00:00"),
        ("2026-12-08 14:30:00.250+02:00", "2026-12-08T12:30:00.250+00:00"),
    ],
)
def test_an_end(text, seconds):
    assert end_of(text) == datetime.fromisoformat(seconds)


@pytest.mark.parametrize(
    "text",
    [
        "", "soon", "20261208", "2026-W50-2", "2026-12-32", "2026-12-08T14:30:00", "2026-12-08T14:30Z", "2026-12-08\n", "0000-01-01",
        "2026-12-08T25:00:00Z", "0001-01-01T00:00:00+05:00", "9999-12-31", "\u0662026-12-08",
    ],
)  # fmt: skip
def test_what_is_no_end(text, tmp_path):
    ((key, what, hint),) = mistakes(tmp_path, "windscribe", f"options = {{ ports = [41001], ends = {toml(text)} }}")
    assert key == "options.ends"
    assert "2026-12-08" in what
    assert hint


def ending(io, seconds, plugin=Static):
    """A provider whose port ends so many seconds from now."""
    at = datetime.fromtimestamp(io.wall() + seconds, UTC).isoformat(timespec="milliseconds")
    return plugin({"ports": [41001], "ends": at.replace("+00:00", "Z")})


DAY = 86400.0


async def test_a_lease_lasts_as_long_as_the_port(io):
    provider, spec = ending(io, 7 * DAY), ForwardSpec("torrent")
    lease = await provider.acquire(io, TUNNEL, MappingRequest(spec))
    assert lease.lifetime == pytest.approx(7 * DAY)
    assert lease.granted_at == io.now()
    io.clock.advance(3.5 * DAY)
    renewed = await provider.acquire(io, TUNNEL, MappingRequest(spec, lease, renewal=True))
    assert renewed.expires_at == pytest.approx(lease.expires_at)


async def test_in_its_last_day_a_person_is_reminded_once_and_the_lease_stands(io):
    provider, spec = ending(io, 7 * DAY), ForwardSpec("torrent")
    lease = await provider.acquire(io, TUNNEL, MappingRequest(spec))
    io.clock.advance(6.5 * DAY)
    with pytest.raises(Transient, match="it ends on 2026-12-08 at 12:00:00 UTC") as told:
        await provider.acquire(io, TUNNEL, MappingRequest(spec, lease, renewal=True))
    assert type(told.value) is Transient
    assert "set a new one" in told.value.hint
    assert "options.ends" in told.value.hint
    # Not asked again before the end, so that the failure is one and no step of the ladder is taken for it.
    assert told.value.retry_after == pytest.approx(0.5 * DAY)


async def test_in_its_last_day_it_is_confirmed_through_another_tunnel_all_the_same(io):
    provider, spec = ending(io, DAY / 2), ForwardSpec("torrent")
    lease = await provider.acquire(io, TUNNEL, MappingRequest(spec))
    other = a_tunnel()
    again = await provider.acquire(io, other, MappingRequest(spec, lease, renewal=True))
    assert again.expires_at == pytest.approx(lease.expires_at)
    with pytest.raises(Transient):
        await provider.acquire(io, other, MappingRequest(spec, again, renewal=True))


async def test_after_its_end_a_person_is_told_what_to_do(io):
    provider, spec = ending(io, 60.0, AirVpn), ForwardSpec("torrent")
    lease = await provider.acquire(io, TUNNEL, MappingRequest(spec))
    io.clock.advance(60.0)
    with pytest.raises(LeaseLost):
        await provider.acquire(io, TUNNEL, MappingRequest(spec, lease, renewal=True))
    with pytest.raises(Misconfigured, match="it ended on 2026-12-01 at 12:01:00 UTC") as told:
        await provider.acquire(io, TUNNEL, MappingRequest(spec, lease))
    assert "set a new one at airvpn.org" in told.value.hint
    assert told.value.retry_after  # a clock that was wrong at boot is put right


async def test_without_an_end_there_is_none(io):
    assert (await lease_of(io, {"ports": [41001]})).expires_at is None


# -- the contract of all providers ----------------------------------------------------------------


class StaticWorld(World):
    """What was set in a panel: it stands, whatever is done or not done here. There is nobody to be silent or hostile."""

    def __init__(self, plugin, options):
        made = FakeIO(scripted({}))
        made.http = FakeHttp(nobody)
        super().__init__(plugin, options, made, a_tunnel())

    @property
    def mapped(self) -> Mapped:
        return {(protocol, port, port) for port in PORTS for protocol in BOTH}


PORTS = tuple(range(41001, 41001 + Static.manifest.max_forwards))


class StaticContract(ProviderContract):
    world_type = StaticWorld
    lifetime = None
    options: ClassVar = {"ports": [*PORTS]}
    good_options = (
        ("ports", [41001]),
        ("ports", ["41001/tcp"]),
        ("ends", "2026-12-08"),
        ("ends", "2026-12-08T14:30:00Z"),
    )
    wrong_options = (("ports", 41001), ("ports", "41001"), ("ends", "soon"), ("ends", 20261208))
    exact = False
    exit_address = None
    releases = False
    slots = (0, 1, 63)
    # A wish for a port that is not listed is a mistake.
    test_a_wish = None
    test_a_port_that_ended_is_asked_for_again = None
    # Nobody is asked, so nobody changes anything, is silent, refuses or is gone.
    test_a_renewal_brings_the_new_port_if_the_far_side_changed_it = None
    test_a_far_side_that_forgot_everything_gives_a_port_again = None
    test_a_renewal_that_finds_nobody_fails_soon_and_costs_nothing = None
    test_renewals_that_find_nobody_for_a_while_do_not_pile_up = None
    test_a_missing_right_is_for_the_person_to_mend = None
    test_a_server_that_forwards_no_ports_is_told_from_a_missing_right = None
    test_where_nothing_listens_it_is_told_soon = None
    test_silence_is_told_soon_and_with_what_may_be_the_cause = None
    test_a_device_that_is_gone_fails_as_such = None
    test_a_hostile_answer_at_first_is_a_failure_that_passes = None
    test_a_hostile_answer_at_a_renewal_costs_no_lease = None
    test_a_hostile_answer_to_a_release_is_no_crash = None
    test_no_secret_is_in_what_is_told = None
    test_a_release_after_the_port_changed_ends_the_new_one = None
    test_a_release_that_nobody_answers_is_over_soon = None


class TestStatic(StaticContract):
    plugin = Static


class TestTorGuard(StaticContract):
    plugin = TorGuard
