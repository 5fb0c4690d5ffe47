"""`vpnpf up`, `down` and `restart`: a profile in the background."""

from __future__ import annotations

import contextlib
import os
import select
import time
from pathlib import Path

import click

from vpnpf.cli.guard import say
from vpnpf.cli.options import CONFIG, PROFILE
from vpnpf.control.client import Connection
from vpnpf.control.dialing import chosen, running
from vpnpf.control.messages import NotNow
from vpnpf.control.seen import Seen, read
from vpnpf.control.waiting import until
from vpnpf.errors import EX_OK, EX_TEMPFAIL, ConfigError, PermissionDenied, Transient
from vpnpf.launch import UNTIL_READY, bring_up

_STOPPED = 60.0
"""Seconds until an end is not waited for any longer: the provider has some of them, and a daemon that does not answer."""
_AGAIN = 0.1
"""Seconds between two looks at a socket."""
_WAIT = click.option(
    "--wait",
    type=click.FloatRange(0),
    default=UNTIL_READY,
    show_default=True,
    metavar="SECONDS",
    help="Wait so long for READY.",
)


@click.command()
@PROFILE
@CONFIG
@_WAIT
@click.pass_context
def up(context: click.Context, profile: str | None, config: Path | None, wait: float) -> None:
    """Run a profile in the background, and wait until it is READY.

    Through systemd where our unit is installed, else as a process of its own. One that is stopped begins again.
    Ctrl-C ends the waiting only.

    Exit status: 0 when READY, 75 when it is not, and goes on trying.
    """
    name = profile or _the_one(config)
    try:
        seen, _ = bring_up(name, config, say, limit=wait)
    except KeyboardInterrupt:
        say(f"{name} goes on by itself: `vpnpf status {name}` shows how it stands, `vpnpf down {name}` ends it")
        raise
    context.exit(_told(name, seen))


@click.command()
@PROFILE
@click.option("--stay", is_flag=True, help="Keep vpnpf itself, stopped: `vpnpf up` begins again.")
def down(profile: str | None, *, stay: bool) -> None:
    """Give the port back, take the tunnel down, and end; the machine is then as it was before.

    Where the profile has `lock = "lockdown"`, nothing leaves after it either.
    """
    name = chosen(profile)
    connection = Connection(name)
    if stay:
        connection.post("/v1/stop")
        _, stopped = until(name, lambda seen: seen.phase == "stopped", _STOPPED, say=say)
        if not stopped:
            raise Transient("stopping", f"not done in {_STOPPED:g} s", f"see `vpnpf status {name}`")
        return
    number = connection.far_process()
    process = _handle(number)
    try:
        _shut_down(connection, number)
        if not (_gone(process, _STOPPED) if process is not None else _silent(name, _STOPPED)):
            raise Transient("ending vpnpf", f"it still runs after {_STOPPED:g} s", f"see `vpnpf status {name}`")
    finally:
        if process is not None:
            os.close(process)
    say(f"{name} has ended")


def _shut_down(connection: Connection, number: int) -> None:
    """Tell it to end. Raises Transient for one that hangs, with what is left to be done."""
    try:
        connection.post("/v1/shutdown")
    except NotNow:
        raise
    except Transient as error:
        if not number:
            raise
        hint = f"where it hangs: sudo kill -9 {number}; its block stays then, until vpnpf up or sudo vpnpf unlock"
        raise Transient("ending vpnpf", error.cause, hint) from error


@click.command()
@PROFILE
@_WAIT
@click.pass_context
def restart(context: click.Context, profile: str | None, wait: float) -> None:
    """Read the configuration anew and begin again; with a mistake in it, all goes on as it was.

    Exit status: 0 when READY, 75 when it is not, and goes on trying, 78 for a configuration with mistakes.
    """
    name = chosen(profile)
    connection = Connection(name)
    before = read(connection.get("/v1/state"))
    connection.post("/v1/restart")
    seen, _ = until(
        name,
        lambda seen: seen.phase in {"ready", "failed"} and seen.phase_since != before.phase_since,
        wait,
        say=say,
    )
    context.exit(_told(name, seen))


def _the_one(config: Path | None) -> str:
    """The only profile of the configuration; without a good one, the only one that runs. Raises ConfigError, UsageError."""
    from vpnpf.config import load  # noqa: PLC0415 - not where the profile is named

    try:
        return load(config, ended=True).profile(None).spec.name
    except ConfigError:
        with contextlib.suppress(PermissionDenied):
            if len(found := running()) == 1:
                return found[0]
        raise


def _told(profile: str, seen: Seen | None) -> int:
    """Say how it stands in one line. Returns the exit status."""
    if seen is None or seen.phase != "ready":
        how = f"is {seen.phase}: {seen.phase_text}" if seen is not None else "has not said how it stands"
        cause = f" ({seen.phase_cause})" if seen is not None and seen.phase_cause else ""
        say(f"{profile} {how}{cause}; it goes on: see `vpnpf status {profile}`")
        if seen is not None and seen.phase_hint:
            say(f"  hint: {seen.phase_hint}")
        return EX_TEMPFAIL
    ports = ", ".join(f"{each.name} {each.external_port}" for each in seen.forwards if each.external_port is not None)
    say(f"{profile} is READY" + (f": {ports}" if ports else ""))
    return EX_OK


def _handle(process: int) -> int | None:
    """A descriptor that tells of the process's end (pidfd_open(2)); None where it cannot be seen."""
    if process <= 0:
        return None
    try:
        return os.pidfd_open(process)
    except OSError:
        return None


def _silent(profile: str, patience: float) -> bool:
    """Whether its socket goes: all that can be seen of a process of another namespace."""
    ends = time.monotonic() + patience
    while (here := profile in running()) and time.monotonic() < ends:
        time.sleep(_AGAIN)
    return not here


def _gone(process: int, patience: float) -> bool:
    return bool(select.select([process], [], [], patience)[0])
