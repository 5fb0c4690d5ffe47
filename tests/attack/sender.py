# ruff: noqa: T201 - who started it reads this
"""Sends probes until its standard input ends; then says how many of each. Run as `python -c` in a network namespace.

    python -c SOURCE '[{"name": ..., "protocol": "udp", "target": ..., "port": ..., "device": ..., "mark": ...}]' RATE

RATE is rounds a second; each round tries every probe once. A try that the kernel refuses is a try. On standard
output: how many rounds are done, now and then, and at the end an object of counts.
"""

import contextlib
import json
import select
import socket
import sys
import time

SO_MARK = 36


class Probe:
    """One kind of packet."""

    def __init__(self, wanted):
        self.name = wanted["name"]
        self.wanted = wanted
        self.payload = f"vpnpf-probe {self.name}.".encode()
        self.sent = 0
        self.socket = self.open() if wanted["protocol"] == "udp" else None

    def open(self):
        """A socket; without the mark if that is not permitted."""
        wanted = self.wanted
        family = socket.AF_INET6 if ":" in wanted["target"] else socket.AF_INET
        made = socket.socket(family, socket.SOCK_DGRAM if wanted["protocol"] == "udp" else socket.SOCK_STREAM)
        made.setblocking(False)
        if wanted["device"]:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, wanted["device"].encode())
        if wanted["mark"]:
            with contextlib.suppress(PermissionError):
                made.setsockopt(socket.SOL_SOCKET, SO_MARK, wanted["mark"])
        return made

    def send(self):
        """One try."""
        self.sent += 1
        to = (self.wanted["target"], self.wanted["port"])
        with contextlib.suppress(OSError):
            if self.socket is not None:
                self.socket.sendto(self.payload, to)
            else:
                with self.open() as connection:
                    connection.connect(to)


def main():
    """See the module's text."""
    probes = [Probe(each) for each in json.loads(sys.argv[1])]
    pause, rounds = 1 / float(sys.argv[2]), 0
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        for probe in probes:
            probe.send()
        rounds += 1
        due += pause
        if rounds % 25 == 0:
            print(rounds, flush=True)
    print(json.dumps({probe.name: probe.sent for probe in probes}), flush=True)


main()
