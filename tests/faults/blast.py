"""A program that sends UDP by the uplink at a steady rate: IPv4 and IPv6 in turn; a line of figures each second.

Its sockets are bound to the device, so that no route stands in the way: what the packet filter lets by is seen.
Arguments: packets a second, the port.
"""

from __future__ import annotations

import os
import socket
import sys
import time

from mock_provider.topology import INTERNET, INTERNET6

BURST = 0.001
"""Seconds between two bursts."""


def main(rate: int, port: int) -> None:
    """Send until it is killed; prints how many were tried so far."""
    senders = []
    for family, target in ((socket.AF_INET, INTERNET), (socket.AF_INET6, INTERNET6)):
        made = socket.socket(family, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
        made.connect((target, port))
        made.setblocking(False)
        senders.append(made.send)
    clock = time.perf_counter
    last = told = clock()
    due, count = 0.0, 0
    while True:
        now = clock()
        # What was missed while the processor was elsewhere is not made up for: the rate is told as it was.
        due += min(now - last, 0.02) * rate
        last = now
        for _ in range(int(due) // 2):
            for send in senders:
                try:  # noqa: SIM105 - contextlib.suppress costs more than the packet
                    send(b"probe")
                except OSError:
                    pass
            count += 2
            due -= 2
        if now - told >= 0.1:
            told = now
            os.write(1, b"%d\n" % count)
        time.sleep(BURST)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
