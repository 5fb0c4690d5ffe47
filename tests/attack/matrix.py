# ruff: noqa: T201 - it talks to a person
"""The attack matrix: every attack against vpnpf, and against what others do in the same run.

    make attack                                   # as root
    python -m tests.attack.matrix T4 T7b          # some of it

Exit status 0: no packet leaked with vpnpf, and every control leaked. A module of attacks is one of the list below.
Under T3b what leaks until the rules are back is told beside the row; the row counts from then on.
"""

from __future__ import annotations

import asyncio
import sys
import time

from tests.attack import crash, customers, hostile, lan, machine, pushes
from tests.attack.attack import Attack, Result, run

MODULES = (crash, lan, machine, customers, hostile, pushes)


def number(attack: Attack) -> tuple[int, str]:
    """Where it stands in the table: T4a, T4b, T10a."""
    digits = attack.id.strip("Tabcdefgh")
    return int(digits), attack.id


ATTACKS: tuple[Attack, ...] = tuple(sorted((each for module in MODULES for each in module.ATTACKS), key=number))
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


def asked_for(attack: Attack, wanted: list[str]) -> bool:
    """Whether it is to be run: T4 means T4a, T4b and so on, but not T40."""
    return not wanted or attack.id in wanted or attack.id.rstrip("abcdefgh") in wanted


async def main(wanted: list[str]) -> int:
    """Run them and print the table; the exit status."""
    started = time.monotonic()
    chosen = [attack for attack in ATTACKS if asked_for(attack, wanted)]
    print(LINE.format("id", "attack", "probes", "leaked", "control", "leaked", "s", "").rstrip())
    results = []
    for attack in chosen:
        try:
            results.append(await run(attack))
        except Exception as error:  # noqa: BLE001 - whatever it is, the others are still worth a look
            print(f"{attack.id:5} {attack.what:34} FAILED: {type(error).__name__}: {error}", flush=True)
        else:
            print(line(results[-1]), flush=True)
    passed = sum(result.passed for result in results)
    probes = sum(result.mitigated.sent for result in results)
    leaked = sum(result.mitigated.leaked for result in results)
    print(
        f"{len(chosen)} attacks, {probes} probes, {leaked} leaked with vpnpf; "
        f"{passed} of {len(chosen)} as promised; {time.monotonic() - started:.0f} s"
    )
    return 0 if chosen and passed == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
