# ruff: noqa: T201 - it talks to a person
"""All parts of `make faults`, one after the other; the status says whether all budgets are kept."""

from __future__ import annotations

import subprocess
import sys

PARTS = ("swaps", "as_before", "recovery", "kills", "faults")


def main() -> int:
    """Run each in a process of its own, so that a part that fails takes no other along."""
    failed = []
    for part in PARTS:
        if subprocess.run((sys.executable, "-m", f"tests.faults.{part}"), check=False).returncode:
            failed.append(part)
        print(flush=True)
    print(f"not kept: {', '.join(failed)}" if failed else "every part kept its budgets")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
