"""The command line: commands are imported when they are called, errors are printed in one place."""

from __future__ import annotations

import os
import sys
from importlib import import_module

import click

from vpnpf import __version__
from vpnpf.errors import EX_OK, EX_SOFTWARE, EX_USAGE, ConfigError, VpnpfError

COMMANDS = {
    "run": ("vpnpf.cli.run", "run", "Bring the tunnel up, get the port, and keep both."),
    "check-config": (
        "vpnpf.cli.check",
        "check_config",
        "Say what a configuration means, or all that is wrong with it.",
    ),
    "providers": ("vpnpf.cli.lists", "providers", "List the port-forwarding providers."),
    "clients": ("vpnpf.cli.lists", "clients", "List the torrent clients."),
    "schema": ("vpnpf.cli.check", "schema", "Print the configuration's JSON Schema."),
}
"""By name: module, attribute, summary."""
INTERRUPTED = 130


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


@click.group(cls=Lazy)
@click.version_option(__version__, prog_name="vpnpf", message="%(prog)s %(version)s")
def cli() -> None:
    """Get a port behind your VPN, and keep it."""


def run_command_line(arguments: list[str]) -> int:
    """Run a command; print what went wrong on standard error. Returns the exit status (sysexits.h)."""
    try:
        cli.main(arguments, prog_name="vpnpf", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return EX_USAGE
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except VpnpfError as error:
        _show(error)
        return error.exit_code
    except BrokenPipeError:
        # Nobody reads any more; what Python would still flush at its end has nowhere to go either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EX_OK
    except Exception as error:
        if os.environ.get("VPNPF_DEBUG"):
            raise
        _say(f"error: vpnpf made a mistake: {type(error).__name__}: {error}")
        _say("  hint: please report it with what VPNPF_DEBUG=1 vpnpf ... prints")
        return EX_SOFTWARE
    return EX_OK


def _show(error: VpnpfError) -> None:
    if isinstance(error, ConfigError):
        for mistake in error.mistakes:
            _say(f"error: {mistake.where}: {mistake.what}")
            if mistake.hint:
                _say(f"  hint: {mistake.hint}")
        return
    _say(f"error: {error}")
    if error.hint:
        _say(f"  hint: {error.hint}")


def _say(text: str) -> None:
    click.echo(text, err=True)
