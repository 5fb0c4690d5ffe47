"""`vpnpf report`: one text to be posted where help is asked for, without secrets."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import click

from vpnpf.cli.options import CONFIG
from vpnpf.cli.report_words import told
from vpnpf.cli.status_reading import Status, find
from vpnpf.config import load
from vpnpf.control.client import Connection
from vpnpf.core.redaction import redacted
from vpnpf.errors import EX_OK, Unavailable, UsageError, VpnpfError
from vpnpf.printable import printable
from vpnpf.report import Told, gather, known
from vpnpf.settings import Config

_WRITING = "writing the report"
_NOT_WRITTEN = 1
_PATIENCE = 22.0
"""Seconds for the run's answer; then it is gathered without it."""


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
    It is asked of the profile that runs, and gathered without it where none does, or with --config.
    """
    if output is not None and os.path.lexists(output):
        raise _exists(output)
    text = _text(profile, config)
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


def _text(profile: str | None, config: Path | None) -> str:
    """The report, by the run if it can be asked: that sees more. Does not fail for what cannot be known."""
    found, unknown = _statuses(profile)
    running = [each.seen.profile for each in found if each.alive]
    if config is None and (name := profile or (running[0] if len(running) == 1 else None)):
        try:
            # Who asks may be somebody else than who runs it: his name is hidden here.
            return redacted(Connection(name, patience=_PATIENCE).text("/v1/report"), known(()))
        except VpnpfError:
            pass
    loaded, wrong = _config(config)
    every = tuple(loaded.profiles.values()) if loaded else ()
    chosen = [each for each in every if profile in {None, each.spec.name}]
    said = told(found)
    return asyncio.run(gather(chosen, wrong, Told([*said.state, *unknown], said.timeline), every))


def _config(path: Path | None) -> tuple[Config | None, list[str]]:
    try:
        return load(path), []
    except VpnpfError as error:
        return None, [printable(line) for line in str(error).splitlines()]


def _statuses(profile: str | None) -> tuple[list[Status], list[str]]:
    try:
        return find(profile, time.time()), []
    except VpnpfError as error:
        return [], [printable(f"{error}{f' ({error.hint})' if error.hint else ''}")]


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
