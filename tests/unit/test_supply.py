"""A provider bound to account and tunnel; which of its failures are the account's; and how its texts are taken."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from tests.unit.engine_world import PLAN
from vpnpf.core import routes
from vpnpf.errors import (
    AGAIN,
    ConfigError,
    LeaseLost,
    Misconfigured,
    Mistake,
    NoAnswer,
    Refused,
    Transient,
    Unsupported,
    Untrusted,
)
from vpnpf.interfaces import Configuration, Credentials, Manifest, Offer, TunnelOptions
from vpnpf.model import Endpoint, LanPrefix, Protocol, TunnelPlan
from vpnpf.protocol.openvpn_push import Pushed
from vpnpf.supply import LOCKED_AGAIN, MOST, Supply
from vpnpf.testing import FakeAccount, FakeClock
from vpnpf.tunnels import openvpn_plan, supplied, wireguard_plan
from vpnpf.tunnels.names import mark_of, table_of
from vpnpf.tunnels.openvpn import OpenVpnTunnel
from vpnpf.tunnels.supplied import Supplied

SERVER = Endpoint("198.51.100.10", 1337)
OFFER = Offer(SERVER, "counter alice", "lab1", "Lab", (Endpoint("198.51.100.10", 1337, Protocol.TCP),))
LOGIN = Credentials("alice", "secret")
TEXT = """\
[Interface]
PrivateKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
Address = 10.9.0.7/32
DNS = 10.0.0.243
[Peer]
PublicKey = BAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
AllowedIPs = 0.0.0.0/0
Endpoint = 198.51.100.10:1337
"""
GIVEN = Configuration(TEXT, "10.9.0.1")
PLANNED = TunnelPlan("vpf-home", SERVER, (), mark=7, table=7, identity=OFFER.identity, services=OFFER.services)


class Provider:
    """Does with its `io` what `work` says."""

    manifest = Manifest(id="counter", name="Counter", summary="", verified="mock", supplies=("wireguard",))

    def __init__(self, work=None, offers=(OFFER,)):
        self.work = work
        self.found = offers
        self.ios = []

    async def offers(self, io, tunnel_type):
        self.ios.append((io, tunnel_type))
        if isinstance(self.found, Exception):
            raise self.found
        return self.found

    async def configure(self, io, tunnel_type, offer, *, again=False):
        self.ios.append((io, tunnel_type, offer, again))
        if self.work is not None:
            await self.work(io)
        return GIVEN


def supply(provider, account=None):
    return Supply(provider, "wireguard", "home", account or FakeAccount(), FakeClock())


async def test_it_is_asked_with_the_mark_of_the_tunnel():
    provider = Provider()
    made = supply(provider)
    assert await made.offers() == (OFFER,)
    assert await made.configure(PLANNED, OFFER, again=True) == GIVEN
    (first, kind), (second, *rest) = provider.ios
    assert kind == "wireguard"
    assert rest == ["wireguard", OFFER, True]
    assert first._mark == mark_of(table_of("home"))
    assert second._mark == PLANNED.mark


@pytest.mark.parametrize(("count", "servers"), [(1, 1), (3, 3), (16, 16), (40, MOST)])
async def test_there_are_as_many_servers_as_offers_up_to_a_limit(count, servers):
    made = supply(Provider(offers=(OFFER,) * count))
    await made.offers()
    assert made.servers == servers


async def refuse(io):
    login = await io.credentials()
    await io.refused(login, "HTTP 401")
    raise Misconfigured("logging in", "refused", "vpnpf login counter")


async def lock(io):
    await io.refused(await io.credentials(), "HTTP 429", until=9e9)
    raise Transient("logging in", "too many logins", retry_after=120.0)


async def lock_for_long(io):
    await io.refused(await io.credentials(), "HTTP 429", until=9e9)
    raise Transient("logging in", "too many logins", retry_after=6 * 3600.0)


async def only_ask(io):
    await io.credentials()


async def bad_certificate(io):
    await io.credentials()
    raise Misconfigured("GET https://lab1:1337/", "certificate not trusted")


@pytest.mark.parametrize(
    ("work", "login", "kind", "anywhere", "again"),
    [
        (refuse, LOGIN, Misconfigured, True, AGAIN),
        (lock, LOGIN, Transient, True, 120.0),
        (lock_for_long, LOGIN, Transient, True, LOCKED_AGAIN),  # somebody may log in meanwhile
        (only_ask, None, Misconfigured, True, AGAIN),
        (bad_certificate, LOGIN, Misconfigured, False, None),
    ],
)
async def test_what_is_the_accounts_is_told_from_what_is_a_servers(work, login, kind, anywhere, again):
    account = FakeAccount()
    account.login = login
    with pytest.raises(kind) as raised:
        await supply(Provider(work), account).configure(PLANNED, OFFER)
    assert raised.value.anywhere is anywhere
    assert raised.value.retry_after == again


async def test_a_password_that_was_refused_is_not_sent_again_until_it_is_another():
    account, sent = FakeAccount(), []
    account.login = LOGIN

    async def log_in(io):
        sent.append(await io.credentials())
        if sent[-1].password != "right":
            await io.refused(sent[-1], "HTTP 401")
            raise Misconfigured("logging in", "refused")

    made = supply(Provider(log_in), account)
    for _ in range(5):
        with pytest.raises(Misconfigured) as raised:
            await made.configure(PLANNED, OFFER)
        assert raised.value.anywhere
    assert sent == [LOGIN]
    account.login = Credentials("alice", "right")
    assert await made.configure(PLANNED, OFFER) == GIVEN


@pytest.mark.parametrize(
    ("found", "kind", "again"),
    [
        ((), Misconfigured, AGAIN),
        (Misconfigured("choosing a server", "no such region"), Misconfigured, AGAIN),
        (Transient("reading the list", "nobody answers"), Transient, None),
        (Unsupported("choosing a server", "no OpenVPN"), Unsupported, None),
    ],
)
async def test_without_offers_no_other_server_is_any_better(found, kind, again):
    with pytest.raises(kind) as raised:
        await supply(Provider(offers=found)).offers()
    assert raised.value.anywhere
    assert raised.value.retry_after == again


# -- as a back end uses it -------------------------------------------------------------------------


class Answers:
    """A supply whose answers are at hand."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []

    async def offers(self):
        return (OFFER, replace(OFFER, place="Other", endpoint=Endpoint("198.51.100.20", 1337)))

    async def configure(self, plan, offer, *, again=False):
        self.asked.append((offer.place, again))
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.Event().wait()
        return answer


async def planned(*answers, server=0):
    made = Supplied(Answers(*answers))
    plan = await made.plan(server, interface="vpf-home", table=7, mtu=1420, lan=False)
    return made, plan


async def test_the_plan_is_the_offers():
    _, plan = await planned(server=3)
    assert (plan.place, plan.server, plan.endpoint) == ("Other", 3, Endpoint("198.51.100.20", 1337))
    assert (plan.identity, plan.server_name, plan.services) == (OFFER.identity, "lab1", OFFER.services)
    assert (plan.addresses, plan.gateway, plan.mark, plan.table) == ((), None, mark_of(7), 7)


async def test_another_server_than_was_planned_is_not_asked():
    made, plan = await planned(GIVEN)
    with pytest.raises(Transient, match="another one than at the last plan"):
        await made.configure(replace(plan, endpoint=Endpoint("198.51.100.99", 1)))
    with pytest.raises(Transient, match="another one than at the last plan"):
        await Supplied(Answers(GIVEN)).configure(plan)


async def test_who_does_not_answer_in_time_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(supplied, "PATIENCE", 0.01)
    made, plan = await planned(None)
    with pytest.raises(NoAnswer, match=r"a tunnel to Lab: not done within 0.01 s"):
        await made.configure(plan)


@pytest.mark.parametrize("gateway", ["gateway.example", "fd00::1", "10.0.0.0/8", "10.9.0.1\n"])
async def test_a_gateway_has_to_be_an_address(gateway):
    made, plan = await planned(Configuration(TEXT, gateway))
    with pytest.raises(Transient, match="its gateway is no IPv4 address"):
        await made.configure(plan)


@pytest.mark.parametrize("error", [Misconfigured("logging in", "refused"), Unsupported("logging in", "no such thing")])
async def test_in_place_what_only_a_person_can_mend_ends_the_tunnel(error):
    made, plan = await planned(error)
    with pytest.raises(LeaseLost, match="logging in"):
        await made.configure_in_place(plan)


async def test_in_place_a_server_that_was_told_is_not_told_at_once_again():
    made, plan = await planned(GIVEN, GIVEN)
    assert await made.configure_in_place(plan) == GIVEN
    assert await made.configure_in_place(plan) is None
    made._again_from -= supplied.AGAIN_APART
    assert await made.configure_in_place(plan) == GIVEN
    assert made._supply.asked == [("Lab", True)] * 2


@pytest.mark.parametrize(
    ("error", "doubt"),
    [(Refused("x", "connection refused"), False), (NoAnswer("x", "nobody"), True), (Transient("x", "broken"), True)],
)
async def test_in_place_a_server_that_may_have_been_told_is_doubted(error, doubt):
    made, plan = await planned(error, GIVEN)
    assert await made.configure_in_place(plan) is None
    assert made.in_doubt is doubt
    assert await made.configure_in_place(plan) == GIVEN, "it is asked again at once"
    assert not made.in_doubt


async def test_in_place_who_asks_for_patience_gets_it():
    made, plan = await planned(Transient("x", "too many", retry_after=60.0), GIVEN)
    assert await made.configure_in_place(plan) is None
    assert await made.configure_in_place(plan) is None
    assert len(made._supply.asked) == 1


async def test_in_place_somebody_else_in_between_costs_no_tunnel():
    made, plan = await planned(Untrusted("x", "its certificate is for another name", retry_after=300.0), GIVEN)
    assert await made.configure_in_place(plan) is None
    assert not made.in_doubt, "nothing was told to it"
    assert await made.configure_in_place(plan) is None
    assert len(made._supply.asked) == 1
    made._again_from -= 300.0
    assert await made.configure_in_place(plan) == GIVEN


async def test_in_place_it_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(supplied, "IN_PLACE_PATIENCE", 0.01)
    made, plan = await planned(None)
    assert await made.configure_in_place(plan) is None
    assert made.in_doubt


# -- its texts -------------------------------------------------------------------------------------


def test_a_wireguard_plan_is_completed_by_the_text():
    config = wireguard_plan.read(TEXT)
    lan = (LanPrefix("eth0", "192.168.1.0/24"), LanPrefix("eth1", "10.9.0.0/24"))
    whole = wireguard_plan.completed(replace(PLANNED, lan=lan), config, "10.9.0.1")
    assert (whole.addresses, whole.dns, whole.gateway) == (("10.9.0.7/32",), ("10.0.0.243",), "10.9.0.1")
    assert whole.lan == lan[:1], "a LAN with the tunnel's addresses is not let out"
    assert replace(whole, addresses=(), dns=(), gateway=None, lan=()) == PLANNED


def test_without_a_gateway_it_is_found_as_for_a_file():
    text = TEXT.replace("10.9.0.7/32", "10.9.0.7/24")
    assert wireguard_plan.completed(PLANNED, wireguard_plan.read(text), "").gateway == "10.9.0.1"


@pytest.mark.parametrize("endpoint", ["198.51.100.11:1337", "198.51.100.10:1338", "vpn.example.net:1337"])
def test_a_wireguard_text_that_leads_elsewhere_is_refused(endpoint):
    config = wireguard_plan.read(TEXT.replace("198.51.100.10:1337", endpoint))
    with pytest.raises(Transient, match=r"it does not lead to 198\.51\.100\.10:1337"):
        wireguard_plan.completed(PLANNED, config, "")


def test_a_wireguard_text_is_read_as_strictly_as_a_file():
    with pytest.raises(Transient, match="PostUp would run a command as root") as raised:
        wireguard_plan.read(TEXT.replace("[Peer]", "PostUp = touch /tmp/x\n[Peer]"))
    assert "the provider's configuration:5" in raised.value.cause
    assert "AAAA" not in str(raised.value)


OVPN = "client\ndev tun\nremote 198.51.100.10 8080 udp\nauth-user-pass\n<ca>\nx\n</ca>\n"


def test_an_openvpn_text_is_read_as_strictly_as_a_file(monkeypatch):
    def parse(data, name):
        assert isinstance(data, bytes)
        raise ConfigError((Mistake(f"{name}:1", "up would run a command"),))

    monkeypatch.setattr(openvpn_plan, "parse", parse)
    with pytest.raises(Transient, match="up would run a command"):
        openvpn_plan.read(OVPN, SERVER)


def test_a_gateway_that_the_provider_says_beside_goes_before_the_pushed_one():
    pushed = Pushed(address="10.5.0.9/24", gateway="10.5.0.1", dns=("10.0.0.243",))
    assert openvpn_plan.completed(PLANNED, pushed).gateway == "10.5.0.1"
    assert openvpn_plan.completed(PLANNED, pushed, "10.5.0.77").gateway == "10.5.0.77"


# -- addresses that change in place -----------------------------------------------------------------

LISTING = """\
9: vpf-home: <POINTOPOINT,NOARP,UP,LOWER_UP> mtu 1420 qdisc noqueue state UNKNOWN group 0
    inet 10.2.0.2/32 scope global noprefixroute vpf-home
    inet 10.2.0.77/32 scope global noprefixroute vpf-home
    inet6 fe80::1/64 scope link
    inet6 fd00::7/128 scope global
"""


def test_addresses_that_are_not_the_plans_are_taken_away():
    plan = replace(PLAN, addresses=("10.2.0.77/32",))
    assert routes.strange(plan, LISTING) == [
        "addr del 10.2.0.2/32 dev vpf-home",
        "addr del fd00::7/128 dev vpf-home",
    ]
    assert routes.strange(replace(PLAN, addresses=("10.2.0.2/32", "10.2.0.77/32", "fd00::7/128")), LISTING) == []


# -- OpenVPN ---------------------------------------------------------------------------------------


async def test_a_login_that_was_just_given_and_is_refused_is_the_accounts(tmp_path, monkeypatch):
    """The server refuses the first, and the one that the provider gave in its place: no other server, no file to mend."""

    class Session:
        async def connected(self, patience):
            cause = "the server refused the user name or the password"
            raise Misconfigured("logging in at 198.51.100.10:8080", cause, "see the file")

    given, ended = [], []

    async def giving(supplied, plan, *, again=False):
        given.append(again)
        return None, plan

    async def started(plan, config):
        return Session()

    async def ending():
        ended.append(True)

    tunnel = OpenVpnTunnel(TunnelOptions("home", (), str(tmp_path), supply=supply(Provider())))
    for name, instead in (("_given", giving), ("_start", started), ("_end", ending)):
        monkeypatch.setattr(tunnel, name, instead)
    with pytest.raises(Misconfigured) as raised:
        await tunnel._reached(PLANNED, None)
    assert given == [False, True]
    assert ended == [True]
    assert raised.value.anywhere
    assert raised.value.retry_after == 300
    assert "the provider gave this login just now" in raised.value.hint
