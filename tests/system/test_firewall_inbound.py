"""What the internet may reach through the tunnel, with real packets."""

from __future__ import annotations

import itertools
import select
import socket
import subprocess
import time

import pytest

from tests.system.firewall_lab import (
    CLIENT_LAN,
    CLIENT_LAN6,
    ENDPOINT,
    GATEWAY,
    GATEWAY6,
    MARK,
    TUNNEL,
    TUNNEL6,
    WEB,
    WEB6,
    Lab,
    boottime,
    connect,
    connected,
    forward,
    policy,
    received,
    send,
    without,
)
from vpnpf.firewall.nft import Nft
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import script
from vpnpf.model import (
    FirewallPolicy,
    FirewallStage,
    Opening,
    PolicyMode,
    PortPolicy,
    Protocol,
)

pytestmark = pytest.mark.system

CONNECTED = FirewallStage.CONNECTED
KINDS = ("tcp", "udp")
FORWARDED, LISTED, OTHER, SSH = 40000, 45005, 41000, 22
PORTS = (FORWARDED, LISTED, OTHER, SSH)
OWN = (TUNNEL, TUNNEL6)
RANGES = tuple(Opening(45000, 45010, protocol) for protocol in Protocol)
CLOSED_FOR = 0.15
"""Seconds without an answer that count as closed; open ports answer in well under 1 ms."""


@pytest.fixture
def lab():
    made = Lab()
    yield made
    made.close()


@pytest.fixture
def nft(lab):
    return Nft(prefix=lab.prefix)


Place = tuple[str, str, int]


def serve(lab: Lab, places: list[Place]) -> dict[Place, socket.socket]:
    any_of = {TUNNEL: "0.0.0.0", TUNNEL6: "::"}
    return {place: lab.listen(lab.client, place[0], place[2], any_of[place[1]]) for place in places}


def reach(lab: Lab, places: list[Place], servers: dict[Place, socket.socket], *, expected: set[Place]) -> set[Place]:
    """Which places a stranger on the internet reaches: waits for those expected, then a little for the others."""
    here = {TUNNEL: WEB, TUNNEL6: WEB6}
    strangers = {place: lab.socket(lab.server, place[0], here[place[1]]) for place in places}
    for (kind, address, port), stranger in strangers.items():
        if kind == "tcp":
            connect(stranger, address, port)
        else:
            send(stranger, address, port)

    def arrived(some: list[Place], patience: float) -> set[Place]:
        tcp = {strangers[place]: place for place in some if place[0] == "tcp"}
        udp = {servers[place]: place for place in some if place[0] == "udp"}
        good = {tcp[each] for each in connected(tcp, patience)}
        return good | {udp[each] for each in received(udp, patience)}

    return arrived(sorted(expected), 3.0) | arrived(sorted(set(places) - expected), CLOSED_FOR / 2)


def drain(servers: dict[Place, socket.socket]) -> None:
    for server in servers.values():
        if server.type == socket.SOCK_STREAM:
            server.accept()[0].close()
        else:
            server.recv(99)


@pytest.mark.parametrize(
    ("inbound", "open_ports"),
    [
        pytest.param(PortPolicy(PolicyMode.OPEN_ALL), set(PORTS), id="open-all"),
        pytest.param(PortPolicy(PolicyMode.BLOCK_ALL), set(), id="block-all"),
        pytest.param(PortPolicy(PolicyMode.ALLOW_LIST), {FORWARDED}, id="allow-list"),
        pytest.param(PortPolicy(PolicyMode.ALLOW_LIST, openings=RANGES), {FORWARDED, LISTED}, id="allow-list-ranges"),
        pytest.param(
            PortPolicy(PolicyMode.ALLOW_LIST, forwarded=False, openings=RANGES),
            {LISTED},
            id="allow-list-without-forwarded",
        ),
    ],
)
async def test_the_policy_opens_its_ports_and_no_others(lab, nft, inbound, open_ports):
    places = list(itertools.product(KINDS, OWN, PORTS))
    servers = serve(lab, places)
    assert reach(lab, places, servers, expected=set(places)) == set(places), "control: without rules all is reached"
    drain(servers)

    reading = await nft.apply(policy(CONNECTED, forward(FORWARDED), inbound=inbound), boottime())
    assert reading.intact, reading.evidence

    expected = {place for place in places if place[2] in open_ports}
    assert reach(lab, places, servers, expected=expected) == expected

    for address, own in ((WEB, TUNNEL), (WEB6, TUNNEL6)):
        far = lab.listen(lab.server, "tcp", 8080, address)
        near = lab.socket(lab.client, "tcp", own)
        connect(near, address, 8080)
        assert connected([near]) == [near], "outbound works under every policy"
        assert received([far]) == [far]


@pytest.mark.parametrize("stage", [FirewallStage.CONNECTING, FirewallStage.BLOCKED])
async def test_nothing_comes_in_unless_connected(lab, nft, stage):
    places = list(itertools.product(KINDS, OWN, (FORWARDED, SSH)))
    servers = serve(lab, places)
    wide_open = PortPolicy(PolicyMode.OPEN_ALL)
    await nft.apply(policy(CONNECTED, forward(FORWARDED), inbound=wide_open), boottime())
    assert reach(lab, places, servers, expected=set(places)) == set(places), "control"
    drain(servers)
    await nft.apply(policy(stage, forward(FORWARDED), inbound=wide_open), boottime())
    assert reach(lab, places, servers, expected=set()) == set()


async def test_a_port_closes_in_the_kernel_when_its_lease_ends_with_no_process_alive(lab):
    nft = Nft(prefix=lab.prefix)
    lasting, ending = ("udp", TUNNEL, 40001), ("udp", TUNNEL, 40000)
    servers = serve(lab, [lasting, ending])
    now = boottime()
    await nft.apply(policy(CONNECTED, forward(40000, until=now + 0.9), forward(40001, name="web")), now)
    del nft  # nothing of ours runs from here on
    stranger = lab.socket(lab.server, "udp", WEB)
    send(stranger, TUNNEL, 40000)
    assert received([servers[ending]]) == [servers[ending]]
    servers[ending].recv(99)

    # Each try is a flow of its own: an open flow may go on after the lease.
    while True:
        assert boottime() < now + 4, "the port never closed"
        fresh = lab.socket(lab.server, "udp", WEB)
        send(fresh, TUNNEL, 40000)
        if not received([servers[ending]], 0.1):
            break
        servers[ending].recv(99)
        fresh.close()
    assert boottime() >= now + 0.9, "and not before the lease's end"
    send(fresh, TUNNEL, 40001)
    assert received([servers[lasting]]) == [servers[lasting]], "control: a lease without an end stays open"


async def test_the_counter_counts_new_flows_on_the_port_only_and_survives_new_rules(lab, nft):
    servers = serve(lab, [("tcp", TUNNEL, 40000), ("udp", TUNNEL, 40000), ("udp", TUNNEL, SSH)])
    wanted = policy(CONNECTED, forward(40000), inbound=PortPolicy(PolicyMode.OPEN_ALL))

    async def counts() -> dict[str, int]:
        return {str(protocol): hits.packets for _, protocol, hits in (await nft.read()).hits}

    await nft.apply(wanted, boottime())
    assert await counts() == {"tcp": 0, "udp": 0}

    # What we asked for ourselves proves nothing: answers to our own flows must not count.
    far = lab.listen(lab.server, "udp", 9999, WEB)
    own = lab.socket(lab.client, "udp", TUNNEL)
    send(own, WEB, 9999)
    _, origin = (received([far]), far.recvfrom(99))[1]
    far.sendto(b"answer", origin)
    assert received([own]) == [own]
    stranger = lab.socket(lab.server, "udp", WEB)
    send(stranger, TUNNEL, SSH)
    assert received([servers["udp", TUNNEL, SSH]])
    assert await counts() == {"tcp": 0, "udp": 0}, "neither answers nor other ports are counted"

    caller = lab.socket(lab.server, "tcp", WEB)
    connect(caller, TUNNEL, 40000)
    assert connected([caller])
    caller.send(b"more packets of the same flow")
    send(stranger, TUNNEL, 40000)
    assert received([servers["udp", TUNNEL, 40000]])
    assert await counts() == {"tcp": 1, "udp": 1}

    for stage in (CONNECTED, FirewallStage.BLOCKED, CONNECTED):
        reading = await nft.apply(FirewallPolicy(stage, wanted.plan, wanted.inbound, wanted.forwards), boottime())
        assert {str(protocol): hits.packets for _, protocol, hits in reading.hits} == {"tcp": 1, "udp": 1}

    lab.nft("flush", "ruleset")
    await nft.apply(wanted, boottime())
    assert await counts() == {"tcp": 1, "udp": 1}, "what was counted is not forgotten with the table"
    connect(again := lab.socket(lab.server, "tcp", WEB), TUNNEL, 40000)
    assert connected([again])
    assert await counts() == {"tcp": 2, "udp": 1}


async def test_make_before_break_keeps_both_ports_open_but_proves_only_the_new_one(lab, nft):
    old, new = ("udp", TUNNEL, 40000), ("udp", TUNNEL, 40007)
    servers = serve(lab, [old, new])
    await nft.apply(policy(CONNECTED, forward(40000)), boottime())
    await nft.apply(policy(CONNECTED, forward(40007), forward(40000)), boottime())
    assert reach(lab, [old, new], servers, expected={old, new}) == {old, new}
    (hits,) = (hits.packets for _, protocol, hits in (await nft.read()).hits if protocol == "udp")
    assert hits == 1, "the packet to the old port is no evidence for the new one"
    for server in servers.values():
        server.recv(99)
    reading = await nft.apply(policy(CONNECTED, forward(40007)), boottime())
    assert reading.intact, reading.evidence
    assert reach(lab, [old, new], servers, expected={new}) == {new}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("own", OWN)
async def test_a_fixed_listen_port_is_reached_by_the_port_of_the_lease(lab, nft, kind, own):
    listener = lab.listen(lab.client, kind, 51413, "::" if ":" in own else "0.0.0.0")
    await nft.apply(policy(CONNECTED, forward(40000, listen=51413)), boottime())

    def call(port: int, patience: float) -> bool:
        caller = lab.socket(lab.server, kind, WEB6 if ":" in own else WEB)
        if kind == "tcp":
            connect(caller, own, port)
            return connected([caller], patience) == [caller]
        send(caller, own, port)
        if not received([listener], patience):
            return False
        _, origin = listener.recvfrom(99)
        listener.sendto(b"answer", origin)
        assert received([caller]), "the answer comes back"
        assert caller.recvfrom(99)[1][:2] == (own, port), "from the port that was called"
        return True

    assert call(40000, 3.0)
    assert not call(51413, CLOSED_FOR), "the listen port itself is not open"
    (hits,) = (hits.packets for _, protocol, hits in (await nft.read()).hits if protocol == kind)
    assert hits == 1
    await nft.apply(policy(CONNECTED, forward(40000)), boottime())
    assert not call(40000, CLOSED_FOR), "control: nothing listens there without the redirect"


async def test_packets_to_the_tunnel_address_from_the_lan_are_dropped(lab, nft):
    """CVE-2019-14899: whoever shares the link must not learn the tunnel's address or get at its ports."""
    wanted = policy(CONNECTED, forward(40000), inbound=PortPolicy(PolicyMode.OPEN_ALL))
    places = list(itertools.product(KINDS, OWN, (40000, SSH)))
    servers = serve(lab, places)

    def answered(port: int, own: str, patience: float) -> bool:
        """Whether anything comes back: also a reset would tell that the address is here."""
        neighbour = lab.socket(lab.router, "tcp", "fd77::1" if ":" in own else "192.168.77.1")
        connect(neighbour, own, port)
        return bool(_woken(neighbour, patience))

    await nft.apply(wanted, boottime())
    for own, port in itertools.product(OWN, (40000, SSH, 9)):
        assert not answered(port, own, CLOSED_FOR / 3)
    for kind, own, port in places:
        if kind == "udp":
            send(lab.socket(lab.router, "udp", "fd77::1" if ":" in own else "192.168.77.1"), own, port)
    assert not received([servers[place] for place in places if place[0] == "udp"], CLOSED_FOR)

    control = without(without(render(wanted), "spoofed from elsewhere"), "tunnel address elsewhere")
    lab.load(control)
    assert answered(SSH, TUNNEL, 3.0), "control: without the rules the neighbour gets an answer"
    assert answered(SSH, TUNNEL6, 3.0), "control"


async def test_packets_from_the_tunnel_to_another_address_of_ours_are_dropped(lab, nft):
    """Nobody beyond the tunnel learns the LAN address by trying it, not even under open-all."""
    wanted = policy(CONNECTED, inbound=PortPolicy(PolicyMode.OPEN_ALL))
    server, server6 = lab.listen(lab.client, "udp", SSH), lab.listen(lab.client, "udp", SSH, "::")

    def probe() -> None:
        send(lab.socket(lab.server, "udp", WEB), CLIENT_LAN, SSH)
        send(lab.socket(lab.server, "udp", WEB6), CLIENT_LAN6, SSH)

    await nft.apply(wanted, boottime())
    probe()
    assert not received([server, server6], CLOSED_FOR)
    lab.load(without(render(wanted), "not the tunnel's address"))
    probe()
    assert set(received([server, server6])) == {server, server6}, "control"


async def test_the_lan_reaches_this_machine_but_not_the_forwarded_port(lab, nft):
    """A listener on all addresses must not be found on two paths."""
    wanted = policy(CONNECTED, forward(40000))
    ssh, torrent = lab.listen(lab.client, "tcp", SSH), lab.listen(lab.client, "tcp", 40000)

    def neighbour(port: int, patience: float) -> bool:
        caller = lab.socket(lab.router, "tcp", "192.168.77.1")
        connect(caller, CLIENT_LAN, port)
        return connected([caller], patience) == [caller]

    await nft.apply(wanted, boottime())
    assert neighbour(SSH, 3.0)
    assert not neighbour(40000, CLOSED_FOR)
    lab.load(without(render(wanted), "forwarded port elsewhere"))
    assert neighbour(40000, 3.0), "control"
    await nft.apply(policy(CONNECTED, forward(40000), lan=()), boottime())
    assert not neighbour(SSH, CLOSED_FOR), "without the LAN option nothing on the link gets in"
    assert received([ssh]), received([torrent])


async def test_the_tunnels_own_answers_come_in_and_nothing_else_from_the_server(lab, nft):
    server = lab.socket(lab.router, "udp", ENDPOINT, 51820)
    own = lab.socket(lab.client, "udp", "0.0.0.0", 33333, mark=MARK)
    other = lab.listen(lab.client, "udp", SSH)
    wanted = policy(FirewallStage.CONNECTING, lan=())
    await nft.apply(wanted, boottime())
    send(server, CLIENT_LAN, SSH)
    assert not received([other], CLOSED_FOR), "the server's address and port open nothing by themselves"
    send(own, ENDPOINT, 51820)
    assert received([server])
    send(server, CLIENT_LAN, 33333)
    assert received([own]) == [own]
    lab.nft("-f", "-", text=script(render(wanted), boottime()) + "flush chain inet vpnpf input\n")
    lab.nft("add", "rule", "inet", "vpnpf", "input", "ip", "saddr", ENDPOINT, "udp", "sport", "51820", "accept")
    send(server, CLIENT_LAN, SSH)
    assert received([other]), "control: a rule without connection tracking lets it in"


async def test_echo_requests_are_answered_only_under_open_all(lab, nft):
    def ping() -> bool:
        command = ("ip", "netns", "exec", lab.server, "ping", "-qc1", "-W0.2", "-I", WEB, TUNNEL)
        return subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode == 0

    await nft.apply(policy(CONNECTED, forward(40000)), boottime())
    assert not ping()
    await nft.apply(policy(CONNECTED, inbound=PortPolicy(PolicyMode.OPEN_ALL)), boottime())
    assert ping(), "control"


async def test_errors_about_open_flows_come_in(lab, nft):
    """Above all "packet too big": without it large transfers hang."""
    wanted = policy(CONNECTED, inbound=PortPolicy(PolicyMode.BLOCK_ALL))

    def refused(target: str, own: str) -> bool:
        near = lab.socket(lab.client, "udp", own)
        near.connect((target, 9))
        near.send(b"probe")
        return bool(received([near], CLOSED_FOR)) or near.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0

    await nft.apply(wanted, boottime())
    assert refused(WEB, TUNNEL)
    assert refused(WEB6, TUNNEL6)
    lab.load(without(render(wanted), "answers through the tunnel"))
    assert not refused(WEB, TUNNEL), "control"


async def test_dns_and_gateway_answers_arrive(lab, nft):
    await nft.apply(policy(CONNECTED), boottime())
    for gateway, own, port in ((GATEWAY, TUNNEL, 53), (GATEWAY6, TUNNEL6, 53), (GATEWAY, TUNNEL, 5351)):
        far = lab.listen(lab.server, "udp", port, gateway)
        near = lab.socket(lab.client, "udp", own)
        assert send(near, gateway, port)
        assert received([far])
        far.sendto(b"answer", far.recvfrom(99)[1])
        assert received([near])


def _woken(caller, patience: float) -> bool:
    """Whether a connection attempt ended in any way."""

    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        _, writable, _ = select.select([], [caller], [], max(0.0, deadline - time.monotonic()))
        if writable:
            return True
    return False
