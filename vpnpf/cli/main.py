"""The command line: commands are imported when they are called, errors are printed in one place."""

from __future__ import annotations

import contextlib
import os
from importlib import import_module

import click

from vpnpf import __version__
from vpnpf.cli.guard import INTERRUPTED, guarded
from vpnpf.errors import EX_OK, EX_USAGE

COMMANDS = {
    "init": ("vpnpf.cli.init", "init", "Ask what is needed, and write the first configuration."),
    "run": ("vpnpf.cli.run", "run", "Bring the tunnel up, get the port, and keep both."),
    "up": ("vpnpf.cli.life", "up", "Run a profile in the background."),
    "down": ("vpnpf.cli.life", "down", "Give the port back, take the tunnel down, and end."),
    "restart": ("vpnpf.cli.life", "restart", "Read the configuration anew and begin again."),
    "check-config": (
        "vpnpf.cli.check",
        "check_config",
        "Say what a configuration means, or all that is wrong with it.",
    ),
    "tui": ("vpnpf.cli.tui", "tui", "Look at a profile that runs, start one, or set one up."),
    "lock": ("vpnpf.cli.lock", "lock", "Let nothing leave this machine, from now on and from boot on."),
    "unlock": ("vpnpf.cli.lock", "unlock", "Give this machine its network back."),
    "exec": ("vpnpf.cli.exec", "execute", "Run a program in the tunnel's own network namespace."),
    "policy": ("vpnpf.cli.policy", "policy", "Say what the internet may reach, and change it."),
    "status": ("vpnpf.cli.status", "status", "Say how a profile that runs stands."),
    "watch": ("vpnpf.cli.watch", "watch", "Follow what happens, as it happens."),
    "port": ("vpnpf.cli.ports", "port", "Print the port, for scripts; or ask for another one."),
    "renew": ("vpnpf.cli.ports", "renew", "Have the port renewed now."),
    "server": ("vpnpf.cli.server", "server", "List the servers a profile can go to, or change it."),
    "exposure": ("vpnpf.cli.exposure", "exposure", "Say what the internet can reach through the tunnel."),
    "report": ("vpnpf.cli.report", "report", "Write what helps others to help you, without secrets."),
    "login": ("vpnpf.cli.login", "login", "Log in at a provider or client, and keep the password safe."),
    "logout": ("vpnpf.cli.login", "logout", "Forget a login, here and at the provider."),
    "providers": ("vpnpf.cli.lists", "providers", "List the port-forwarding providers."),
    "servers": ("vpnpf.cli.servers", "servers", "List a provider's regions, the nearest first."),
    "clients": ("vpnpf.cli.lists", "clients", "List the torrent clients."),
    "schema": ("vpnpf.cli.check", "schema", "Print the configuration's JSON Schema."),
}
"""By name: module, attribute, summary."""
COMPLETE = "_VPNPF_COMPLETE"
"""Set by the shell when it asks for completions (`eval "$(_VPNPF_COMPLETE=bash_source vpnpf)"`)."""


class Lazy(click.Group):
    """A group that knows its commands' names without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name for one that is not known."""
        if args and args[0] not in COMMANDS:
            from vpnpf.plugins import nearest  # noqa: PLC0415 - only for the hint

            ctx.fail(f'there is no command "{args[0]}"; {nearest(args[0], tuple(COMMANDS))}')
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the summaries out of the table, without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, _, summary) in COMMANDS.items()])


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="vpnpf", message="%(prog)s %(version)s")
def cli() -> None:
    """Get a port behind your VPN, and keep it.

    `vpnpf` alone, on a terminal, shows all of it on one screen; the first time it asks what is needed.
    """


def run_command_line(arguments: list[str]) -> int:
    """Run a command; print what went wrong on standard error. Returns the exit status (sysexits.h)."""
    if COMPLETE in os.environ:
        cli.main(arguments, prog_name="vpnpf", complete_var=COMPLETE)
    if not arguments and on_terminal():
        arguments = ["tui"]

    def work() -> int:
        try:
            # Without click's `main`, which ends with 1 when nobody reads any more.
            with cli.make_context("vpnpf", arguments) as context:
                cli.invoke(context)
        except click.exceptions.Exit as done:
            return done.exit_code
        except click.ClickException as error:
            with contextlib.suppress(OSError):
                error.show()
            return EX_USAGE
        except click.Abort:
            return INTERRUPTED
        return EX_OK

    return guarded(work)


def on_terminal() -> bool:
    """Whether a screen can be shown: all three are a terminal, and one that can move its cursor."""
    return all(map(os.isatty, (0, 1, 2))) and os.environ.get("TERM", "dumb") not in {"", "dumb"}
