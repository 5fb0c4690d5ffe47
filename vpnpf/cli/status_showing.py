"""What `vpnpf status` prints. The command line's library takes as long to load as all of this, so it is not needed here."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from vpnpf.cli.guard import guarded, say, show
from vpnpf.cli.status_asking import look
from vpnpf.cli.status_reading import Status
from vpnpf.cli.status_words import stale, unheard, words
from vpnpf.errors import EX_NOPERM, EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE, VpnpfError


def plain(arguments: Sequence[str]) -> tuple[str | None, bool] | None:
    """The profile and whether JSON is wanted; None for what only the command line's library understands."""
    names = [each for each in arguments if each != "--json"]
    if len(names) > 1 or len(arguments) - len(names) > 1 or any(each.startswith("-") or not each for each in names):
        return None
    return (names[0] if names else None), "--json" in arguments


def main(profile: str | None, *, as_json: bool) -> int:
    """As a whole program: errors are printed. Returns the exit status."""

    def work() -> int:
        status = print_status(profile, as_json=as_json)
        sys.stdout.flush()
        return status

    return guarded(work)


def print_status(profile: str | None, *, as_json: bool) -> int:
    """Print how profiles stand; returns the exit status. Raises what `status_asking.look` raises."""
    now = time.time()
    found, barred = look(profile, now)
    lines: list[str] = []
    for number, each in enumerate(found):
        if not as_json:
            lines += [*([""] if number else []), *words(each, now)]
            continue
        if not each.alive:
            say(f"{each.seen.profile}: {stale(each)}")
        elif each.unheard:
            say(unheard(each))
        lines.append(each.event())
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    for error in barred:
        show(error)
    return exit_status(found, barred)


def exit_status(found: Sequence[Status], barred: Sequence[VpnpfError] = ()) -> int:
    """What a script is told."""
    if any(error.exit_code == EX_NOPERM for error in barred):
        return EX_NOPERM
    if barred or not all(each.alive for each in found):
        return EX_UNAVAILABLE
    return EX_OK if all(each.seen.phase == "ready" and not each.silent for each in found) else EX_TEMPFAIL
