# ruff: noqa: T201 - it talks to a person
"""The attack matrix: every attack against vpnpf, and against what others do in the same run.

    make attack                                   # as root
    python -m tests.attack.matrix T4 T7b          # some of it

Exit status 0: no packet leaked with vpnpf, and every control leaked.
"""

from __future__ import annotations

import asyncio
import sys
import time

from tests.attack import crash, customers, hostile, lan, machine
from tests.attack.attack import Attack, Result, run

ATTACKS: tuple[Attack, ...] = (
    *crash.ATTACKS,
    *lan.ATTACKS,
    *machine.ATTACKS,
    *customers.ATTACKS,
    *hostile.ATTACKS,
)
LINE = "{:5} {:34} {:>8} {:>6} {:32} {:>7} {:>5}  {}"


def line(result: Result) -> str:
    """A row of the table."""
    attack, held, leaked = result.attack, result.mitigated, result.control
    verdict = "" if result.passed else "FAILED"
    if leaked.missing:
        verdict += f" control did not leak: {', '.join(leaked.missing)}"
    note = "; ".join(text for text in (verdict, held.note) if text)
    row = (attack.id, attack.what, held.sent, held.leaked, attack.control, leaked.leaked, f"{result.seconds:.1f}", note)
    return LINE.format(*row).rstrip()


async def main(wanted: list[str]) -> int:
    """Run them and print the table; the exit status."""
    started = time.monotonic()
    chosen = [each for each in ATTACKS if not wanted or any(each.id.startswith(name) for name in wanted)]
    print(LINE.format("id", "attack", "probes", "leaked", "control", "leaked", "s", "").rstrip())
    results = []
    for attack in chosen:
        results.append(await run(attack))
        print(line(results[-1]), flush=True)
    failed = [result for result in results if not result.passed]
    probes = sum(result.mitigated.sent for result in results)
    leaked = sum(result.mitigated.leaked for result in results)
    print(
        f"{len(results)} attacks, {probes} probes, {leaked} leaked with vpnpf; "
        f"{len(results) - len(failed)} of {len(results)} as promised; {time.monotonic() - started:.0f} s"
    )
    return 1 if failed or not results else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
