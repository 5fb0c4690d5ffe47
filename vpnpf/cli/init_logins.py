"""The logins of the first start on a plain terminal: tried before anything is written, or kept as `vpnpf login` does."""

from __future__ import annotations

import asyncio

import click

from vpnpf.cli.init_asking import say
from vpnpf.setup import account as setup_account
from vpnpf.setup import trying
from vpnpf.setup.answers import Answers
from vpnpf.setup.checking import client_again
from vpnpf.setup.found import Found


def client_refused(answers: Answers, refusals: int) -> tuple[Answers, int]:
    """Try the torrent client; a login that it refuses is asked for again, a few times."""
    trial = asyncio.run(trying.client(answers))
    if trial.good:
        click.echo(f"{trial.said} answers.")
        return answers, 0
    say(f"{trial.said}.{f' Next: {trial.hint}.' if trial.hint else ''}")
    if trial.good is None:
        say("It is tried again whenever vpnpf runs.")
        return answers, refusals
    if refusals + 1 >= trying.MOST_REFUSALS:
        say("It is taken as it is: write the right one into its file before you start.")
        return answers, refusals + 1
    return client_again(answers), refusals + 1


def account(found: Found, answers: Answers) -> None:
    """Log in at the provider, and say how it went: it can be done later."""
    if not setup_account.wanted(answers):
        return
    trial = asyncio.run(setup_account.log_in(found, answers))
    click.echo(trial.said if trial.good else f"{trial.said} ({trial.hint})", err=not trial.good)
