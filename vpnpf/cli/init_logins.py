"""The logins of the first start on a plain terminal: tried before anything is written, or kept as `vpnpf login` does."""

from __future__ import annotations

import asyncio
import contextlib

import click

from vpnpf.cli.init_asking import say
from vpnpf.cli.owner import acting
from vpnpf.errors import VpnpfError
from vpnpf.logins.provider import ProviderSubject
from vpnpf.printable import printable
from vpnpf.setup import trying
from vpnpf.setup.answers import Answers
from vpnpf.setup.checking import client_again
from vpnpf.setup.found import Found

_TRYING = 60.0
"""Seconds that a login at a provider may take as a whole."""


def client_refused(answers: Answers, refusals: int) -> tuple[Answers, int]:
    """Try the torrent client; a login that it refuses is asked for again, a few times."""
    trial = asyncio.run(trying.client(answers))
    if trial.good:
        click.echo(f"{trial.said} answers.")
        return answers, 0
    say(f"{trial.said}.{f' Next: {trial.hint}.' if trial.hint else ''}")
    if trial.good is None:
        say("It could not be tried; it is tried again whenever vpnpf runs.")
        return answers, refusals
    if refusals + 1 >= trying.MOST_REFUSALS:
        say("It is taken as it is: write the right one into its file before you start.")
        return answers, 0
    return client_again(answers), refusals + 1


def account(found: Found, answers: Answers) -> None:
    """Log in at the provider, and keep it where vpnpf looks for it. What goes wrong is said: it can be done later."""
    if not (answers.provider and answers.account_user and answers.account_secret):
        return
    subject = ProviderSubject(found.provider(answers.provider), ())
    kind = "keyring" if found.keyring else "file"
    secret = f"{answers.account_user}\n{answers.account_secret}"

    async def log_in() -> None:
        async with asyncio.timeout(_TRYING):
            await subject.log_in(secret)
        # What lies in the state directory belongs to whom that does.
        with acting() if kind == "file" else contextlib.nullcontext():
            await subject.place(kind).put(secret)
        with acting():
            await subject.keep()

    later = f"vpnpf login {answers.provider}{'' if found.keyring else ' --store file'}"
    try:
        asyncio.run(log_in())
    except TimeoutError:
        click.echo(f"{subject.title} did not answer in {_TRYING:g} s. Later: {later}", err=True)
    except VpnpfError as error:
        click.echo(f"{printable(str(error))}. Later: {later}", err=True)
    else:
        click.echo(f"{subject.title}: logged in; kept in {subject.place(kind).said}")
