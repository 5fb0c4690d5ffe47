"""`vpnpf providers` and `vpnpf clients`."""

from __future__ import annotations

import json

import click

from vpnpf import plugins
from vpnpf.errors import Unavailable
from vpnpf.interfaces import Manifest
from vpnpf.plugins import Group


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def providers(*, as_json: bool) -> None:
    """List the port-forwarding providers."""
    _show(Group.PROVIDERS, as_json=as_json)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def clients(*, as_json: bool) -> None:
    """List the torrent clients."""
    _show(Group.CLIENTS, as_json=as_json)


def _show(group: Group, *, as_json: bool) -> None:
    found: list[Manifest] = []
    broken: list[str] = []
    for name in plugins.names(group):
        try:
            found.append(plugins.manifest(group, name))
        except Unavailable as error:
            broken.append(f"{name}: {error}")
    if as_json:
        click.echo(json.dumps([_json(manifest) for manifest in found], indent=2))
    else:
        for manifest in found:
            click.echo(f"{manifest.id:<14} {manifest.name}: {manifest.summary}")
            click.echo(f"{'':<14} proven against: {manifest.verified}")
            for option in manifest.options:
                click.echo(f"{'':<14} options.{option.name} ({option.type.__name__}): {option.help}")
    for line in broken:
        click.echo(f"broken: {line}", err=True)


def _json(manifest: Manifest) -> dict[str, object]:
    return {
        "id": manifest.id,
        "name": manifest.name,
        "summary": manifest.summary,
        "verified": manifest.verified,
        "max_forwards": manifest.max_forwards,
        "options": [{"name": o.name, "type": o.type.__name__, "help": o.help} for o in manifest.options],
    }
