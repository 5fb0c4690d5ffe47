"""The port policy with real packets: every cell of the table, sources, ends, other hosts, and what `explain` says."""

from __future__ import annotations

import itertools
import json
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress

import pytest
from msgspec.structs import replace

from tests.system.firewall_lab import (
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
    policy,
    received,
    send,
)
from vpnpf.firewall.explain import explain
from vpnpf.firewall.nft import Nft
from vpnpf.model import BOTH, FirewallStage, ForwardRule, Opening, PolicyMode, PortPolicy, Protocol

pytestmark = pytest.mark.system

CONNECTED = FirewallStage.CONNECTED
FORWARDED, OTHER, SSH = 40000, 41000, 22
CUSTOMER, CUSTOMER6 = "10.2.0.9", "fd00:2::9"
"""Another customer of the VPN server: its packets come out of the same tunnel, from an address of the provider's."""
ORIGINS = {("internet", 4): WEB, ("internet", 6): WEB6, ("customer", 4): CUSTOMER, ("customer", 6): CUSTOMER6}
OWN = {4: TUNNEL, 6: TUNNEL6}
CLOSED_FOR = 0.15
"""Seconds without an answer that count as closed; open ports answer in well under 1 ms."""
TCP, UDP = Protocol
OWN_PORTS = itertools.count(10000)
"""Of callers: each its own, so that none is taken for a flow that is open already."""
Cell = tuple[str, int, int, str]
"""(protocol, IP version, port, who calls)."""
CELLS: list[Cell] = list(itertools.product(("tcp", "udp"), (4, 6), (FORWARDED, OTHER, SSH), ("internet", "customer")))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    made = Lab()
    made.ip("-n", made.server, "addr", "add", f"{CUSTOMER}/32", "dev", "lo")
    made.ip("-n", made.server, "addr", "add", f"{CUSTOMER6}/128", "dev", "lo", "nodad")
    yield made
    made.close()


@pytest.fixture(scope="module")
def servers(lab: Lab) -> dict[tuple[str, int, int], socket.socket]:
    places = itertools.product(("tcp", "udp"), (4, 6), (FORWARDED, OTHER, SSH))
    return {p: lab.listen(lab.client, p[0], p[2], "::" if p[1] == 6 else "0.0.0.0") for p in places}


@pytest.fixture
def nft(lab: Lab) -> Iterator[Nft]:
    """A table of our own for each test, in a namespace that all share."""
    lab.nft("-f", "-", text="add table inet vpnpf\ndelete table inet vpnpf\n")
    yield Nft(prefix=lab.prefix)
    lab.nft("-f", "-", text="add table inet vpnpf\ndelete table inet vpnpf\n")


def reached(lab: Lab, servers: dict, cells: list[Cell], expected: set[Cell]) -> set[Cell]:
    """The cells that get through: waits for those expected, then a little for the others."""
    callers = {cell: lab.socket(lab.server, cell[0], ORIGINS[cell[3], cell[1]], next(OWN_PORTS)) for cell in cells}
    names = {caller.getsockname()[:2]: cell for cell, caller in callers.items()}
    for (kind, version, port, _), caller in callers.items():
        if kind == "tcp":
            connect(caller, OWN[version], port)
        else:
            send(caller, OWN[version], port)
    found: set[Cell] = set()
    for some, patience in ((expected, 3.0), (set(cells) - expected, CLOSED_FOR)):
        tcp = {callers[cell]: cell for cell in some if cell[0] == "tcp"}
        found |= {tcp[each] for each in connected(tcp, patience)}
        udp, deadline = {cell for cell in some if cell[0] == "udp"}, time.monotonic() + patience
        while udp - found and time.monotonic() < deadline:
            for server in received({servers[cell[:3]] for cell in udp - found}, deadline - time.monotonic()):
                found |= {names[origin] for origin in senders(server) if origin in names}
    for server in servers.values():
        with suppress(BlockingIOError):
            while server.type == socket.SOCK_STREAM:
                server.accept()[0].close()
    for caller in callers.values():
        caller.close()
    return found


def senders(server: socket.socket) -> set[tuple]:
    """Who sent the datagrams that wait."""
    found = set()
    with suppress(BlockingIOError):
        while True:
            found.add(server.recvfrom(99)[1][:2])
    return found


MODES = {
    PolicyMode.OPEN_ALL: {FORWARDED, OTHER, SSH},
    PolicyMode.BLOCK_ALL: set(),
    PolicyMode.ALLOW_LIST: {FORWARDED},
}


async def test_the_72_cells_are_exactly_as_they_should_be(lab, nft, servers):
    assert len(CELLS) * len(MODES) == 72
    assert reached(lab, servers, CELLS, set(CELLS)) == set(CELLS), "control: without rules all is reached"
    for mode, ports in MODES.items():
        wanted = policy(CONNECTED, forward(FORWARDED), inbound=PortPolicy(mode))
        reading = await nft.apply(wanted, boottime())
        assert reading.intact, reading.evidence
        expected = {cell for cell in CELLS if cell[2] in ports}
        assert reached(lab, servers, CELLS, expected) == expected, mode
        for kind, version, port, who in CELLS:
            found = explain(wanted, Protocol(kind), port, ORIGINS[who, version], boottime())
            assert (found.verdict == "accept") == ((kind, version, port, who) in expected)


async def test_an_entry_with_sources_lets_in_those_and_is_counted(lab, nft, servers):
    """SSH for the internet host alone, IPv4 and IPv6; the other port for the other customers' prefixes alone."""
    openings = (
        Opening(SSH, SSH, TCP, (f"{WEB}/32", f"{WEB6}/128")),
        Opening(OTHER - 5, OTHER + 5, TCP, ("10.2.0.0/24", "fd00:2::/64")),
        Opening(OTHER, OTHER, UDP),
    )
    wanted = policy(CONNECTED, inbound=PortPolicy(openings=openings))
    assert (await nft.apply(wanted, boottime())).intact
    expected = {
        cell
        for cell in CELLS
        if (cell[0], cell[2], cell[3]) in {("tcp", SSH, "internet"), ("tcp", OTHER, "customer")}
        or (cell[0], cell[2]) == ("udp", OTHER)
    }
    assert reached(lab, servers, CELLS, expected) == expected
    hits = {key: hits.packets for key, hits in (await nft.read()).openings}
    assert hits == {openings[0].key: 2, openings[1].key: 2, openings[2].key: 4}
    for kind, version, port, who in CELLS:
        found = explain(wanted, Protocol(kind), port, ORIGINS[who, version], boottime())
        assert (found.verdict == "accept") == ((kind, version, port, who) in expected)
        assert (found.opening in hits) == ((kind, version, port, who) in expected)

    # What stays keeps its counter, whatever happens beside it.
    more = (*openings, Opening(9, 9, TCP), Opening(99, 199, TCP))
    for changed in (
        PortPolicy(openings=more),
        PortPolicy(PolicyMode.BLOCK_ALL, openings=more),
        PortPolicy(PolicyMode.OPEN_ALL, openings=openings),
        PortPolicy(openings=openings),
    ):
        reading = await nft.apply(replace(wanted, inbound=changed), boottime())
        assert reading.intact, reading.evidence
        assert {key: counted.packets for key, counted in reading.openings if key in hits} == hits
    raw = lab.nft("list", "set", "inet", "vpnpf", "open_tcp_ip")
    assert "packets 1" in raw, "in the kernel itself, not only in what we remember"


async def test_a_forward_with_sources_lets_in_those_alone(lab, nft, servers):
    rule = replace(forward(FORWARDED), sources=(f"{WEB}/32", "fd00:2::/64"))
    await nft.apply(policy(CONNECTED, rule), boottime())
    cells = [cell for cell in CELLS if cell[2] == FORWARDED]
    expected = {cell for cell in cells if (cell[1], cell[3]) in {(4, "internet"), (6, "customer")}}
    assert reached(lab, servers, cells, expected) == expected
    await nft.apply(policy(CONNECTED, replace(rule, sources=())), boottime())
    assert reached(lab, servers, cells, set(cells)) == set(cells), "control"
    shut = replace(rule, sources=(), shut=True)
    listed = PortPolicy(openings=(Opening(FORWARDED, FORWARDED, TCP),))
    await nft.apply(policy(CONNECTED, shut, inbound=listed), boottime())
    assert reached(lab, servers, cells, set()) == set(), "held, and opened by no entry"
    await nft.apply(policy(CONNECTED, shut, inbound=PortPolicy(PolicyMode.OPEN_ALL)), boottime())
    assert reached(lab, servers, cells, set(cells)) == set(cells)


async def test_an_entry_closes_by_itself_with_no_process_alive(lab, nft, servers):
    now = boottime()
    ends = now + 0.9
    openings = (
        Opening(SSH, SSH, UDP, ends_at=ends),
        Opening(OTHER - 5, OTHER + 5, UDP, ends_at=ends),
        Opening(FORWARDED, FORWARDED, UDP, (f"{WEB}/32", f"{WEB6}/128"), ends_at=ends),
        Opening(SSH, SSH, TCP),
    )
    await nft.apply(policy(CONNECTED, inbound=PortPolicy(openings=openings)), now)
    reader = nft
    del nft  # nothing of ours runs from here on
    timed = [cell for cell in CELLS if cell[0] == "udp" and cell[3] == "internet"]
    lasting = {("tcp", 4, SSH, "internet"), ("tcp", 6, SSH, "internet")}
    assert reached(lab, servers, timed, set(timed)) == set(timed)
    still = set(timed)
    while still:
        assert boottime() < now + 4, f"never closed: {still}"
        still = reached(lab, servers, timed, set())
    assert boottime() >= ends, "and not before its end"
    assert reached(lab, servers, sorted(lasting), lasting) == lasting, "control: what has no end stays open"
    assert (await reader.read()).intact, "that it closed is as it should be"


async def test_a_new_end_counts_and_the_old_one_does_not(lab, nft, servers):
    now = boottime()
    entry = Opening(SSH, SSH, UDP, ends_at=now + 1)
    await nft.apply(policy(CONNECTED, inbound=PortPolicy(openings=(entry,))), now)
    for ends_at in (now + 600, None):
        changed = policy(CONNECTED, inbound=PortPolicy(openings=(replace(entry, ends_at=ends_at),)))
        reading = await nft.apply(changed, boottime())
        assert reading.intact, reading.evidence
    (ended,) = _elements(lab, "open_udp")
    assert ended == SSH
    sooner = policy(CONNECTED, inbound=PortPolicy(openings=(replace(entry, ends_at=now + 60),)))
    assert (await nft.apply(sooner, boottime())).intact
    assert "expires" in _elements(lab, "open_udp")[0]["elem"]


def _elements(lab: Lab, name: str) -> list:
    document = json.loads(lab.nft("-j", "list", "set", "inet", "vpnpf", name))
    return next(each["set"]["elem"] for each in document["nftables"] if "set" in each)


async def test_what_ended_or_was_taken_away_meanwhile_does_not_stop_a_change(lab, nft):
    now = boottime()
    openings = (Opening(22, 22, TCP), Opening(80, 90, TCP, ends_at=now + 1), Opening(1, 1, TCP, ("10.0.0.0/8",)))
    await nft.apply(policy(CONNECTED, inbound=PortPolicy(openings=openings)), now)
    lab.nft("delete", "element", "inet", "vpnpf", "open_tcp", "{ 22 }")
    lab.nft("add", "element", "inet", "vpnpf", "open_tcp_ranges", "{ 1-79 }")
    reading = await nft.read()
    assert not reading.intact
    assert "open_tcp" in reading.evidence
    assert (await nft.apply(policy(CONNECTED, inbound=PortPolicy(openings=openings)), boottime())).intact, "healed"
    lab.nft("delete", "element", "inet", "vpnpf", "open_tcp", "{ 22 }")
    lab.nft("delete", "element", "inet", "vpnpf", "open_tcp_ip", "{ 10.0.0.0/8 . 1 }")
    assert (await nft.apply(policy(CONNECTED), boottime())).intact, "although what should be deleted is gone"
    for tamper in ("flush set inet vpnpf open_tcp_ip", "delete table inet vpnpf"):
        await nft.apply(policy(CONNECTED, inbound=PortPolicy(openings=openings[2:])), boottime())
        lab.nft("-f", "-", text=f"{tamper}\n")
        assert not (await nft.read()).intact
        assert (await nft.apply(policy(CONNECTED, inbound=PortPolicy(openings=openings[2:])), boottime())).intact


# -- another host -----------------------------------------------------------------------------------


@pytest.fixture
def routed(lab: Lab) -> Iterator[None]:
    """The client passes packets on; the target is its router, whose own way out is another."""
    keys = ("ipv4/ip_forward", "ipv6/conf/all/forwarding")
    for key in keys:
        lab.sysctl(lab.client, key, 1)
    yield
    for key in keys:
        lab.sysctl(lab.client, key, 0)


@pytest.mark.parametrize("kind", ["tcp", "udp"])
@pytest.mark.parametrize(
    ("target", "own", "caller"), [(ROUTER_LAN, TUNNEL, WEB), (ROUTER_LAN6, TUNNEL6, WEB6)], ids=["ipv4", "ipv6"]
)
@pytest.mark.usefixtures("routed")
async def test_a_forward_to_another_host_is_answered_through_the_tunnel(lab, nft, kind, target, own, caller):
    rule = ForwardRule("web", BOTH, 40010, 8080, target=target)
    listener = lab.listen(lab.router, kind, 8080, target)
    uplink = lab.watch(lab.router, "lan0")

    def call(port: int, patience: float) -> bool:
        with closing(lab.socket(lab.server, kind, caller, next(OWN_PORTS))) as stranger:
            if kind == "tcp":
                connect(stranger, own, port)
                if not connected([stranger], patience):
                    return False
                assert received([listener])
                here, origin = listener.accept()
                here.close()
            else:
                send(stranger, own, port)
                if not received([listener], patience):
                    return False
                _, origin = listener.recvfrom(99)
                listener.sendto(b"answer", origin)
                assert received([stranger]), "the answer comes back"
                assert stranger.recvfrom(99)[1][:2] == (own, port), "from the port that was called"
        assert origin[0] in {"192.168.77.2", "fd77::2"}, "it comes from this machine, so its answer comes back here"
        return True

    wanted = policy(CONNECTED, rule)
    reading = await nft.apply(wanted, boottime())
    assert reading.intact, reading.evidence
    assert call(40010, 3.0)
    assert {name for name, protocol, hits in (await nft.read()).hits if protocol == kind and hits.packets == 1} == {
        "web"
    }
    assert not call(8080, CLOSED_FOR), "no other port of the target is reached"
    assert all(address != caller for _, address, _ in uplink.seen()), "nothing for the caller left past the tunnel"
    found = explain(wanted, Protocol(kind), 40010, caller, boottime())
    assert (found.verdict, found.chain, found.forward) == ("accept", "forward", "web")

    for shut in (
        policy(CONNECTED, replace(rule, sources=("192.0.2.0/24",))),
        policy(CONNECTED, rule, inbound=PortPolicy(PolicyMode.BLOCK_ALL)),
    ):
        await nft.apply(shut, boottime())
        assert not call(40010, CLOSED_FOR), lab.nft("list", "table", "inet", "vpnpf")
        assert explain(shut, Protocol(kind), 40010, caller, boottime()).verdict == "drop"
    await nft.apply(policy(CONNECTED, rule, inbound=PortPolicy(PolicyMode.OPEN_ALL)), boottime())
    assert call(40010, 3.0)
    listener.close()


@pytest.mark.usefixtures("routed")
async def test_without_the_masquerade_the_answer_would_leave_past_the_tunnel(lab, nft):
    """Why it is there: the control of the test above."""
    rule = ForwardRule("web", BOTH, 40011, 8081, target=ROUTER_LAN, keep_source=True)
    lab.listen(lab.router, "tcp", 8081, ROUTER_LAN)
    await nft.apply(policy(CONNECTED, rule), boottime())
    # The target's way to the caller is its own: here an address of its own, which swallows the answer.
    stranger = lab.socket(lab.server, "tcp", WEB)
    connect(stranger, TUNNEL, 40011)
    assert not connected([stranger], CLOSED_FOR)
    stranger.close()
    seen = {hits.packets for name, protocol, hits in (await nft.read()).hits if (name, protocol) == ("web", "tcp")}
    assert seen != {0}, "although it was let in"


# -- explain against the kernel ---------------------------------------------------------------------


SAMPLE = (
    Opening(100, 100, TCP),
    Opening(100, 120, UDP),
    Opening(200, 210, TCP, ("10.2.0.0/24",)),
    Opening(205, 205, TCP, ("fd00:2::9/128", f"{WEB}/32")),
    Opening(300, 300, UDP, ("0.0.0.0/0",)),
    Opening(8080, 8080, TCP, (f"{WEB}/32", f"{WEB6}/128")),
)
FORWARDS = (
    forward(40000, listen=8080, name="web"),
    replace(forward(40001, name="limited"), sources=("10.2.0.9/32",)),
    replace(forward(40002, name="shut"), shut=True),
    replace(forward(40003, listen=8080, name="host"), target=ROUTER_LAN),
)


@pytest.mark.usefixtures("routed")
@pytest.mark.parametrize("mode", PolicyMode)
@pytest.mark.parametrize("forwarded", [True, False])
async def test_the_explanation_agrees_with_the_kernel(lab, nft, mode, forwarded):
    """The rule that is named is the one whose counter rises; without a counter of its own, the verdict is the kernel's."""
    wanted = policy(CONNECTED, *FORWARDS, inbound=PortPolicy(mode, forwarded, SAMPLE))
    await nft.apply(wanted, boottime())
    ports = (100, 120, 121, 200, 205, 300, 8080, 40000, 40001, 40002, 40003)
    for kind, port, (who, version) in itertools.product(Protocol, ports, ORIGINS):
        found = explain(wanted, kind, port, ORIGINS[who, version], boottime())
        before = _counted(await nft.read())
        caller = lab.socket(lab.server, kind, ORIGINS[who, version], next(OWN_PORTS))
        if kind == "tcp":
            connect(caller, OWN[version], port)
        else:
            send(caller, OWN[version], port)
        caller.close()
        risen = {key for key, packets in _counted(await nft.read()).items() if packets > before.get(key, 0)}
        named = {found.opening} if found.opening else {(found.forward, kind)} if found.forward else set()
        assert risen == named, (kind, port, who, version, found)


def _counted(reading) -> dict:
    counts = {key: hits.packets for key, hits in reading.openings}
    return counts | {(name, protocol): hits.packets for name, protocol, hits in reading.hits}
