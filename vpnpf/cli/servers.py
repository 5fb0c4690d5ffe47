"""`vpnpf servers`: where a provider that makes its tunnels itself has servers, and how far they are."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import click

from vpnpf import plugins
from vpnpf.accounts import StoredAccount
from vpnpf.cli.options import CONFIG
from vpnpf.config import load
from vpnpf.errors import ConfigError, Unavailable, UsageError
from vpnpf.interfaces import OutsideIO, Region, Supplying
from vpnpf.io.clock import BootClock
from vpnpf.io.outside import BesideTunnel
from vpnpf.plugins import Group
from vpnpf.printable import printable
from vpnpf.store import FileStore, secrets_directory

PATIENCE = 10.0
"""Seconds for measuring all regions together."""
_DOING = "listing servers"
_HEAD = ("REGION", "NAME", "COUNTRY", "PORTS", "MS")
_GAP = "  "
Measured = Sequence[tuple[Region, float | None]]
"""With seconds, or None: not measured, or no answer."""


@click.command()
@click.argument("provider")
@CONFIG
@click.option("--country", metavar="CODE", help="Only this country: two letters, as in NL.")
@click.option(
    "--port-forwarding/--all", "forwarding", default=False, help="Only where ports can be had; otherwise all (default)."
)
@click.option("--measure/--no-measure", default=True, help="Say how far each is, the nearest first (default).")
@click.option("--json", "as_json", is_flag=True, help="As JSON, for scripts.")
def servers(
    provider: str, config: Path | None, country: str | None, *, forwarding: bool, measure: bool, as_json: bool
) -> None:
    """List a provider's regions, the nearest first.

    Nobody has to be logged in. What stands below REGION is what the option `region` takes. MS is how long a TCP connection
    takes from here, or through the tunnel while one is up: "-" for no answer, "off" where the provider says that it is out
    of service.
    """
    if country is not None and not (country.isascii() and country.isalpha() and len(country) == 2):  # noqa: PLR2004
        raise UsageError(_DOING, f'"{printable(country[:40])}" is not a country', "write its two letters, as in NL")
    source = _provider(provider, config)
    found = asyncio.run(_look(source, _io(provider), country, forwarding=forwarding, measure=measure))
    if as_json:
        click.echo(json.dumps([_json(*each) for each in found], indent=2))
        return
    for line in table(found, distances=measure):
        click.echo(line)
    if not found:
        hint = "leave out --country or --port-forwarding"
        raise Unavailable(_DOING, "there is no such region", hint if country or forwarding else "")
    if measure and all(seconds is None for _, seconds in found):
        click.echo("none of them could be reached, so it is not known how far they are", err=True)


def table(found: Measured, *, distances: bool) -> list[str]:
    """Regions for people, a line each below a head."""
    rows = [_HEAD, *(_row(region, seconds) for region, seconds in found)]
    columns = len(_HEAD) if distances else len(_HEAD) - 1
    widths = [max(len(row[column]) for row in rows) for column in range(columns)]
    return [
        _GAP.join(printable(text).ljust(width) for text, width in zip(row, widths, strict=False)).rstrip()
        for row in rows
    ]


async def _look(source: Supplying, io: OutsideIO, country: str | None, *, forwarding: bool, measure: bool) -> Measured:
    regions = [
        region
        for region in await source.regions(io)
        if (country is None or region.country == country.upper()) and (region.forwards or not forwarding)
    ]
    knocks = [region.knock for region in regions if region.knock is not None] if measure else []
    seconds = await io.reach_all(knocks, PATIENCE) if knocks else {}
    measured = [(region, seconds.get(region.knock) if region.knock else None) for region in regions]
    return sorted(measured, key=lambda each: (math.inf if each[1] is None else each[1], each[0].name, each[0].id))


def _provider(name: str, config: Path | None) -> Supplying:
    """The provider, with the options of the first profile that uses it. Raises UsageError, Unavailable, ConfigError."""
    known = plugins.names(Group.PROVIDERS)
    if name not in known:
        raise UsageError(_DOING, f'there is no provider "{printable(name[:40])}"', plugins.nearest(name, known))
    manifest = plugins.manifest(Group.PROVIDERS, name)
    if not manifest.supplies:
        others = ", ".join(each for each in known if _supplies(each))
        cause = manifest.ended or f"{manifest.name} does not tell vpnpf its servers: its tunnels are made from a file"
        raise UsageError(_DOING, cause, f"those that tell: {others or 'none'}")
    try:
        profiles = load(config, ended=True).profiles.values()
        options = next((profile.options for profile in profiles if profile.spec.provider == name), {})
    except ConfigError:
        if config is not None:
            raise
        options = {}  # the list can be read without one
    return cast("Supplying", plugins.provider(name)(options))


def _supplies(name: str) -> bool:
    try:
        return bool(plugins.manifest(Group.PROVIDERS, name).supplies)
    except Unavailable:
        return False


def _io(provider: str) -> OutsideIO:
    """The machine's own way out, without a mark: there may be a tunnel, and that has nothing to do with it."""
    return BesideTunnel(StoredAccount(provider, FileStore(secrets_directory()), str), BootClock(), 0)


def _row(region: Region, seconds: float | None) -> tuple[str, ...]:
    far = "off" if region.knock is None else "-" if seconds is None else f"{seconds * 1000:.0f}"
    name = f"{region.name} (virtual)" if region.virtual else region.name
    return region.id, name, region.country, "yes" if region.forwards else "no", far


def _json(region: Region, seconds: float | None) -> dict[str, object]:
    return {
        "id": region.id,
        "name": region.name,
        "country": region.country,
        "port_forwarding": region.forwards,
        "virtual": region.virtual,
        "milliseconds": None if seconds is None else round(seconds * 1000, 1),
    }
