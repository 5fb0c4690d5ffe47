"""`vpnpf check-config` and `vpnpf schema`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from vpnpf.cli.options import CONFIG
from vpnpf.config import load
from vpnpf.config_schema import json_schema
from vpnpf.describing import describe
from vpnpf.errors import ConfigError, Mistake
from vpnpf.settings import Config
from vpnpf.wiring import backend_of


@click.command("check-config")
@CONFIG
def check_config(config: Path | None) -> None:
    """Say what a configuration means, or all that is wrong with it. Changes nothing and asks nobody."""
    loaded = load(config)
    _check_tunnels(loaded)
    click.echo(f"{loaded.path}: good")
    for profile in loaded.profiles.values():
        for line in describe(profile):
            click.echo(line)


@click.command()
def schema() -> None:
    """Print the configuration's JSON Schema."""
    click.echo(json.dumps(json_schema(), indent=2))


def _check_tunnels(config: Config) -> None:
    mistakes: list[Mistake] = []
    for profile in config.profiles.values():
        backend = backend_of(profile)
        try:
            backend.check_config()
        except ConfigError as error:
            mistakes += error.mistakes
    if mistakes:
        raise ConfigError(tuple(dict.fromkeys(mistakes)))
