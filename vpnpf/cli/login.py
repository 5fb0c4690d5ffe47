"""`vpnpf login` and `vpnpf logout`: the account at a provider, or a client's password, tried before it is kept."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import click

from vpnpf import keyrings
from vpnpf.cli.login_asking import agreed, ask
from vpnpf.cli.login_running import users
from vpnpf.cli.options import CONFIG
from vpnpf.errors import Failure, Transient, Unavailable, UsageError, VpnpfError
from vpnpf.io.privileges import no_core
from vpnpf.logins.subjects import Subject, find
from vpnpf.owner import acting, other
from vpnpf.printable import printable
from vpnpf.secret_places import CredentialPlace, FilePlace, KeyringPlace, Place

_NOT_KEPT = 1
_UNTRIED = "try again later, or add --untried to keep it all the same"
_TRYING = 60.0
"""Seconds that a login may take as a whole."""


@click.command()
@click.argument("name")
@CONFIG
@click.option("--stdin", is_flag=True, help="Read user name and password (a client: password) from standard input.")
@click.option("--store", type=click.Choice(["keyring", "file", "credential"]), help="Where to keep it.")
@click.option("--untried", is_flag=True, help="Keep it also if nobody can be asked whether it is right.")
@click.pass_context
def login(
    context: click.Context, name: str, config: Path | None, *, stdin: bool, store: str | None, untried: bool
) -> None:
    """Log in at a provider or client, and keep the password safe.

    NAME is a provider's id, as in `vpnpf login pia`, or a client's name in the configuration. What you type is tried
    once, and kept only if it is right: in the keyring, in a file that only vpnpf's user can read (--store file; use this
    for `sudo vpnpf run` and on a server), or encrypted for systemd (--store credential).
    """
    no_core()
    subject = find(name, config, "logging in")
    place = _place(subject, store)
    secret = ask(subject, stdin=stdin)
    if not asyncio.run(_log_in(subject, place, secret, untried=untried)):
        click.echo("nothing was kept", err=True)
        context.exit(_NOT_KEPT)


@click.command()
@click.argument("name")
@CONFIG
def logout(name: str, config: Path | None) -> None:
    """Forget a login, here and at the provider: user name, password and what the provider gave for them.

    A token is ended at the provider first, if that can be reached.
    """
    no_core()
    asyncio.run(_log_out(find(name, config, "logging out")))


async def _log_in(subject: Subject, place: Place, secret: str, *, untried: bool) -> bool:
    """Try and keep; returns whether it was kept. Raises VpnpfError for a refusal."""
    tried = True
    try:
        await _in_time(subject, secret)
    except Transient as failure:
        tried = False
        click.echo(f"{printable(str(failure))}{f' ({printable(failure.hint)})' if failure.hint else ''}", err=True)
        keep = untried or agreed("Nobody could say whether it is right. Keep it untried?")
        if keep is None:
            doing = f"logging in to {subject.title}"
            raise Transient(doing, "nothing was kept, since nobody could say whether it is right", _UNTRIED) from None
        if not keep:
            return False
    with _right_user(place):
        await place.put(secret)
    with acting():
        if tried:
            await subject.keep()
    for earlier in subject.shadowing(place):
        await _clear(earlier, "an older one was removed from")
    click.echo(f"{subject.title}: {'logged in' if tried else 'not tried'}; kept in {place.said}")
    if isinstance(place, CredentialPlace):
        click.echo(
            "add this to the unit (systemctl edit vpnpf@PROFILE), and start it anew:\n\n" + "\n".join(place.drop_in)
        )
    for said in subject.notes:
        click.echo(f"note: {said}", err=True)
    return True


async def _in_time(subject: Subject, secret: str) -> None:
    try:
        async with asyncio.timeout(_TRYING):
            await subject.log_in(secret)
    except TimeoutError:
        raise Transient(f"logging in to {subject.title}", f"not done after {_TRYING:g} s") from None


async def _log_out(subject: Subject) -> None:
    try:
        async with asyncio.timeout(_TRYING):
            ended = await subject.log_out()
    except (Failure, TimeoutError) as failure:
        reason = printable(str(failure)) or f"not done after {_TRYING:g} s"
        click.echo(f"the provider could not be told, so its token ends by itself: {reason}", err=True)
    else:
        if ended:
            click.echo("the login was ended at the provider")
    removed = [await _clear(place, "removed from") for place in subject.places()]
    with acting():
        kept = await subject.forget()
    for each in kept:
        click.echo(f"removed {each}")
    if not (kept or any(removed)):
        click.echo(f"{subject.title}: nothing to remove")
    for said in (*subject.notes, *users(subject)):
        click.echo(f"note: {said}", err=True)


async def _clear(place: Place, said: str) -> bool:
    """Remove it from one place; what cannot be asked is said and no reason to stop."""
    try:
        with _right_user(place):
            found = await place.remove()
    except keyrings.NoKeyring:
        return False
    except VpnpfError as error:
        click.echo(f"note: it may still be in {place.said}: {printable(str(error))}", err=True)
        return False
    if found:
        click.echo(f"{said} {place.said}")
    return found


def _right_user(place: Place) -> contextlib.AbstractContextManager[None]:
    """What lies in the state directory belongs to whom that does; the rest is ours."""
    return acting() if isinstance(place, FilePlace) else contextlib.nullcontext()


def _place(subject: Subject, store: str | None) -> Place:
    """Where to keep it. Raises UsageError, Unavailable."""
    doing = f"choosing where to keep the login of {subject.title}"
    kind = store or subject.usual
    place = subject.place(kind)
    if place is None:
        raise UsageError(doing, subject.elsewhere, f"leave out --store {kind}")
    if isinstance(place, KeyringPlace):
        if not keyrings.session():
            raise Unavailable(doing, "there is no D-Bus session, and so no keyring", subject.way_out)
        if other() is not None:
            cause = "vpnpf runs as a user of its own, who cannot read this keyring"
            raise Unavailable(doing, cause, subject.way_out)
    return place
