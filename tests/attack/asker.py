# ruff: noqa: T201 - who started it reads this
"""Asks a gateway for a port and prints the external port of the answer that was taken, 0: none. Run as `python -c`.

python -c SOURCE bound|sendto DEVICE OWN-ADDRESS GATEWAY PORT
"""

import asyncio
import contextlib
import socket
import sys

from vpnpf.errors import Failure
from vpnpf.io.clock import BootClock
from vpnpf.io.udp import TunnelIO
from vpnpf.model import Endpoint, Protocol, Tunnel, TunnelPlan
from vpnpf.protocol import natpmp
from vpnpf.protocol.exchange import Exchange, Schedule
from vpnpf.testing import FakeAccount

PORT = 25565
REQUEST = natpmp.mapping_request(Protocol.TCP, PORT, 0, 60)
WAITS = (0.1, 0.2)


def parse(data):
    """The answer to our request, if it is one."""
    return natpmp.parse_mapping(data, Protocol.TCP, PORT)


async def bound(device, own, gateway, port):
    """As vpnpf does."""
    plan = TunnelPlan(device, Endpoint("198.51.100.10", 51820), (f"{own}/32",))
    exchange = Exchange(REQUEST, parse, "asking for a port", Schedule(WAITS))
    with contextlib.suppress(Failure):
        return (
            await TunnelIO(Tunnel(plan, "", gateway), BootClock(), FakeAccount()).exchange(exchange, gateway, port)
        ).external_port
    return 0


def sendto(gateway, port):
    """As many programs do."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made, contextlib.suppress(OSError):
        for wait in WAITS:
            made.settimeout(wait)
            made.sendto(REQUEST, (gateway, port))
            with contextlib.suppress(TimeoutError):
                heard = parse(made.recvfrom(64)[0])
                return heard.external_port if heard else 0
    return 0


def main():
    """See the module's text."""
    way, device, own, gateway, port = sys.argv[1:]
    if way == "bound":
        print(asyncio.run(bound(device, own, gateway, int(port))))
    else:
        print(sendto(gateway, int(port)))


main()
