"""The command line: `python -m mock_provider [serve] [options]`."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import TypeVar

import click

from mock_provider import cli_faults, cli_pia, demo_face
from mock_provider import demo as demonstration
from mock_provider.gateway import Request
from mock_provider.natpmp import MODES
from mock_provider.openvpn import PASSWORD, USERNAME
from mock_provider.provider import MockProvider
from mock_provider.scenario import Scenario
from mock_provider.sites import TUNNELS
from mock_provider.topology import EXIT, INTERNET, SERVER
from mock_provider.wireguard import PORT
from vpnpf.cli.main import on_terminal
from vpnpf.errors import EX_USAGE, PermissionDenied, Unavailable, VpnpfError
from vpnpf.io import process

PROGRAMS = ("ip", "nft", "wg")
Played = TypeVar("Played")
PROFILE = """\
[profiles.home]
provider = "protonvpn"
[profiles.home.tunnel]
type = "{type}"
config = "{tunnel}"
{login}[profiles.home.forwards.port]
"""
"""For a first try: a port without a client, announced by events."""
LOGIN = f"""\
username = "{USERNAME}"
password = {{ file = "password" }}
"""


@click.group()
def cli() -> None:
    """A VPN provider on this machine alone: real tunnels, real packets, in network namespaces.

    Without a command: serve. Needs root. The machine's own network is not touched.
    """


@cli.command()
@click.option("--lifetime", type=click.IntRange(1, 86400), default=60, show_default=True, help="Seconds of a lease.")
@click.option("--mode", type=click.Choice(MODES), default="proton", show_default=True, help="How the gateway behaves.")
@click.option(
    "--tunnel", type=click.Choice(TUNNELS), default=TUNNELS[0], show_default=True, help="What the server runs."
)
@click.option("--rotate-after", type=click.IntRange(1), help="New external port after so many renewals.")
@click.option("--refuse", is_flag=True, help="Answer NAT-PMP with ICMP port unreachable, as without the feature.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Where to write the client's file.")
@click.option("--quiet", is_flag=True, help="Do not print the requests that come in.")
@cli_faults.options
def serve(
    *,
    lifetime: int,
    mode: str,
    tunnel: str,
    rotate_after: int | None,
    refuse: bool,
    config: Path | None,
    quiet: bool,
    scenario: Path | None,
    fault: tuple[str, ...],
) -> None:
    """Bring the provider up, and run until Ctrl-C or SIGTERM."""
    played = cli_faults.load(scenario, fault)
    openvpn = tunnel != TUNNELS[0]
    for program in (*PROGRAMS, *(("openvpn", "openssl") if openvpn else ())):
        process.find(program)
    directory = Path(tempfile.mkdtemp(prefix="mock-provider-"))
    try:
        path = (config or directory / ("proton.ovpn" if openvpn else "proton.conf")).absolute()
        asyncio.run(_serve(lifetime, mode, tunnel, rotate_after, refuse, path, directory, quiet, played))
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _serve(
    lifetime: int,
    mode: str,
    tunnel: str,
    rotate_after: int | None,
    refuse: bool,
    config: Path,
    directory: Path,
    quiet: bool,
    scenario: Scenario,
) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    shown = _silent if quiet else _show
    async with MockProvider(lifetime=lifetime, mode=mode, on_request=shown, tunnel=tunnel) as provider:
        provider.gateway.rotate_after = rotate_after
        provider.gateway.refuse = refuse
        try:
            path = provider.client_config(config)
        except OSError as error:
            raise Unavailable(f"writing {config}", error.strerror or str(error), "choose another --config") from error
        kind = tunnel.partition("-")[0]
        login = LOGIN if kind == "openvpn" else ""
        (directory / "config.toml").write_text(PROFILE.format(type=kind, tunnel=path, login=login))
        if login:
            secret = directory / "password"
            secret.touch(mode=0o600)
            secret.write_text(f"{PASSWORD}\n")
        print(describe(provider, path, directory / "config.toml"), flush=True)
        await cli_faults.play_until(stop, scenario, provider.gateway)
        print("taking it away", flush=True)


@cli.command()
@click.option(
    "--seconds",
    type=click.FloatRange(demonstration.SHORTEST, 86400),
    default=demonstration.SECONDS,
    show_default=True,
    envvar="DEMO_SECONDS",
    help="How long vpnpf runs in it.",
)
@click.option("--plain", is_flag=True, help="In lines, also on a terminal.")
def demo(*, seconds: float, plain: bool) -> None:
    """Show the main job from end to end; succeeds only if every proof held.

    On a terminal with vpnpf's face in front, until you leave it with q; elsewhere in lines. An ordinary user's show runs
    in a user namespace, where the system allows that.
    """
    if os.geteuid() != 0:
        _in_user_namespace()
    lines = plain or "CI" in os.environ or not on_terminal()
    playing = demonstration.show(seconds) if lines else demo_face.show(colour="NO_COLOR" not in os.environ)
    stage = _played(playing)
    sys.exit(0 if stage.held else 1)


@cli.command()
@click.option("--into", type=click.Path(file_okay=False, path_type=Path), default="docs", show_default=True)
def pictures(*, into: Path) -> None:
    """Take pictures of vpnpf's face in a real run: INTO/screenshots/*.svg, and INTO/face.svg, which moves."""
    if "VPNPF_PICTURES" not in os.environ:
        os.environ["VPNPF_PICTURES"] = "inside"
        _in_namespaces(root=os.geteuid() == 0)
    from mock_provider import pictures as taking  # noqa: PLC0415 - Textual takes a while

    _played(taking.take(into))


cli.add_command(cli_faults.faults)
cli.add_command(cli_pia.pia)


def _played(play: Coroutine[None, None, Played]) -> Played:
    """Run it; a closed terminal and SIGTERM end it as ctrl-c does, so that nothing is left. Raises KeyboardInterrupt."""

    async def whole() -> Played:
        task = asyncio.current_task()
        assert task is not None
        for number in (signal.SIGHUP, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)
        return await play

    try:
        return asyncio.run(whole())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


def _in_user_namespace() -> None:
    _in_namespaces(root=False)


def _in_namespaces(*, root: bool) -> None:
    """Start over with mounts and a /run of its own, as root of a user namespace if not as root. Raises PermissionDenied."""
    enter = [process.find("unshare"), *(() if root else ("--user", "--map-root-user")), "--net", "--mount"]
    doing = "becoming root of a user namespace"
    try:
        subprocess.run([*enter, "true"], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        cause = error.stderr.strip() or f"unshare ended with status {error.returncode}"
        raise PermissionDenied(doing, cause, "run it as root: sudo make demo") from error
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise PermissionDenied(doing, "/dev/net/tun is not open to this user", "run it as root: sudo make demo")
    again = shlex.join([sys.executable, "-m", "mock_provider", *sys.argv[1:]])
    # The machine's resolv.conf is out of reach too, whatever is run in here.
    own = "mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /mnt && : >/mnt/.resolv.conf"
    own += " && { [ ! -f /etc/resolv.conf ] || mount --bind /mnt/.resolv.conf /etc/resolv.conf; }"
    os.execv(enter[0], [*enter, "sh", "-c", f"{own} && exec {again}"])


def describe(provider: MockProvider, config: Path, profile: Path) -> str:
    """What a person needs to use it."""
    lab = provider.lab
    python = shlex.quote(sys.executable)
    return f"""\
The provider is up. Namespaces:
  {lab.client.name:<28} your machine: 192.168.77.2, default route by its ISP
  {lab.router.name:<28} the ISP's router: 192.168.77.1
  {lab.server.name:<28} the VPN server: {SERVER}:{PORT}, exit address {EXIT}
  {lab.internet.name:<28} a host on the internet: {INTERNET}
Tunnel configuration of a customer: {config}
NAT-PMP gateway in the tunnel: {provider.gateway_address}, leases of {provider.gateway.lifetime} s

In another terminal:
  ip netns exec {lab.client.name} {python} -m vpnpf run home --config {profile}
  ip netns exec {lab.internet.name} {python} -c 'import socket; socket.create_connection(("{EXIT}", PORT), 2)'

Ctrl-C ends it and takes everything away."""


def _show(request: Request) -> None:
    print(f"{time.strftime('%H:%M:%S')} {request}", flush=True)


def _silent(_request: Request) -> None:
    pass


def main() -> None:
    """Run the command line; errors of vpnpf's kind are printed in two lines."""
    arguments = sys.argv[1:]
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "--help"):
        arguments = ["serve", *arguments]
    try:
        cli.main(arguments, prog_name="python -m mock_provider", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(EX_USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except VpnpfError as error:
        print(f"error: {error}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(error.exit_code)
