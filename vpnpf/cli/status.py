"""`vpnpf status`: how the profiles that run stand."""

from __future__ import annotations

import click

from vpnpf.cli.options import PROFILE
from vpnpf.cli.status_showing import print_status


@click.command()
@PROFILE
@click.option("--json", "as_json", is_flag=True, help="The state as `vpnpf run --events` prints it, a profile a line.")
@click.pass_context
def status(context: click.Context, profile: str | None, *, as_json: bool) -> None:
    """Say how a profile that runs stands; without PROFILE, all of them.

    Each is asked itself; what it wrote last is shown where it does not answer, and that is said.

    Exit status: 0 when READY, 69 when it is not running, 75 when it runs but is not READY or does not answer, 77 without
    the right to know. Of several profiles, the worst counts.
    """
    context.exit(print_status(profile, as_json=as_json))
