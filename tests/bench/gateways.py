"""Mock gateways over real sockets on loopback: `python -m tests.bench.gateways LIFETIME`, until its standard input ends."""

from __future__ import annotations

import selectors
import socket
import sys
import time

from mock_provider.behaviour import Behaviour
from mock_provider.faults import Faults
from mock_provider.natpmp import PORT, Machine

COUNT = 8
PORTS = range(40000, 40016)


def address(number: int) -> str:
    """Where the gateway of a client listens."""
    return f"127.77.0.{number % COUNT + 1}"


def main(lifetime: int) -> None:
    """Serve, and grant no longer than this; every client has a gateway's state of its own, as with a gateway that keeps it by address."""
    clients: dict[str, Behaviour] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(sys.stdin, selectors.EVENT_READ)
        for number in range(COUNT):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
            made.bind((address(number), PORT))
            selector.register(made, selectors.EVENT_READ)
        print("ready", flush=True)  # noqa: T201 - who started it waits for this
        while True:
            for key, _ in selector.select():
                if key.fileobj is sys.stdin:
                    return
                data, sender = key.fileobj.recvfrom(2048)
                now = time.monotonic()
                if sender[0] not in clients:
                    faults = Faults()
                    clients[sender[0]] = Behaviour(faults, Machine(faults, now=now, ports=PORTS, lifetime=lifetime))
                for send in clients[sender[0]].receive(data, sender, now).sends:
                    key.fileobj.sendto(send.data, send.to)


if __name__ == "__main__":
    main(int(sys.argv[1]))
