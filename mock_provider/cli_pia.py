"""`python -m mock_provider pia`: Private Internet Access to play with."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import click

from mock_provider.https import Asked
from mock_provider.pia import MockPia
from mock_provider.pia_config import environment, write_config
from mock_provider.pia_forward import BIND_FOR
from mock_provider.sites import TUNNELS
from mock_provider.topology import EXIT
from vpnpf.io import process

PROGRAMS = ("ip", "nft", "wg")
PORT = """\
[profiles.{profile}.forwards.port]
"""
"""A port without a client, announced by events."""


@click.command()
@click.option("--tunnel", type=click.Choice(TUNNELS), default=TUNNELS[0], show_default=True, help="What servers run.")
@click.option("--servers", type=click.IntRange(1, 9), default=2, show_default=True, help="How many there are.")
@click.option("--bind-for", type=click.FloatRange(1, 86400), default=BIND_FOR, help="Seconds that a bind lasts.")
def pia(*, tunnel: str, servers: int, bind_for: float) -> None:
    """Private Internet Access, until Ctrl-C or SIGTERM: account, signed list, servers that forward ports."""
    for program in (*PROGRAMS, *(("openvpn",) if tunnel != TUNNELS[0] else ())):
        process.find(program)
    directory = Path(tempfile.mkdtemp(prefix="mock-pia-"))
    try:
        asyncio.run(_serve(directory, tunnel, servers, bind_for))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _serve(directory: Path, tunnel: str, servers: int, bind_for: float) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with MockPia(tunnel=tunnel, servers=servers, bind_for=bind_for) as provider:
        for service in (*provider.web.sites, *(each for site in provider.servers for each in site.services)):
            service.on_request = _show
        config = write_config(directory, provider, "home", forwards=PORT)
        settings = dict(environment(directory))
        for name in ("state", "runtime"):  # not those of the machine: what is a mock's is gone with it
            (directory / name).mkdir(mode=0o700)
            settings[f"{name.upper()}_DIRECTORY"] = str(directory / name)
        print(describe(provider, config, settings), flush=True)
        await stop.wait()
        print("taking it away", flush=True)


def describe(provider: MockPia, config: Path, settings: Mapping[str, str]) -> str:
    """What a person needs to use it."""
    lab, python = provider.lab, shlex.quote(sys.executable)
    setting = " ".join(f"{name}={shlex.quote(value)}" for name, value in settings.items())
    servers = "".join(f"  {site.cn}  {site.place.address}, exit {site.exit_address}\n" for site in provider.servers)
    return f"""\
The provider is up. Namespaces:
  {lab.client.name:<28} your machine
  {lab.server.name:<28} its servers
  {lab.internet.name:<28} the sites on the web, and a host on the internet
Servers of nl_amsterdam:
{servers}Account: {provider.account.username}, its password is in {config.parent}
Configuration: {config}

In another terminal:
  ip netns exec {lab.client.name} env {setting} {python} -m vpnpf run home --config {config}
  env {setting} {python} -m vpnpf status
  ip netns exec {lab.internet.name} {python} -c 'import socket; socket.create_connection(("{EXIT}", PORT), 2)'

Ctrl-C ends it and takes everything away."""


def _show(asked: Asked) -> None:
    print(f"{time.strftime('%H:%M:%S')} {asked.client} {asked.method} {asked.host}{asked.path}", flush=True)
