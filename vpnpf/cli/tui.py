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
@click.option("--web", is_flag=True, help="In a browser on this machine; the address is printed.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Of the address for --web; otherwise a free one."
)
@click.option("--in-browser", is_flag=True, hidden=True)
def tui(profile: str | None, config: Path | None, *, web: bool, port: int, in_browser: bool) -> None:
    """Look at a profile that runs, start one, or set one up.

    Without PROFILE the one that runs is shown; of several you choose one. Leaving it (q) leaves vpnpf running.
    """
    if web:
        from vpnpf.tui.web import serve  # noqa: PLC0415 - an extra that most never use

        serve(profile, config, port, click.echo)
        return
    if not in_browser:
        _see_that_it_can_be_shown()
    from vpnpf.tui import entry  # noqa: PLC0415 - not before it is known that there is a screen

    if (said := entry.enter(profile, config, sudo=not in_browser)) and not in_browser:
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
