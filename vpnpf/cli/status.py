"""`vpnpf status`: how the profiles that run stand, read from their status files."""

from __future__ import annotations

import time
from collections.abc import Sequence

import click

from vpnpf.cli.status_reading import Status, find
from vpnpf.cli.status_words import stale, words
from vpnpf.errors import EX_OK, EX_TEMPFAIL, EX_UNAVAILABLE
from vpnpf.model import Phase
from vpnpf.printable import printable


@click.command()
@click.argument("profile", required=False)
@click.option("--json", "as_json", is_flag=True, help="The state as `vpnpf run --events` prints it, a profile a line.")
@click.pass_context
def status(context: click.Context, profile: str | None, *, as_json: bool) -> None:
    """Say how a profile that runs stands; without PROFILE, all of them.

    Exit status: 0 when READY, 69 when it is not running, 75 when it runs but is not READY, 77 without the right to
    know. Of several profiles, the worst counts.
    """
    now = time.time()
    found = find(profile, now)
    for number, each in enumerate(found):
        if as_json:
            if not each.alive:
                click.echo(printable(f"{each.seen.profile}: {stale(each)}"), err=True)
            click.echo(each.event())
            continue
        if number:
            click.echo()
        for line in words(each, now):
            click.echo(line)
    context.exit(exit_status(found))


def exit_status(found: Sequence[Status]) -> int:
    """What a script is told."""
    if not all(each.alive for each in found):
        return EX_UNAVAILABLE
    return EX_OK if all(each.seen.phase == Phase.READY for each in found) else EX_TEMPFAIL
