"""1,000 leases of 60 s in one process, over real sockets on loopback, beside `natpmpc` in a shell loop.

`python -m tests.bench.leases`, part of `make bench`. The gateways, the leases and ten leases to compare with are three
processes that run at the same time.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from tests.bench import gateways
from tests.figures import Figure, show

LATE = 2.0
"""Seconds after which a renewal has to have its answer."""
CORE = 15.0
"""Percent of one core."""
MEMORY = 30.0
"""KB a lease."""
GROWTH = 1.3
"""CPU of a renewal among many, against one among few."""
FEW = 10
ROUNDS = 50
RENEWALS = f"""
for i in $(seq "$1"); do
    natpmpc -a 1 0 udp 60 -g {gateways.address(0)} >/dev/null &&
    natpmpc -a 1 0 tcp 60 -g {gateways.address(0)} >/dev/null || exit 1
done
"""
IN_EACH = 2
"""Exchanges of each `natpmpc`: it asks for the address too."""


@dataclass(frozen=True, slots=True)
class Shell:
    """What `natpmpc` took."""

    cpu: float
    """Milliseconds for the renewal of one port, both protocols."""
    exchange: float
    """Milliseconds."""


@contextlib.contextmanager
def served(lifetime: int) -> Iterator[None]:
    """Mock gateways in a process of their own."""
    command = [sys.executable, "-m", "tests.bench.gateways", str(lifetime)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "ready\n":
                raise SystemExit("the mock gateways do not start: is their port taken?")
            yield
        finally:
            process.stdin.close()


def kept(counts: dict[int, int], seconds: float, lifetime: int) -> dict[int, dict[str, float]]:
    """Let leases be held, so many from each block of addresses, in a process each, at the same time."""
    running = {
        block: subprocess.Popen(
            [sys.executable, "-m", "tests.bench.keeper", str(count), str(seconds), str(block), str(lifetime)],
            stdout=subprocess.PIPE,
            text=True,
        )
        for block, count in counts.items()
    }
    said = {block: process.communicate()[0] for block, process in running.items()}
    if any(process.returncode for process in running.values()):
        raise SystemExit("the leases could not be measured")
    return {block: json.loads(text) for block, text in said.items()}


def by_shell(rounds: int) -> Shell:
    """Renewals as people script them."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(["sh", "-c", RENEWALS, "sh", str(rounds)], check=True)
    seconds, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Shell(1000 * cpu / rounds, 1000 * seconds / (rounds * 2 * IN_EACH))


def measured(leases: int, minutes: float, *, lifetime: int = 60, rounds: int = ROUNDS) -> list[Figure]:
    """The rows of the table."""
    many, few = 78, 79
    with served(lifetime):
        found = kept({many: leases, few: FEW}, minutes * 60, lifetime)
        shell = by_shell(rounds)
    ours, ten = found[many], found[few]
    return [
        Figure("leases", ours["granted"], "", at_least=leases),
        Figure("ports lost", ours["lost"] + ten["lost"], "", at_most=0),
        Figure("renewals", ours["renewals"], "", at_least=int(ours["due"] * 0.98)),
        Figure("latest renewal, from its time to its answer", ours["latest"], "s", at_most=LATE),
        Figure("median renewal, from its time to its answer", ours["median"], "s"),
        Figure("share of one core", ours["core"], "%", at_most=CORE),
        Figure("memory a lease", ours["memory"], "KB", at_most=MEMORY),
        Figure("CPU of a renewal", ours["cpu"], "ms"),
        Figure(f"CPU of a renewal among {FEW}", ten["cpu"], "ms"),
        Figure(f"CPU of a renewal, against {FEW} leases", ours["cpu"] / ten["cpu"], "x", at_most=GROWTH),
        Figure("CPU of a renewal by natpmpc in a shell loop", shell.cpu, "ms"),
        Figure("CPU of a renewal, against natpmpc", ours["cpu"] / shell.cpu, "x", at_most=1.0),
        Figure("time of an exchange", ours["exchange"], "ms"),
        Figure("time of an exchange by natpmpc in a shell loop", shell.exchange, "ms"),
        Figure("time of an exchange, against natpmpc", ours["exchange"] / shell.exchange, "x", at_most=1.0),
    ]


def main() -> int:
    """Measure, print, and say whether all budgets are kept."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--leases", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10.0)
    options = parser.parse_args()
    title = f"{options.leases:,} leases of 60 s in one process for {options.minutes:g} minutes"
    return show(title, measured(options.leases, options.minutes))


if __name__ == "__main__":
    sys.exit(main())
