"""`vpnpf exposure`: what the internet can reach through the tunnel; and the question before more of it can be reached.

`before` and `agreed` are for whatever changes the policy while vpnpf runs. The engine itself asks nobody.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from vpnpf.cli.exec import namespace_of
from vpnpf.cli.options import CONFIG
from vpnpf.cli.policy_standing import policy_now
from vpnpf.cli.status_reading import find
from vpnpf.config import load
from vpnpf.core.exposure import Finding, must_ask
from vpnpf.errors import EX_OK, PermissionDenied, Unavailable, UsageError
from vpnpf.exposing import looking
from vpnpf.exposing.looking import LOOKING, Known, Look, look_here, not_held
from vpnpf.exposing.words import as_json, finding_lines, words
from vpnpf.io import privileges
from vpnpf.model import PortPolicy
from vpnpf.policy_changes import Times
from vpnpf.settings import ProfileSettings

FOUND = 1
"""Exit status when there is something to warn of."""
_OPENING = "opening ports"


@click.command()
@click.argument("profile", required=False)
@CONFIG
@click.option("--json", "json_wanted", is_flag=True, help="As JSON, for scripts.")
@click.pass_context
def exposure(context: click.Context, profile: str | None, config: Path | None, *, json_wanted: bool) -> None:
    """Say what the internet can reach through the tunnel.

    Each open port, the program behind it, and what is wrong with that. Looks at this machine only, and asks nobody but
    the web interfaces of its torrent clients. It takes root to see the names of other users' programs.

    Exit status: 0 when there is nothing to warn of, 1 when there is.
    """
    settings = load(config).profile(profile)
    now, wall = time.clock_gettime(time.CLOCK_BOOTTIME), time.time()
    policy = policy_now(settings, Times(now, wall))
    seen = look(settings, (policy,))
    spans, found = seen.of(policy)
    if json_wanted:
        said = as_json(settings.spec.name, policy, spans, found, seen.listening, seen.place, seen.notes, wall - now)
        click.echo(json.dumps(said, indent=2, ensure_ascii=False))
    else:
        for line in words(settings.spec.name, policy, spans, found, seen.listening, seen.place, seen.notes, now):
            click.echo(line)
    context.exit(FOUND if must_ask(found) else EX_OK)


def before(settings: ProfileSettings | None, old: PortPolicy, new: PortPolicy) -> tuple[Finding, ...]:
    """What a person should know before `new` takes the place of `old`, the worst first.

    Where this machine cannot be looked at, that is a finding too; no VpnpfError is raised. `settings` is None where
    the configuration cannot be read.
    """
    if settings is None:
        return looking.unseen(old, new, looking.unreadable())
    return looking.before(old, new, lambda: look(settings, (old, new)))


def agreed(found: Iterable[Finding], *, yes: bool = False) -> bool:
    """Print findings on standard error, and ask whether to go on, where one of them is more than a note.

    `yes`: the answer was given before. Raises UsageError if nobody is there to be asked.
    """
    found = tuple(found)
    for each in found:
        for line in finding_lines(each):
            click.echo(line, err=True)
    if yes or not must_ask(found):
        return True
    if not sys.stdin.isatty():
        cause = "there are warnings, and nobody to ask: standard input is no terminal"
        raise UsageError(_OPENING, cause, "read them, and repeat the command with --yes")
    return click.confirm("Open the ports all the same?", err=True)


def look(settings: ProfileSettings, policies: tuple[PortPolicy, ...]) -> Look:
    """See what listens where the tunnel is: also in its network namespace, if it has one.

    Raises PermissionDenied or Unavailable where that cannot be entered, Unavailable or Transient if the kernel does
    not say.
    """
    name = settings.spec.name
    known = _running(settings)

    def there() -> Look:
        if settings.tunnel.namespace:
            namespace = namespace_of(name)
            if namespace is None:
                hint = f"start it with: vpnpf up {name}"
                raise Unavailable(LOOKING, f"{name} has a network namespace of its own, and is not running", hint)
            namespace.enter()
        return look_here(settings, policies, known)

    if settings.tunnel.namespace:
        privileges.need(privileges.ADMIN, LOOKING, "entering the tunnel's network namespace needs root")
    # In a thread of its own: only that one moves, and it may be asked for inside of a loop.
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(there).result()


def _running(settings: ProfileSettings) -> Known:
    """The profile as it runs, if it does and may be read; and what is not known otherwise."""
    name = settings.spec.name
    try:
        status = find(name, time.time())[0]
    except PermissionDenied:
        return Known(notes=not_held(settings, "which ports are held cannot be seen: run it as root"))
    except Unavailable:
        status = None
    if status is None or not status.alive:
        return Known(notes=not_held(settings, f"{name} is not running: no port is held now"))
    seen = status.seen
    ports = {forward.name: forward.listen_port for forward in seen.forwards}
    return Known(seen.tunnel.interface if seen.tunnel else "", ports)
