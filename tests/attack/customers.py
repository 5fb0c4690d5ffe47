"""T6, T11, T12 and T20: other customers of the provider, and whoever answers in the gateway's place."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
import sys
from collections.abc import Sequence
from pathlib import Path

from mock_provider.capture import Packet
from mock_provider.peer import Echo, Peer
from mock_provider.topology import CLIENT, SERVER
from mock_provider.wireguard import GATEWAY
from tests.attack.attack import Attack
from tests.attack.world import LISTEN, Score, Side, half_routes, ip, product, until
from vpnpf.protocol import natpmp

ASKER = Path(__file__).with_name("asker.py").read_text()
VICTIM, STRANGER = "10.2.0.2", "10.2.0.66"
FORGED, GRANTED, PORT = 6666, 7777, 5399
"""The external port of every forged answer, that of the gateway's, and where the gateway is asked."""
BAIT, WEB = 34567, 8080
SERVICES = (22, 631, 8080)
SHORT, LONG = 0.5, 5.0
"""Seconds to wait for an answer: where none should come, and where one has to."""
LEASE = 3
"""Seconds."""


# -- T6: Port Fail ---------------------------------------------------------------------------------


async def port_fail(made: Side) -> Score:
    """A customer has a port of the server's own address, and has us visit it: does he see who we are?"""
    other = await made.neighbour_tunnel()
    rules = f"ip daddr {SERVER} tcp dport {BAIT} dnat to {other.address}:{WEB}"
    table = f"table ip bait {{\nchain pre {{\ntype nat hook prerouting priority dstnat - 5\n{rules}\n}}\n}}\n"
    await made.provider.lab.server.must(("nft", "-f", "-"), stdin=table)
    cable = await made.watch(also=lambda packet: (packet.destination, packet.destination_port) == (SERVER, BAIT))
    async with Echo(made.provider.lab.neighbour, other.address, WEB) as bait:
        for _ in range(10):
            await Peer(made.client).connect_tcp(SERVER, BAIT, send=b"hello", deadline=3)
        seen = [each.source for each in bait.seen]
    assert seen, "the bait is not reached by any way: this proves nothing"
    return Score(10, max(seen.count(CLIENT), await cable.count()), note=f"he sees {' '.join(sorted(set(seen)))}")


# -- T11, T12: NAT-PMP -----------------------------------------------------------------------------


async def asked(made: Side, port: int) -> int:
    """The external port that an answer named, asked for on the machine; 0: none was taken. vpnpf's way, or the usual."""
    way = "bound" if made.guarded else "sendto"
    argv = (sys.executable, "-c", ASKER, way, made.tunnel, VICTIM, GATEWAY, str(port))
    return int(await made.client.must(argv))


async def forged(made: Side, address: str, port: int) -> Score:
    """Before the gateway answers, answers come that fit in all else but are from another address or port."""
    server, sent = made.provider.lab.server, 0
    await ip(server, f"addr add {STRANGER}/32 dev lo\n")
    loop = asyncio.get_running_loop()
    with server.socket(type=socket.SOCK_DGRAM) as gateway, server.socket(type=socket.SOCK_DGRAM) as forger:
        gateway.bind((GATEWAY, PORT))
        forger.bind((address, port))

        async def forge() -> None:
            nonlocal sent
            while True:
                _, sender = await loop.sock_recvfrom(gateway, 64)
                for _ in range(10):
                    await loop.sock_sendto(forger, answer(FORGED), sender)
                    sent += 1
                await loop.sock_sendto(gateway, answer(GRANTED), sender)

        task = asyncio.create_task(forge())
        taken = await asked(made, PORT)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert taken in {FORGED, GRANTED}, "no answer was taken: this proves nothing"
    return Score(sent, int(taken == FORGED))


def answer(external: int) -> bytes:
    """A mapping of TCP that was granted (RFC 6886 section 3.3)."""
    return struct.pack("!BBHIHHI", 0, 128 + 2, 0, 7, LISTEN, external, 3600)


async def other_port(made: Side) -> Score:
    return await forged(made, GATEWAY, 6668)


async def other_address(made: Side) -> Score:
    return await forged(made, STRANGER, PORT)


async def asked_without_tunnel(made: Side) -> Score:
    """No rule of the packet filter stands, the tunnel is gone: a home router must not be asked for the port."""

    def request(packet: Packet) -> bool:
        return packet.protocol == socket.IPPROTO_UDP and packet.destination_port == natpmp.PORT

    cable = await made.watch(also=request)
    await made.kill_tunnel()
    for _ in range(3):
        await asked(made, natpmp.PORT)
    return Score(3, await cable.count())


# -- T20: what the forwarded port reaches ----------------------------------------------------------


async def knock(made: Side, ports: Sequence[int]) -> None:
    """Another customer knocks at these, by TCP and by UDP; whether it was heard is the listener's to say."""
    peer = Peer(made.provider.lab.neighbour)
    patience = SHORT if made.guarded else LONG
    calls = [peer.connect_tcp(VICTIM, port, deadline=patience, send=b"knock") for port in ports]
    calls += [peer.send_udp(VICTIM, port, deadline=patience) for port in ports]
    await asyncio.gather(*calls)


async def reached(made: Side) -> None:
    """See that the forwarded port is open to the other customer, so that a port that is not is closed by a rule."""
    port = await until(lambda: open_port(made), bool)
    outcome = await Peer(made.provider.lab.neighbour).connect_tcp(VICTIM, port, deadline=LONG)
    assert outcome.connected, f"the forwarded port: {outcome.result}"


async def open_port(made: Side) -> int:
    """The port that the kernel lets in now; 0: none."""
    if not made.guarded:
        return LISTEN
    listed = json.loads(await made.client.must(("nft", "-j", "list", "set", "inet", "vpnpf", "fwd_game_tcp")))
    elements = next(each["set"] for each in listed["nftables"] if "set" in each).get("elem", [])
    return next((each["elem"]["val"] for each in elements), 0)


async def other_services(made: Side) -> Score:
    """A customer knocks at what listens on all addresses."""
    await made.neighbour_tunnel()
    async with contextlib.AsyncExitStack() as stack:
        echoes = {port: await stack.enter_async_context(Echo(made.client, "0.0.0.0", port)) for port in SERVICES}
        await stack.enter_async_context(Echo(made.client, "0.0.0.0", LISTEN))
        await knock(made, SERVICES)
        await reached(made)  # what was sent before it has arrived, or never will
        heard = {(port, seen.protocol) for port, echo in echoes.items() for seen in echo.seen}
    return Score(2 * len(SERVICES), len(heard), note="the forwarded port is reached")


async def short_lease(made: Side) -> None:
    made.provider.gateway.lifetime = LEASE


async def after_the_lease(made: Side) -> Score:
    """The daemon is dead and the lease ends: the port has to close by itself."""
    await made.neighbour_tunnel()
    async with Echo(made.client, "0.0.0.0", LISTEN) as program:
        await reached(made)
        port = await open_port(made) or LISTEN
        await made.kill_daemon()
        if made.guarded:
            await until(lambda: open_port(made), lambda number: not number)
        before = len(program.seen)
        await knock(made, (port,) * 5)
        return Score(10, len(program.seen) - before)


ATTACKS = (
    Attack("T6", "Port Fail", "host route to the server", port_fail, half_routes),
    Attack("T11a", "NAT-PMP forged from another port", "sendto and recvfrom", other_port, half_routes, half_routes),
    Attack(
        "T11b", "NAT-PMP forged from another address", "sendto and recvfrom", other_address, half_routes, half_routes
    ),
    Attack(
        "T12", "NAT-PMP while the tunnel is down", "sendto and recvfrom", asked_without_tunnel, half_routes, half_routes
    ),
    Attack("T20a", "customer tries other services", "all ports open", other_services, half_routes, product),
    Attack(
        "T20b",
        "port after the lease, daemon dead",
        "a rule without an end",
        after_the_lease,
        half_routes,
        product,
        short_lease,
    ),
)
