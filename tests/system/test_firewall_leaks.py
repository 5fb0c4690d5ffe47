"""What leaves the machine around the tunnel: nothing but what docs/security.md names. Each test leaks without its rule."""

from __future__ import annotations

import itertools
import json
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress

import pytest

from tests.system.firewall_lab import (
    ENDPOINT,
    GATEWAY,
    GATEWAY6,
    MARK,
    ROUTER_LAN,
    ROUTER_LAN6,
    TUNNEL,
    TUNNEL6,
    WEB,
    WEB6,
    Lab,
    boottime,
    connect,
    connected,
    forward,
    inside,
    policy,
    received,
    send,
    with_first,
    without,
)
from vpnpf.firewall.nft import Nft
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import Rule, script
from vpnpf.model import Endpoint, FirewallStage, LanPrefix, PolicyMode, PortPolicy

pytestmark = pytest.mark.system

CONNECTED = FirewallStage.CONNECTED
STAGES = tuple(stage for stage in FirewallStage if stage is not FirewallStage.LOCKED)
"""Those with a tunnel, or on the way to one; test_lock.py has the other."""
KINDS = ("tcp", "udp")
CLOSED_FOR = 0.15


@pytest.fixture
def lab():
    made = Lab()
    yield made
    made.close()


@pytest.fixture
def nft(lab):
    return Nft(prefix=lab.prefix)


def attempt(lab: Lab, kind: str, target: str, port: int, *, device: str = "", mark: int = 0, own: str = "") -> None:
    """Send one packet to a place, or try to."""
    sender = lab.socket(lab.client, kind, own or ("::" if ":" in target else "0.0.0.0"), device=device, mark=mark)
    if kind == "udp":
        send(sender, target, port)
    else:
        with suppress(OSError):
            connect(sender, target, port)


@pytest.mark.parametrize("stage", STAGES)
async def test_a_socket_bound_to_the_uplink_sends_nothing(lab, nft, stage):
    watch = lab.watch(lab.router, "lan0")

    def attempts() -> None:
        for kind, target in itertools.product(KINDS, (WEB, WEB6)):
            attempt(lab, kind, target, 443, device="eth0")

    attempts()
    assert set(watch.seen()) == {(kind, target, 443) for kind in KINDS for target in (WEB, WEB6)}, "control"
    await nft.apply(policy(stage), boottime())
    attempts()
    assert watch.seen() == []


@pytest.mark.parametrize("stage", [FirewallStage.CONNECTING, FirewallStage.BLOCKED])
async def test_nothing_goes_through_the_tunnel_unless_connected(lab, nft, stage):
    far = lab.listen(lab.server, "udp", 443, WEB)
    await nft.apply(policy(CONNECTED), boottime())
    attempt(lab, "udp", WEB, 443)
    assert received([far]), "control"
    far.recv(99)
    await nft.apply(policy(stage), boottime())
    attempt(lab, "udp", WEB, 443)
    assert not received([far], CLOSED_FOR)


@pytest.mark.parametrize("stage", STAGES)
async def test_only_marked_packets_to_the_endpoints_address_port_and_protocol_leave(lab, nft, stage):
    """MUL-02-002 and Port Fail: the server's address alone opens nothing."""
    watch = lab.watch(lab.router, "lan0")

    def attempts() -> None:
        attempt(lab, "udp", ENDPOINT, 51820, device="eth0")  # no mark
        attempt(lab, "udp", ENDPOINT, 51820, device="eth0", mark=MARK + 1)
        attempt(lab, "udp", ENDPOINT, 51821, mark=MARK)
        attempt(lab, "tcp", ENDPOINT, 51820, mark=MARK)
        attempt(lab, "udp", WEB, 51820, mark=MARK)

    await nft.apply(policy(stage), boottime())
    attempts()
    assert watch.seen() == []
    attempt(lab, "udp", ENDPOINT, 51820, mark=MARK)
    assert watch.seen() == [("udp", ENDPOINT, 51820)]

    lab.load(with_first(render(policy(stage)), "output", Rule(f"ip daddr {ENDPOINT} accept", "by address only")))
    attempts()
    assert len(watch.seen()) == 4, "control: an exception for the address lets four of the five out"


async def test_dns_leaves_only_to_the_tunnels_resolver(lab, nft):
    watch, inner = lab.watch(lab.router, "lan0"), lab.watch(lab.server, "tun0")
    wanted = policy(CONNECTED)

    def attempts() -> None:
        for kind, port in itertools.product(KINDS, (53, 853)):
            attempt(lab, kind, ROUTER_LAN, port)
            attempt(lab, kind, ROUTER_LAN6, port)
            attempt(lab, kind, WEB, port)
            attempt(lab, kind, WEB, port, device="eth0")
        attempt(lab, "udp", "224.0.0.251", 5353, device="eth0")  # mDNS
        attempt(lab, "udp", "224.0.0.252", 5355, device="eth0")  # LLMNR

    await nft.apply(wanted, boottime())
    attempts()
    attempt(lab, "tcp", ROUTER_LAN, 80)
    attempt(lab, "udp", ROUTER_LAN6, 123)
    assert watch.seen() == [("tcp", ROUTER_LAN, 80), ("udp", ROUTER_LAN6, 123)], "the LAN stays, its resolver does not"
    for kind, resolver in itertools.product(KINDS, (GATEWAY, GATEWAY6)):
        attempt(lab, kind, resolver, 53)
    attempt(lab, "tcp", WEB, 80)
    inside_now = inner.seen()
    assert {each for each in inside_now if each[2] in {53, 853}} == {
        (kind, resolver, 53) for kind in KINDS for resolver in (GATEWAY, GATEWAY6)
    }, "a third party's resolver is not asked through the tunnel either"

    lab.load(without(render(wanted), "DNS elsewhere"))
    attempts()
    assert len([each for each in watch.seen() if each[2] in {53, 853}]) == 8, "control: the LAN rules let DNS out"
    assert ("udp", WEB, 53) in inner.seen(), "control"


async def test_a_lan_with_public_addresses_is_no_lan(lab, nft):
    """TunnelCrack LocalNet: a hostile access point calls the internet its LAN."""
    watch = lab.watch(lab.router, "lan0")
    wanted = policy(CONNECTED, lan=(LanPrefix("eth0", "203.0.113.0/24"),))
    await nft.apply(wanted, boottime())
    attempt(lab, "udp", WEB, 443, device="eth0")
    assert watch.seen() == []
    taken_at_its_word = Rule('oifname "eth0" ip daddr 203.0.113.0/24 accept', "LAN")
    lab.load(with_first(render(wanted), "output", taken_at_its_word))
    attempt(lab, "udp", WEB, 443, device="eth0")
    assert watch.seen() == [("udp", WEB, 443)], "control"


async def test_ipv6_stays_in_when_the_tunnel_has_none(lab, nft):
    watch, inner = lab.watch(lab.router, "lan0"), lab.watch(lab.server, "tun0")
    wanted = policy(CONNECTED, addresses=(f"{TUNNEL}/32",), dns=(GATEWAY,), lan=())

    def attempts() -> None:
        for kind in KINDS:
            attempt(lab, kind, WEB6, 443, device="eth0")
            attempt(lab, kind, WEB6, 444, own=TUNNEL6)

    await nft.apply(wanted, boottime())
    attempts()
    assert watch.seen() == []
    assert [each for each in inner.seen() if ":" in each[1]] == []

    # The classic mistake: rules for IPv4 only.
    lab.nft("flush", "ruleset")
    lab.nft("-f", "-", text=script(render(wanted), boottime()))
    for chain in ("output", "input"):
        lab.nft("insert", "rule", "inet", "vpnpf", chain, "meta", "nfproto", "ipv6", "accept")
    attempts()
    assert {each[:2] for each in watch.seen()} == {(kind, WEB6) for kind in KINDS}, "control"
    assert {each[:2] for each in inner.seen() if ":" in each[1]} == {(kind, WEB6) for kind in KINDS}, "control"


async def test_a_flow_that_was_open_before_the_tunnel_does_not_go_on_beside_it(lab, nft):
    watch = lab.watch(lab.router, "lan0")
    far = lab.listen(lab.router, "udp", 443, WEB)
    near = lab.socket(lab.client, "udp", "0.0.0.0", device="eth0")
    # Connection tracking must know the flow, so a table has to be there first: anybody's.
    lab.nft(
        "-f", "-", text="table inet other {\nchain i {\ntype filter hook input priority 0\nct state new accept\n}\n}\n"
    )
    for _ in range(2):
        send(near, WEB, 443)
        assert received([far])
        far.sendto(b"answer", far.recvfrom(99)[1])
        assert received([near])
        near.recv(99)
    watch.seen()
    wanted = policy(CONNECTED)
    await nft.apply(wanted, boottime())
    send(near, WEB, 443)
    assert watch.seen() == []
    lab.load(with_first(render(wanted), "output", Rule("ct state established accept", "established")))
    send(near, WEB, 443)
    assert watch.seen() == [("udp", WEB, 443)], "control: the rule that many rule sets begin with"


async def test_each_address_stays_on_its_own_device(lab, nft):
    """The LAN never sees the tunnel's address, the tunnel never sees the LAN's."""
    watch, inner = lab.watch(lab.router, "lan0"), lab.watch(lab.server, "tun0")
    wanted = policy(CONNECTED)

    def attempts() -> None:
        attempt(lab, "udp", ROUTER_LAN, 7777, own=TUNNEL)
        attempt(lab, "udp", ROUTER_LAN6, 7777, own=TUNNEL6)
        attempt(lab, "udp", WEB, 7777, own="192.168.77.2")
        attempt(lab, "udp", WEB6, 7777, own="fd77::2")

    await nft.apply(wanted, boottime())
    attempts()
    assert [each for each in watch.seen() if each[2] == 7777] == []
    assert [each for each in inner.seen() if each[2] == 7777] == []
    lab.load(without(without(render(wanted), "tunnel address elsewhere"), "not the tunnel's address"))
    attempts()
    assert len([each for each in watch.seen() if each[2] == 7777]) == 2, "control"
    assert len([each for each in inner.seen() if each[2] == 7777]) == 2, "control"


@pytest.mark.parametrize("stage", STAGES)
async def test_an_address_can_be_had_by_dhcp_under_every_stage(lab, nft, stage):
    server = lab.listen(lab.router, "udp", 67)
    client = lab.socket(lab.client, "udp", "0.0.0.0", 68, device="eth0")
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    watch = lab.watch(lab.router, "lan0")
    wanted = policy(stage, lan=())
    await nft.apply(wanted, boottime())
    assert not send(client, "255.255.255.255", 69), "control: other broadcasts are dropped"
    assert send(client, "255.255.255.255", 67)
    assert watch.seen() == [("udp", "255.255.255.255", 67)]
    assert received([server])
    send(server, "192.168.77.2", 68)
    assert received([client]) == [client]


@pytest.mark.parametrize("stage", STAGES)
async def test_neighbours_are_found_under_every_stage(lab, nft, stage):
    """The tunnel's packets need a neighbour to go to, and routers must find us, also from global addresses."""
    lab.ip("-n", lab.router, "addr", "add", "2001:db8:77::1/64", "dev", "lan0", "nodad")
    lab.ip("-n", lab.client, "addr", "add", "2001:db8:77::2/64", "dev", "eth0", "nodad")
    endpoint = Endpoint("2001:db8:77::1", 51820)
    far = lab.listen(lab.router, "udp", 51820, endpoint.address)
    near = lab.socket(lab.client, "udp", "2001:db8:77::2", mark=MARK)
    wanted = policy(stage, endpoint=endpoint)

    def exchange(patience: float) -> bool:
        for namespace in (lab.client, lab.router):
            lab.ip("-6", "-n", namespace, "neigh", "flush", "all")
        send(near, endpoint.address, 51820)
        if not received([far], patience):
            return False
        far.sendto(b"answer", far.recvfrom(99)[1])
        return received([near], patience) == [near] and near.recv(99) == b"answer"

    await nft.apply(wanted, boottime())
    assert exchange(3.0)
    ruleset = without(without(render(wanted), "neighbour solicitation"), "neighbours")
    lab.load(without(ruleset, "neighbour advertisement"))
    assert not exchange(CLOSED_FOR), "control"


@pytest.fixture
def container(lab):
    """A fourth namespace behind the client, as a container is."""
    name = f"{lab.client}k"
    lab.ip("netns", "add", name)
    lab.namespaces.append(name)
    lab.ip("link", "add", "veth0", "netns", lab.client, "type", "veth", "peer", "name", "eth0", "netns", name)
    lab.ip("-n", lab.client, "-batch", "-", text="addr add 172.17.0.1/16 dev veth0\nlink set veth0 up\n")
    routes = "link set lo up\nlink set eth0 up\naddr add 172.17.0.2/16 dev eth0\nroute add default via 172.17.0.1\n"
    lab.ip("-n", name, "-batch", "-", text=routes)
    lab.ip("-n", lab.client, "rule", "add", "to", "172.17.0.0/16", "table", "main", "priority", "91")
    lab.ip("-n", lab.router, "route", "add", "172.17.0.0/16", "via", "192.168.77.2")
    lab.sysctl(lab.client, "ipv4/ip_forward", 1)
    return name


async def test_containers_go_through_the_tunnel_or_nowhere(lab, nft, container):
    far = lab.listen(lab.server, "tcp", 80, WEB)
    resolver = lab.listen(lab.server, "udp", 53, GATEWAY)
    third = lab.listen(lab.server, "udp", 53, WEB)
    inner = lab.socket(container, "udp", "172.17.0.2", 40000)
    wanted = policy(CONNECTED, forward(40000), inbound=PortPolicy(PolicyMode.OPEN_ALL))
    await nft.apply(wanted, boottime())

    caller = lab.socket(container, "tcp", "172.17.0.2")
    connect(caller, WEB, 80)
    assert connected([caller]), "out through the tunnel, and the answers back"
    send(inner, GATEWAY, 53)
    send(inner, WEB, 53)
    assert received([resolver])
    assert not received([third], CLOSED_FOR), "containers do not ask other resolvers either"
    send(lab.socket(lab.server, "udp", WEB, 9), "172.17.0.2", 40000)
    assert not received([inner], CLOSED_FOR), "nothing new is forwarded in, not even under open-all"

    # The tunnel is lost: its route is gone, so the packets would take the uplink.
    watch = lab.watch(lab.router, "lan0")
    lab.ip("-n", lab.client, "route", "del", "default", "table", "51820")
    for stage in STAGES:
        await nft.apply(policy(stage), boottime())
        send(inner, WEB, 7777)
        assert watch.seen() == []
    lab.nft("add", "chain", "inet", "vpnpf", "forward", "{ policy accept; }")
    lab.nft("flush", "chain", "inet", "vpnpf", "forward")
    send(inner, WEB, 7777)
    assert watch.seen() == [("udp", WEB, 7777)], "control: rules for input and output alone"
    assert received([far])


async def test_other_customers_cannot_use_this_machine_as_a_relay(lab, nft, container):
    """What comes out of the tunnel is not forwarded back into it."""
    inner = lab.watch(lab.server, "tun0")
    wanted = policy(CONNECTED, inbound=PortPolicy(PolicyMode.OPEN_ALL))
    lab.ip("-n", lab.server, "route", "add", "198.18.0.1/32", "dev", "tun0")
    await nft.apply(wanted, boottime())
    send(lab.socket(lab.server, "udp", WEB), "198.18.0.1", 7777)
    assert ("udp", "198.18.0.1", 7777) not in inner.seen()
    lab.load(with_first(render(wanted), "forward", Rule('oifname "tun0" accept', "relay")))
    send(lab.socket(lab.server, "udp", WEB), "198.18.0.1", 7777)
    assert ("udp", "198.18.0.1", 7777) in inner.seen(), "control"


SENDER = """
import socket
sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sender.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
sender.connect(("203.0.113.80", 4444))
print("sending", flush=True)
count = 0
while True:
    try:
        sender.send(b"probe")
    except OSError:
        pass
    count += 1
    if count % 1000 == 0:
        print(count, flush=True)
"""
COUNTER = "table inet watch {\ncounter leaked { }\nchain p {\ntype filter hook prerouting priority 0\nudp dport 4444 counter name leaked\n}\n}\n"


@contextmanager
def probes(lab: Lab):
    """A program that sends to the internet by the uplink as fast as it can; yields what counts its leaks."""
    lab.nft("-f", "-", text=COUNTER, namespace=lab.router)

    def leaked() -> int:
        listing = json.loads(lab.nft("-j", "list", "counter", "inet", "watch", "leaked", namespace=lab.router))
        return next(each["counter"]["packets"] for each in listing["nftables"] if "counter" in each)

    with inside(lab.client):
        sender = subprocess.Popen((sys.executable, "-c", SENDER), stdout=subprocess.PIPE, text=True)
    assert sender.stdout is not None
    try:
        sender.stdout.readline()
        yield leaked
    finally:
        sender.kill()
        said = sender.stdout.read().split()
        sender.stdout.close()
        sender.wait()
        assert said, "no probes were sent"


async def test_swapping_rules_lets_no_packet_out(lab):
    """A hundred swaps between the stages under a stream of probes."""
    stages = itertools.cycle(STAGES)
    with inside(lab.client):
        nft = Nft()
        await nft.apply(policy(FirewallStage.CONNECTING), boottime())
        with probes(lab) as leaked:
            for number in range(100):
                reading = await nft.apply(policy(next(stages), forward(40000 + number % 7)), boottime())
                assert reading.intact, reading.evidence
            assert leaked() == 0


async def test_the_usual_atomic_replace_leaks_in_the_same_test(lab):
    """The control: delete and make anew in one transaction, with a drop policy and no last rule."""
    texts = []
    for stage in (FirewallStage.CONNECTING, CONNECTED):
        bare = without(render(policy(stage)), "everything else")
        texts.append(f"add table inet vpnpf\ndelete table inet vpnpf\n{script(bare, boottime())}")
    lab.nft("-f", "-", text=texts[0])
    with probes(lab) as leaked:
        deadline = time.monotonic() + 30
        for text in itertools.cycle(texts):
            lab.nft("-f", "-", text=text)
            if leaked() > 0:
                break
            assert time.monotonic() < deadline, "no leak seen: the swap test proves nothing on this kernel"
