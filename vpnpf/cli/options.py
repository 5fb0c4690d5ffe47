"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path

import click

CONFIG = click.option(
    "--config", type=click.Path(path_type=Path), help="Configuration file; otherwise the usual places."
)


def _profiles_that_run(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """For the shell's completion: no configuration is read, and nobody is asked."""
    del context, parameter
    from vpnpf.control.dialing import sockets  # noqa: PLC0415 - only for a completion
    from vpnpf.errors import VpnpfError  # noqa: PLC0415

    try:
        return [name for name in sockets() if name.startswith(incomplete)]
    except VpnpfError:
        return []


PROFILE = click.argument("profile", required=False, shell_complete=_profiles_that_run)
"""One that runs."""
