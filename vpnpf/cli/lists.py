"""`vpnpf providers` and `vpnpf clients`."""

from __future__ import annotations

import json
import shutil

import click

from vpnpf import plugins
from vpnpf.cli.lists_words import as_json, details, overview
from vpnpf.errors import Unavailable, UsageError
from vpnpf.interfaces import Manifest
from vpnpf.plugins import Group
from vpnpf.printable import printable

_WIDEST = 100
"""Columns; longer lines are hard to read, however wide the terminal."""


@click.command()
@click.argument("name", required=False)
@click.option("--json", "json_wanted", is_flag=True, help="As JSON, for scripts.")
def providers(name: str | None, *, json_wanted: bool) -> None:
    """List the port-forwarding providers; with NAME, what is to be done for one, and its options."""
    _show(Group.PROVIDERS, name, json_wanted=json_wanted)


@click.command()
@click.argument("name", required=False)
@click.option("--json", "json_wanted", is_flag=True, help="As JSON, for scripts.")
def clients(name: str | None, *, json_wanted: bool) -> None:
    """List the torrent clients; with NAME, what is to be done for one."""
    _show(Group.CLIENTS, name, json_wanted=json_wanted)


def _show(group: Group, name: str | None, *, json_wanted: bool) -> None:
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    if name is not None:
        manifest = _one(group, name)
        lines = [_dump(as_json(manifest))] if json_wanted else [*map(printable, details(group, manifest, width))]
        click.echo("\n".join(lines))
        return
    found: list[Manifest] = []
    broken: list[str] = []
    for known in plugins.names(group):
        try:
            found.append(plugins.manifest(group, known))
        except Unavailable as error:
            broken.append(printable(f"broken: {known}: {error}"))
    if json_wanted:
        click.echo(_dump([as_json(manifest) for manifest in found]))
    else:
        click.echo("\n".join(map(printable, overview(group, found, width))))
    for line in broken:
        click.echo(line, err=True)


def _one(group: Group, name: str) -> Manifest:
    known = plugins.names(group)
    if name not in known:
        what = group.removeprefix("vpnpf.").removesuffix("s")
        raise UsageError(f"looking for the {what}", f'there is no {what} "{name}"', plugins.nearest(name, known))
    return plugins.manifest(group, name)


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
