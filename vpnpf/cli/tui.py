"""`vpnpf tui`, which bare `vpnpf` on a terminal is too: the face. Textual is imported when all else is known."""

from __future__ import annotations

import os
from pathlib import Path

import click

from vpnpf.cli.options import CONFIG
from vpnpf.errors import Unavailable


@click.command()
@click.argument("profile", required=False)
@CONFIG
def tui(profile: str | None, config: Path | None) -> None:
    """Look at a profile that runs, start one, or set one up.

    Without PROFILE the one that runs is shown; of several you choose one. Leaving it (q) leaves vpnpf running.
    """
    _see_that_it_can_be_shown()
    from vpnpf.tui import entry  # noqa: PLC0415 - not before it is known that there is a screen

    if said := entry.enter(profile, config):
        click.echo(said)


def _see_that_it_can_be_shown() -> None:
    doing = "showing the screen"
    hint = "`vpnpf status` and `vpnpf watch` say the same in lines"
    for number, name in enumerate(("standard input", "standard output", "standard error")):
        if not os.isatty(number):
            raise Unavailable(doing, f"{name} is no terminal", hint)
    term = os.environ.get("TERM", "")
    if term in {"", "dumb"}:
        cause = f'the terminal cannot move its cursor (TERM is "{term}")'
        raise Unavailable(doing, cause, f"set TERM to what your terminal is, as xterm-256color; {hint}")
