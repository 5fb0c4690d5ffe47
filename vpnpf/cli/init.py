"""`vpnpf init`: the first configuration, asked for on a plain terminal. What is asked and written is `vpnpf.setup`'s."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
from pathlib import Path

import click

from vpnpf.cli.init_asking import BACK, ask, say
from vpnpf.cli.init_logins import account, client_refused
from vpnpf.errors import EX_OK, UsageError
from vpnpf.io.privileges import no_core
from vpnpf.printable import printable
from vpnpf.setup import finding, placing
from vpnpf.setup.answers import Answers
from vpnpf.setup.checking import Mistaken, answer
from vpnpf.setup.found import Found
from vpnpf.setup.placing import Written
from vpnpf.setup.questions import next_question
from vpnpf.setup.service import give_to_service


@click.command()
@click.option(
    "--directory",
    type=click.Path(path_type=Path),
    help="Where the configuration goes; otherwise /etc/vpnpf as root, else ~/.config/vpnpf.",
)
@click.pass_context
def init(context: click.Context, directory: Path | None) -> None:
    """Ask what is needed, and write the first configuration.

    It looks for the provider's files and for torrent clients on this machine, asks the rest, and writes everything at the
    end or nothing: Ctrl-C changes nothing. A configuration that is there stays as it is; another profile can be added.
    """
    no_core()
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        target = (directory or finding.directory()) / finding.FILE
        hint = f"run it on a terminal, or write {target} yourself: README.md has an example"
        raise UsageError("asking for a first configuration", "this is no terminal", hint)
    if directory is None and os.geteuid() != 0:
        _as_root()
    try:
        status = _init(directory.absolute() if directory else None)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nnothing was changed", err=True)
        raise
    context.exit(status)


def _init(directory: Path | None) -> int:
    say("Looking for configuration files of providers and for torrent clients on this machine ...")
    found = asyncio.run(finding.look(directory))
    if found.standing is not None:
        profiles = ", ".join(map(printable, found.standing.profiles))
        click.echo(f"{printable(str(found.standing.path))} is there, with: {profiles}. It stays as it is.")
        if not click.confirm("Add another profile to it?", default=False):
            click.echo("nothing was changed")
            return EX_OK
    if found.left_out:
        say(f"There are more files than are looked at: {found.left_out} were left out. You can name one by its path.")
    say(f'An empty answer takes what is in [ ], "{BACK}" goes back, Ctrl-C ends it and changes nothing.')
    found, answers = _answers(found)
    target = printable(str(found.directory / finding.FILE))
    click.echo(f"\nThis {'is added to' if found.standing else 'goes to'} {target}:\n")
    for line in placing.preview(found, answers).splitlines():
        click.echo(f"    {printable(line)}")
    if not click.confirm("\nWrite it?", default=True):
        click.echo("nothing was changed")
        return EX_OK
    written = placing.write(found, answers)
    _say_written(written)
    if sentence := asyncio.run(give_to_service(found.directory)):
        click.echo(f"note: {printable(sentence)}", err=True)
    account(found, answers)
    return _start(found, written)


def _answers(found: Found) -> tuple[Found, Answers]:
    """Ask all of it. Raises click.Abort."""
    history: list[Answers] = []
    answers = Answers()
    refusals = 0
    while (question := next_question(found, answers)) is not None:
        said = ask(question)
        if said is None:
            answers = history.pop() if history else answers
            continue
        named = found
        if question.many:
            paths = []
            for text in filter(None, said):
                named, path = finding.name_file(named, text)
                paths.append(str(path))
            said = tuple(paths)
        try:
            fresh = answer(named, answers, question, said)
        except Mistaken as mistake:
            click.echo(printable(str(mistake)), err=True)
            continue
        found = named
        history.append(answers)
        if question.key in {"client", "client_secret"} and fresh.client_type and fresh.client_secret is not None:
            fresh, refusals = client_refused(fresh, refusals)
        answers = fresh
    return found, answers


def _say_written(written: Written) -> None:
    click.echo(f"\n{'extended' if written.extended else 'written'}: {printable(str(written.config))}")
    for path in written.files:
        click.echo(f"written: {printable(str(path))}")
    for name in written.keyring:
        click.echo(f"kept in the keyring: {printable(name)}")


def _start(found: Found, written: Written) -> int:
    """Say the next command, and run it if the person likes: it ends with the port."""
    from vpnpf.cli.main import run_command_line  # noqa: PLC0415 - it imports us

    system = finding.SYSTEM / finding.FILE
    config = [] if written.config == system else ["--config", str(written.config)]
    command = ["up", written.profile, *config]
    if not found.root:
        if not system.exists():
            copy = shlex.join(("sudo", "cp", "-rT", str(written.config.parent), str(finding.SYSTEM)))
            click.echo(f"\nnext, so that root has it, which the tunnel needs: {copy}")
            command = command[:2]
        click.echo(f"then: sudo vpnpf {shlex.join(command)}")
        return EX_OK
    if not click.confirm("\nStart it now?", default=True):
        click.echo(f"later: sudo vpnpf {shlex.join(command)}")
        return EX_OK
    status = run_command_line(command)
    if status == EX_OK:
        click.echo("the port:")
        run_command_line(["port", written.profile])
    return status


def _as_root() -> None:
    """Offer sudo: what is written as root is what `sudo vpnpf` and the service read, and may read. Does not return then."""
    mine = finding.directory() / finding.FILE
    say(
        "The tunnel and the firewall need root. Asked as root, the configuration goes to /etc/vpnpf, where `sudo vpnpf` and the "
        f"service look for it. As yourself it goes to {mine}, which root does not read, and its passwords would be yours, not root's."
    )
    sudo = shutil.which("sudo")
    if sudo is None:
        if not click.confirm(
            f"There is no sudo: as root, run `vpnpf init`. Or go on as yourself, with {mine}?", default=False
        ):
            raise click.Abort
        return
    # -P: else a package of our name in the working directory would be run as root.
    argv = (sudo, sys.executable, "-P", "-m", "vpnpf", "init")
    if click.confirm("Go on with sudo vpnpf init?", default=True):
        sys.stdout.flush()
        os.execv(sudo, argv)  # noqa: S606 - by absolute path, without a shell
