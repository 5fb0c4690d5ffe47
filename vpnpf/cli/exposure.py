"""`vpnpf exposure`: what the internet can reach through the tunnel; and the question before more of it can be reached.

`before` and `agreed` are for whatever changes the policy while vpnpf runs. The engine itself asks nobody.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import click
from msgspec import Struct

from vpnpf.cli.exec import namespace_of
from vpnpf.cli.exposure_words import as_json, finding_lines, words
from vpnpf.cli.options import CONFIG
from vpnpf.cli.policy_arguments import Times
from vpnpf.cli.policy_standing import policy_now
from vpnpf.cli.status_reading import find
from vpnpf.config import load
from vpnpf.control.seen import Seen
from vpnpf.core.exposure import Finding, Severity, WebInterface, findings, must_ask, warnings_for
from vpnpf.core.reach import ForwardPort, Place, exposed, forward_port
from vpnpf.errors import EX_OK, PermissionDenied, Unavailable, UsageError, VpnpfError
from vpnpf.io import listeners, privileges, web_interface
from vpnpf.io.listeners import Listening
from vpnpf.model import PolicyMode, PortPolicy, Protocol
from vpnpf.settings import ClientSettings, ProfileSettings

FOUND = 1
"""Exit status when there is something to warn of."""
_LOOKING = "looking for what the internet can reach"
_OPENING = "opening ports"
_HIDDEN = "some programs are hidden from root here: they belong to another container, or nobody may look into them"
_PORTS = {"http": 80, "https": 443}


class Look(Struct, frozen=True):
    """What was seen of this machine."""

    listening: Listening
    place: Place
    forwards: tuple[ForwardPort, ...]
    web: tuple[WebInterface, ...]
    notes: tuple[str, ...]
    """What could not be seen, and how it can be."""


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
    spans = exposed(policy, seen.forwards, seen.listening.listeners, seen.place)
    found = findings(spans, seen.listening.listeners, seen.place, seen.web)
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
    try:
        if settings is None:
            raise Unavailable(_LOOKING, "the configuration cannot be read", "mend it first")
        seen = look(settings, (old, new))
    except VpnpfError as error:
        found = warnings_for(old, new, (), ())
        nobody = Place()
        if old.mode is PolicyMode.OPEN_ALL or set(exposed(new, (), (), nobody)) <= set(exposed(old, (), (), nobody)):
            return found
        title = f"what listens behind the ports cannot be seen: {error}"
        why = "nobody can say what strangers would reach"
        return (*found, Finding(Severity.WARNING, "unseen", title, why, error.hint or "run it as root"))
    return warnings_for(old, new, seen.forwards, seen.listening.listeners, seen.place, seen.web)


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
    seen, notes = _running(settings)

    def there() -> Look:
        if settings.tunnel.namespace:
            namespace = namespace_of(name)
            if namespace is None:
                hint = f"start it with: vpnpf run {name}"
                raise Unavailable(_LOOKING, f"{name} has a network namespace of its own, and is not running", hint)
            namespace.enter()
        return asyncio.run(_look(settings, policies, seen, notes))

    if settings.tunnel.namespace:
        privileges.need(privileges.ADMIN, _LOOKING, "entering the tunnel's network namespace needs root")
    # In a thread of its own: only that one moves, and it may be asked for inside of a loop.
    with ThreadPoolExecutor(max_workers=1) as apart:
        return apart.submit(there).result()


async def _look(
    settings: ProfileSettings, policies: tuple[PortPolicy, ...], seen: Seen | None, notes: tuple[str, ...]
) -> Look:
    spec = settings.spec
    listening = await listeners.listening()
    tunnel = (seen.tunnel.interface if seen and seen.tunnel else "") or settings.tunnel.interface
    by_device = await listeners.addresses()
    own = by_device.get(tunnel, ())
    elsewhere = tuple(each for device, found in by_device.items() if device != tunnel for each in found)
    alone = settings.tunnel.namespace or settings.tunnel.type == "none"
    place = Place(tunnel, own, elsewhere, spec.lock, spec.lan, alone)
    ports = {forward.name: forward.listen_port for forward in seen.forwards} if seen else {}
    held = (forward_port(forward, ports.get(forward.name)) for forward in spec.forwards)
    forwards = tuple(each for each in held if each is not None)
    spans = [span for policy in policies for span in exposed(policy, forwards, listening.listeners, place)]
    reached = {each.port for span in spans for each in span.listeners if each.protocol is Protocol.TCP}
    clients = {client.name: client for client in settings.clients.values()}.values()
    web = [await _web(client, (*own, *elsewhere), reached) for client in clients]
    if any(each.unseen for span in spans for each in span.listeners):
        notes = (*notes, _HIDDEN if os.geteuid() == 0 else "run it as root to see the names of all programs")
    return Look(listening, place, forwards, tuple(each for each in web if each is not None), notes)


async def _web(client: ClientSettings, own: tuple[str, ...], reached: set[int]) -> WebInterface | None:
    """A client's web interface, asked whether it lets anybody in, if the policy opens its port. None: it is not here."""
    try:
        parts = urlsplit(client.url)
        port = parts.port or _PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    if port not in reached:
        return None
    strangers = (f"http://{f'[{each}]' if ':' in each else each}:{port}" for each in own[:2])
    urls = (*strangers, client.url) if parts.scheme == "http" else (client.url,)
    return WebInterface(client.type, port, await web_interface.lets_in(client.type, urls))


def _running(settings: ProfileSettings) -> tuple[Seen | None, tuple[str, ...]]:
    """The profile as it runs, if it does and may be read; and what is not known otherwise."""
    unknown = any(forward.internal_port is None for forward in settings.spec.forwards)
    try:
        status = find(settings.spec.name, time.time())[0]
    except PermissionDenied:
        return None, ("which ports are held cannot be seen: run it as root",) if unknown else ()
    except Unavailable:
        status = None
    if status is None or not status.alive:
        return None, (f"{settings.spec.name} is not running: no port is held now",) if unknown else ()
    return status.seen, ()
