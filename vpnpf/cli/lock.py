"""`vpnpf lock` and `vpnpf unlock`: the block without a tunnel, put up and taken away by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from pathlib import Path

import click

from vpnpf.cli.options import CONFIG
from vpnpf.cli.owner import as_the_owner
from vpnpf.config import load
from vpnpf.errors import ConfigError, UsageError, VpnpfError
from vpnpf.io.resolver import SystemResolver
from vpnpf.model import FirewallPolicy, FirewallStage, LockMode
from vpnpf.settings import ProfileSettings
from vpnpf.wiring import alone, backend_of, make_lock, only


@click.command()
@click.argument("profile", required=False)
@CONFIG
def lock(profile: str | None, config: Path | None) -> None:
    """Let nothing leave this machine, from now on and from boot on, until vpnpf runs.

    For a PROFILE with [profiles.NAME.lock] mode = "lockdown". It may be left out if the configuration has only one.
    """
    as_the_owner()
    asyncio.run(_lock(load(config, ended=True).profile(profile)))
    click.echo("locked: nothing leaves but to the LAN, until vpnpf runs or `vpnpf unlock`", err=True)


async def _lock(settings: ProfileSettings) -> None:
    if settings.spec.lock is not LockMode.LOCKDOWN:
        hint = f'write mode = "lockdown" below [profiles.{settings.spec.name}.lock]'
        raise UsageError("locking", f"the profile {settings.spec.name} has the mode {settings.spec.lock}", hint)
    backend = backend_of(settings)
    backend.check_machine()
    with alone():
        plan = await backend.plan()
        policy = FirewallPolicy(FirewallStage.LOCKED, plan, settings.spec.policy, lock=LockMode.LOCKDOWN)
        await make_lock().apply(policy, 0.0)


@click.command()
@CONFIG
def unlock(config: Path | None) -> None:
    """Give this machine its network back: after mode "lockdown", or after vpnpf was killed.

    Takes away the block, also the one at boot, and what a killed run left of its tunnel. Refused while vpnpf runs.
    """
    as_the_owner()
    profiles: Iterable[ProfileSettings] = ()
    try:
        profiles = load(config, ended=True).profiles.values()
    except ConfigError as error:
        click.echo(
            f"without the configuration only the block is taken away, and the resolver given back: {error}", err=True
        )
    left = asyncio.run(_unlock(profiles))
    for line in left:
        click.echo(f"not undone: {line}", err=True)
    click.echo("unlocked: everything goes its usual way", err=True)


async def _unlock(profiles: Iterable[ProfileSettings]) -> list[str]:
    """Returns what could not be undone of the tunnels; raises what could not be of the block."""
    left = []
    with alone():
        for settings in profiles:
            try:
                with only(settings.spec.name):  # in another network namespace it may be running
                    await backend_of(settings).down()
            except VpnpfError as error:
                left.append(str(error))
        try:
            # Also without a configuration, or names would be asked of a resolver behind a tunnel that is gone.
            await asyncio.to_thread(SystemResolver().give_back)
        except VpnpfError as error:
            left.append(str(error))
        await make_lock().remove()
    return left
