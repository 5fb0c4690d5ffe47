"""`vpnpf policy`: what the internet may reach, shown and changed while it runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from msgspec.structs import replace

from vpnpf.cli.options import CONFIG
from vpnpf.cli.owner import as_the_owner
from vpnpf.cli.policy_arguments import flow
from vpnpf.cli.policy_question import agreed, warn
from vpnpf.cli.policy_standing import Standing, at_rest, settings_of, standing, told
from vpnpf.cli.policy_table import lines
from vpnpf.control.client import Connection, NotRunning
from vpnpf.core.admission import decide
from vpnpf.core.policy_codec import policy_json, without_ended
from vpnpf.core.policy_words import consequence, difference
from vpnpf.errors import EX_OK
from vpnpf.model import PortPolicy
from vpnpf.policy_changes import Times, policy_closed, policy_opened, policy_set
from vpnpf.printable import printable
from vpnpf.settings import ProfileSettings

CHANGES = 2
"""Exit status of `plan` when something would change."""
REFUSED = 1
"""Exit status of `explain` for a flow that is not let in, and of a change that was not agreed to."""

Change = Callable[[PortPolicy, Sequence[str], Times], PortPolicy]

YES = click.option("--yes", "-y", is_flag=True, help="Do not ask before ports are opened.")
PROFILE = click.argument("profile")
ENTRIES = click.argument("entries", nargs=-1, required=True)


@click.group()
def policy() -> None:
    """Say what the internet may reach, and change it while it runs.

    An entry is "forwarded", a port (22/tcp), a range (8000-8010/udp), a service (ssh) or a preset (preset:openvpn), in
    quotes with what follows it: "22/tcp from 203.0.113.0/24 for 2h # backup".
    """


@policy.command()
@click.argument("profile", required=False)
@CONFIG
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def show(profile: str | None, config: Path | None, *, as_json: bool) -> None:
    """Say what may come in, since when and for how long, and how much did.

    Of a profile that does not run, what it would begin with.
    """
    times = _now()
    now = standing(*settings_of(profile, config), times)
    if as_json:
        click.echo(json.dumps({**now.raw, "running": now.running}, ensure_ascii=False))
        return
    for line in lines(now, times):
        click.echo(line)


@policy.command("set")
@PROFILE
@click.argument("wanted", nargs=-1, required=True, metavar="MODE|ENTRY...")
@CONFIG
@YES
def set_(profile: str, wanted: tuple[str, ...], config: Path | None, *, yes: bool) -> None:
    """Another policy from now on: open-all, block-all, or allow-list with its entries.

    Entries take the place of those until now. A mode alone leaves them as they are. Open connections stay, and what
    was set stays so when vpnpf is restarted, until `vpnpf policy reset` or until the configuration's policy changes.
    """
    _change(policy_set, profile, wanted, config, yes=yes)


@policy.command("open")
@PROFILE
@ENTRIES
@CONFIG
@YES
def open_(profile: str, entries: tuple[str, ...], config: Path | None, *, yes: bool) -> None:
    """Put entries on the allow-list: vpnpf policy open home "22/tcp for 2h"."""
    _change(policy_opened, profile, entries, config, yes=yes)


@policy.command()
@PROFILE
@ENTRIES
@CONFIG
def close(profile: str, entries: tuple[str, ...], config: Path | None) -> None:
    """Take entries off the allow-list; without "from", for everybody they are open to."""
    _change(policy_closed, profile, entries, config, yes=True)


@policy.command()
@PROFILE
@click.argument("wanted", nargs=-1, required=True, metavar="MODE|ENTRY...")
@CONFIG
@click.option("--open", "change", flag_value="open", help="Say it of `vpnpf policy open`.")
@click.option("--close", "change", flag_value="close", help="Say it of `vpnpf policy close`.")
@click.pass_context
def plan(
    context: click.Context, profile: str, wanted: tuple[str, ...], config: Path | None, change: str | None
) -> None:
    """Say what `vpnpf policy set` would change, and change nothing.

    Exit status: 0 when nothing would change, 2 when something would.
    """
    times = _now()
    now = standing(*settings_of(profile, config), times)
    changes = {"open": policy_opened, "close": policy_closed}.get(change or "", policy_set)
    before = without_ended(now.policy, times.boot)
    found = difference(before, changes(before, wanted, times), times.boot, times.offset)
    for line in found or ["nothing would change"]:
        click.echo(printable(line))
    if now.running and found:
        warn(now.seen.profile, change or "set", wanted)
    if not now.running:
        click.echo(f"{now.seen.profile} is not running: this is against what it would begin with", err=True)
    context.exit(CHANGES if found else EX_OK)


@policy.command()
@PROFILE
@click.argument("flow_", nargs=-1, required=True, metavar="PORT/PROTOCOL [from ADDRESS]")
@CONFIG
@click.pass_context
def explain(context: click.Context, profile: str, flow_: tuple[str, ...], config: Path | None) -> None:
    """Say what happens to a new flow from the internet, and which rule decides: 6881/tcp from 203.0.113.9.

    The port is the one of the tunnel address. Exit status: 0 when it is let in, 1 when it is not.
    """
    times, asked = _now(), flow(flow_)
    name, settings = settings_of(profile, config)
    source = str(asked.source) if asked.source is not None else None
    try:
        arguments = {"protocol": str(asked.protocol), "port": asked.port, "source": source}
        answer = Connection(name).post("/v1/policy/explain", arguments)
    except NotRunning:
        now = standing(name, settings, times)
        decided = decide(now.policy, (), asked.protocol, asked.port, asked.source, times.boot)
        answer = {"admitted": decided.admitted, "rule": decided.rule, "why": decided.why}
        click.echo(f"{name} is not running: no port is held now, and this is what it would begin with", err=True)
    verdict = "let in" if answer.get("admitted") else "dropped"
    where = f" from {source}" if source else ""
    click.echo(
        printable(f"{asked.port}/{asked.protocol}{where}: {verdict}, by {answer.get('rule')}: {answer.get('why')}")
    )
    if answer.get("packets") is not None:
        click.echo(f"  {answer['packets']} packets that opened a flow came in by it")
    if answer.get("kernel"):
        click.echo(printable(f"  {answer['kernel']}"))
    if answer.get("applied") is False:
        click.echo("  this policy is not in force yet", err=True)
    context.exit(EX_OK if answer.get("admitted") else REFUSED)


@policy.command()
@PROFILE
@CONFIG
@YES
def reset(profile: str, config: Path | None, *, yes: bool) -> None:
    """Back to the configuration's own policy."""
    times = _now()
    name, settings = settings_of(profile, config)
    try:
        now = told(Connection(name).get("/v1/policy"), times, running=True)
    except NotRunning:
        if settings is None:
            raise
        as_the_owner()
        at_rest(settings, times, forget=True)
        click.echo(f"{name} begins with the configuration's policy when it runs", err=True)
        return
    after = told({**now.raw, "policy": now.raw.get("configured")}, times, running=True).policy
    _agree(settings, now, after, times, yes=yes)
    _done(told(Connection(name).delete("/v1/policy"), times, running=True))


def _change(change: Change, profile: str, words: Sequence[str], config: Path | None, *, yes: bool) -> None:
    """Say what a change brings, ask where that is needed, have it done, and say that it was."""
    times = _now()
    name, settings = settings_of(profile, config)
    now = told(Connection(name).get("/v1/policy"), times, running=True)
    after = change(without_ended(now.policy, times.boot), words, times)
    # What was closed because nobody used it is opened again by the same policy once more.
    again = change is policy_opened and any(use.closed for use in now.seen.uses.values())
    if not again and not difference(now.policy, after, times.boot, times.offset):
        click.echo("nothing changes: it is so already", err=True)
        return
    _agree(settings, now, after, times, yes=yes)
    # A mode alone is not to wait for thousands of entries that stay as they are.
    alone = replace(after, mode=now.policy.mode) == without_ended(now.policy, times.boot)
    what = {"mode": str(after.mode)} if alone else {"policy": policy_json(after, times.offset)}
    wanted = {**what, "before": now.seen.digest}
    _done(told(Connection(name).put("/v1/policy", wanted), times, running=True))


def _agree(settings: ProfileSettings | None, now: Standing, after: PortPolicy, times: Times, *, yes: bool) -> None:
    """Print the difference before anything changes. Ends the program if it is not wanted then."""
    for line in difference(now.policy, after, times.boot, times.offset):
        click.echo(printable(line), err=True)
    if meant := consequence(now.policy, after):
        click.echo(meant, err=True)
    if not agreed(settings, now.policy, after, yes=yes):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(REFUSED)


def _done(after: Standing) -> None:
    took = f", {after.seen.took * 1000:.0f} ms after it was asked for" if after.seen.took is not None else ""
    click.echo(f"in force: {after.policy.mode}{took}", err=True)
    if after.seen.unsaved:
        click.echo(printable(f"it will not be there after a restart: {after.seen.unsaved}"), err=True)


def _now() -> Times:
    return Times(time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
