"""Thousands of rule sets swapped under a flood: `python -m tests.faults.swaps`, part of `make faults`.

The swaps go through the product's own `Nft.apply`. In the same run, under the same flood, the usual atomic replace
(delete the table and make it anew in one transaction, with a drop policy) has to be caught leaking.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.figures import Figure, show
from tests.system.firewall_lab import Lab, boottime, forward, inside, policy, without
from vpnpf.firewall.nft import Nft
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import script
from vpnpf.model import FirewallStage

BLAST = Path(__file__).with_name("blast.py")
PORT = 4444
COUNTER = f"""
table inet watch {{
  counter seen {{ }}
  chain early {{
    type filter hook prerouting priority -400
    udp dport {PORT} counter name seen
  }}
}}
"""
STAGES = tuple(FirewallStage)
BETWEEN = 20
"""Swaps of the control between two looks whether it was caught."""


@dataclass(slots=True)
class Swapping:
    """What came of it."""

    swaps: int = 0
    probes: int = 0
    seconds: float = 0.0
    leaked: int = 0
    control_swaps: int = 0
    control_probes: int = 0
    control_leaked: int = 0
    before: int = 0
    """Of the probes that were sent before there were any rules; the counter sees them."""

    @property
    def rate(self) -> float:
        """Probes a second that were reached."""
        return self.probes / self.seconds


class Flood:
    """The program `blast` at work, and the counter at the other end of the cable."""

    def __init__(self, lab: Lab, process: subprocess.Popen[bytes]) -> None:
        self._lab = lab
        self._process = process
        self._rest = b""
        self._sent = 0
        self._stdout = process.stdout

    @property
    def sent(self) -> int:
        """Probes so far, as it told last; it tells ten times a second."""
        assert self._stdout is not None
        while data := self._stdout.read1(65536) if _readable(self._stdout) else b"":
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._sent = int(lines[-1]) if lines else self._sent
        return self._sent

    @property
    def seen(self) -> int:
        """Probes that came out of the cable."""
        listing = json.loads(
            self._lab.nft("-j", "list", "counter", "inet", "watch", "seen", namespace=self._lab.router)
        )
        return next(int(each["counter"]["packets"]) for each in listing["nftables"] if "counter" in each)


def _readable(stream: object) -> bool:
    return bool(select.select([stream], [], [], 0)[0])


@contextlib.contextmanager
def flood(lab: Lab, rate: int) -> Iterator[Flood]:
    """Send at that rate while the body runs."""
    lab.nft("-f", "-", text=COUNTER, namespace=lab.router)
    argv = (sys.executable, str(BLAST), str(rate), str(PORT))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with inside(lab.client):
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=env)
    try:
        yield Flood(lab, process)
    finally:
        process.kill()
        process.communicate()


async def swap(lab: Lab, swaps: int, rate: int, control: range) -> Swapping:
    """So many swaps, then some of the other kind: at least `control.start`, then until one leaks or `control.stop`."""
    found = Swapping()
    with inside(lab.client), flood(lab, rate) as probes:
        while probes.seen < 100:  # noqa: ASYNC110 - a counter of the kernel has no event
            await asyncio.sleep(0.01)
        found.before = probes.seen
        nft = Nft()
        await nft.apply(policy(FirewallStage.CONNECTING), boottime())
        await _report(probes)
        seen, sent, begun = probes.seen, probes.sent, time.monotonic()
        for number, stage in zip(range(swaps), itertools.cycle(STAGES), strict=False):
            reading = await nft.apply(policy(stage, forward(40000 + number % 7)), boottime())
            assert reading.intact, reading.evidence
            found.swaps += 1
        found.seconds = time.monotonic() - begun
        found.probes, found.leaked = probes.sent - sent, probes.seen - seen
        await _control(lab, probes, found, control)
    return found


async def _control(lab: Lab, probes: Flood, found: Swapping, swaps: range) -> None:
    texts = []
    for stage in (FirewallStage.CONNECTING, FirewallStage.CONNECTED):
        bare = without(render(policy(stage)), "everything else")
        texts.append(f"add table inet vpnpf\ndelete table inet vpnpf\n{script(bare, boottime())}")
    seen, sent = probes.seen, probes.sent
    while found.control_swaps < (swaps.stop if not found.control_leaked else swaps.start):
        for text in itertools.islice(itertools.cycle(texts), BETWEEN):
            lab.nft("-f", "-", text=text)
            found.control_swaps += 1
        found.control_leaked = probes.seen - seen
    await _report(probes)
    found.control_probes = probes.sent - sent


async def _report(probes: Flood) -> None:
    """Wait until it has told how many it sent after now."""
    before = probes.sent
    while probes.sent == before:  # noqa: ASYNC110 - it is read when it is looked at
        await asyncio.sleep(0.01)


async def run(swaps: int, rate: int, control: range) -> Swapping:
    """In a lab of its own."""
    lab = Lab()
    try:
        return await swap(lab, swaps, rate, control)
    finally:
        lab.close()


def figures(found: Swapping, swaps: int, rate: int) -> list[Figure]:
    """The rows of the table."""
    return [
        Figure("swaps by Nft.apply, each read back", found.swaps, "", at_least=swaps),
        Figure("probes, IPv4 and IPv6, bound to the uplink", found.probes, ""),
        Figure("probes a second", round(found.rate), "", at_least=rate),
        Figure("probes that leaked", found.leaked, "", at_most=0),
        Figure("control: swaps by delete and add in one transaction", found.control_swaps, ""),
        Figure("control: probes", found.control_probes, ""),
        Figure("control: probes that leaked", found.control_leaked, "", at_least=1),
        Figure("real time", found.seconds, "s"),
    ]


def main() -> int:
    """Do it, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--swaps", type=int, default=2000)
    parser.add_argument("--rate", type=int, default=20_000, help="packets a second at least")
    options = parser.parse_args()
    # Somewhat more is asked for, since the processor is shared with nft.
    found = asyncio.run(run(options.swaps, options.rate * 5 // 4, range(options.swaps // 2, 8 * options.swaps)))
    return show("Rule sets swapped under a flood", figures(found, options.swaps, options.rate))


if __name__ == "__main__":
    sys.exit(main())
