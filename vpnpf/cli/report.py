"""`vpnpf report`: one text to be posted where help is asked for, without secrets."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import click

from vpnpf.cli.options import CONFIG
from vpnpf.cli.report_text import gather
from vpnpf.errors import EX_OK, Unavailable, UsageError

_WRITING = "writing the report"
_NOT_WRITTEN = 1


@click.command()
@click.argument("profile", required=False)
@CONFIG
@click.option("--output", type=click.Path(path_type=Path), help="Write it to this new file, after you have seen it.")
@click.option("--yes", is_flag=True, help="Write it without asking.")
@click.pass_context
def report(context: click.Context, profile: str | None, config: Path | None, output: Path | None, *, yes: bool) -> None:
    """Write what helps others to help you, without secrets.

    Versions, the profile's settings, where it stands, what happened last and, as root, our rules. Keys, passwords,
    names and public addresses are replaced; private addresses, ports and times are not. Read it before you post it.
    """
    if output is not None and os.path.lexists(output):
        raise _exists(output)
    text = asyncio.run(gather(profile, config))
    if output is None:
        click.echo(text, nl=False)
        return
    click.echo(text, nl=False, err=True)
    if not yes and not click.confirm(f"Write this to {output}?", err=True):
        click.echo("nothing was written", err=True)
        context.exit(_NOT_WRITTEN)
    _write(output, text)
    click.echo(f"written to {output}", err=True)
    context.exit(EX_OK)


def _write(output: Path, text: str) -> None:
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
            file.write(text)
    except FileExistsError:
        raise _exists(output) from None
    except OSError as error:
        raise Unavailable(_WRITING, f"{output}: {error.strerror or error}", "name another file") from error


def _exists(output: Path) -> UsageError:
    return UsageError(_WRITING, f"{output} is there already", "name a file that is not there yet")
