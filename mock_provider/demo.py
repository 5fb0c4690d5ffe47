"""The main job, shown: a tunnel, a forwarded port, a torrent client, a visitor from the internet, a changed port.

Everything is real but the company: a WireGuard server, a NAT-PMP gateway that behaves like ProtonVPN's, the
packet filter, qbittorrent-nox and vpnpf itself, in network namespaces that are gone afterwards. Only the leases
are shorter than ProtonVPN's 60 s, so that several renewals fit into a short show.

Each thing that is claimed is an `Act`, and holds or does not; the show succeeds if all of them hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mock_provider.peer import Peer
from mock_provider.product import Json, Product, traces, unique_profile, write_config
from mock_provider.provider import MockProvider
from mock_provider.qbittorrent import QBittorrent
from mock_provider.swarm import Torrent
from mock_provider.topology import EXIT, INTERNET, SERVER
from vpnpf.errors import VpnpfError
from vpnpf.io import process

SECONDS = 20.0
"""How long vpnpf runs in the show, if nobody says otherwise."""
SHORTEST = 10.0
ROTATE_AFTER = 3
"""Renewals until the gateway changes the port."""
PROOFS = ("tunnel", "lease", "firewall", "client", "listening", "reachable")
SERVERS = 3
MORE = ("22/tcp from 203.0.113.0/24 for 2h", "8000-8010/udp")
"""What the policy lets in beside the forward."""
PROGRAMS = ("ip", "nft", "wg", "qbittorrent-nox")


@dataclass(slots=True)
class Act:
    """One claim, and whether it held."""

    claim: str
    held: bool
    evidence: str
    at: float
    """Seconds since vpnpf was started."""


@dataclass(slots=True)
class Stage:
    """Where the show is seen: lines for a person, and the acts for the summary."""

    colour: bool
    lines: list[str] = field(default_factory=list)
    """All that was shown, with colours whether shown with them or not."""
    started: float = 0.0
    acts: list[Act] = field(default_factory=list)
    shown: dict[str, int] = field(default_factory=dict)
    """Which external port each proof was last shown for."""
    tell: Callable[[str], None] | None = None
    """While something else has the terminal: is told the titles and what failed, and nothing is printed."""

    def say(self, text: str) -> None:
        """Print a line of the story."""
        self.lines.append(text)
        if self.tell is None:
            print(text if self.colour else _COLOUR.sub("", text), flush=True)

    def scene(self, text: str) -> None:
        """Print the title of the next part."""
        self.say("")
        self.say(_paint("1", text))
        if self.tell is not None:
            self.tell(text)

    def act(self, claim: str, evidence: str, *, held: bool = True) -> bool:
        """Note a claim and show it."""
        at = time.monotonic() - self.started if self.started else 0.0
        self.acts.append(Act(claim, held, evidence, at))
        mark = _paint("32", "ok  ") if held else _paint("31", "FAIL")
        if self.tell is not None and not held:
            self.tell(f"did not hold: {claim}: {evidence}")
        self.say(f"  {mark} {at:6.2f} s  {claim:<34} {evidence}")
        return held

    def watch(self, event: Json) -> None:
        """Show each proof when it turns true for a port."""
        if event["event"] != "state":
            return
        for forward in event["forwards"]:
            port = forward["external_port"]
            for name in PROOFS if port else ():
                proof = forward["proofs"][name]
                if proof["ok"] and self.shown.get(name) != port:
                    self.shown[name] = port
                    self.act(f"port {port}: {name}", proof["evidence"])

    def proven(self, port: int) -> list[str]:
        """The proofs that have been true for a port."""
        return [name for name in PROOFS if self.shown.get(name) == port]

    @property
    def held(self) -> bool:
        """Whether every claim held."""
        return bool(self.acts) and all(act.held for act in self.acts)


_COLOUR = re.compile(r"\x1b\[\d*m")


def _paint(code: str, text: str) -> str:
    return f"\x1b[{code}m{text}\x1b[0m"


async def show(seconds: float = SECONDS) -> Stage:
    """Play it; `held` of what is returned says whether everything did. Raises VpnpfError if it cannot be built."""
    stage = Stage(colour=sys.stdout.isatty() and "NO_COLOR" not in os.environ)
    seconds = max(SHORTEST, seconds)

    async def play(lab: Lab) -> None:
        ends = time.monotonic() + seconds
        await story(stage, lab)
        while (left := ends - time.monotonic()) > 0:
            with contextlib.suppress(VpnpfError):
                await lab.product.until(lambda state: state["phase"] != "ready", deadline=left)
                break
        renewals = len(lab.product.notices("renewed"))
        stage.act("still READY", f"{renewals} renewals, no problem left", held=_content(lab.product))

    await on_stage(stage, max(4, min(60, round(seconds / 5))), play)
    summary(stage, f"vpnpf ran for {seconds:.0f} s")
    return stage


@dataclass(slots=True)
class Lab:
    """What the show is played with."""

    provider: MockProvider
    client: QBittorrent
    product: Product
    runtime: Path
    """Where its control socket is."""
    profile: str
    torrent: Torrent
    """The client's."""


async def on_stage(
    stage: Stage, lifetime: int, play: Callable[[Lab], Awaitable[None]], profile: str | None = None
) -> None:
    """Build it all, have it played while vpnpf runs, and see that nothing is left. Raises VpnpfError if it cannot be built."""
    for program in PROGRAMS:
        process.find(program)
    with tempfile.TemporaryDirectory(prefix="vpnpf-demo-") as directory:
        stage.scene("A VPN provider on this machine alone, in network namespaces of its own")
        async with _set_up(Path(directory), lifetime) as (provider, client):
            stage.say(f"  VPN server {SERVER}, exit address {EXIT}; a host on the internet {INTERNET}")
            gateway = f"NAT-PMP gateway {provider.gateway_address}: leases of {lifetime} s"
            stage.say(f"  {gateway}, another port after {ROTATE_AFTER} renewals")
            stage.say(f"  qBittorrent runs in your namespace and listens on {client.listen_port}")
            try:
                await _run(stage, provider, client, Path(directory), play, profile or unique_profile())
            except (VpnpfError, TimeoutError) as error:
                stage.act("the show went on to its end", str(error) or type(error).__name__, held=False)
            names = [host.path for host in provider.lab.hosts]
        left = [path.name for path in names if path.exists()]
        stage.act("nothing of the show is left", ", ".join(left) or "namespaces and programs gone", held=not left)


@contextlib.asynccontextmanager
async def _set_up(directory: Path, lifetime: int) -> AsyncIterator[tuple[MockProvider, QBittorrent]]:
    async with AsyncExitStack() as stack:
        provider = await stack.enter_async_context(MockProvider(lifetime=lifetime, servers=SERVERS))
        provider.gateway.rotate_after = ROTATE_AFTER
        client = await stack.enter_async_context(QBittorrent(provider.lab.client, directory / "qbittorrent"))
        yield provider, client


async def _run(
    stage: Stage,
    provider: MockProvider,
    client: QBittorrent,
    directory: Path,
    play: Callable[[Lab], Awaitable[None]],
    profile: str,
) -> None:
    host = provider.lab.client
    before = await traces(host)
    config = _configured(directory, provider, client, profile)
    torrent = Torrent.made()
    await client.add_torrent(torrent.file)
    stage.scene(f"vpnpf run {profile}")
    product = Product(host, directory, config, profile, on_event=stage.watch)
    async with product:
        stage.started = product.started
        await play(Lab(provider, client, product, directory / "runtime", profile, torrent))
        stage.scene("SIGTERM")
        status = await product.stop()
        stage.act("vpnpf ended by itself", f"exit status {status}", held=status == 0)
    mappings = provider.gateway.mappings
    stage.act("the port was given back", f"{len(mappings)} mappings left at the gateway", held=not mappings)
    after = await traces(host)
    differs = sorted(key for key in before if before[key] != after[key])
    stage.act("the machine is as it was before", "differs: " + ", ".join(differs) if differs else
              "links, addresses, routes, rules, packet filter, resolver", held=not differs)  # fmt: skip
    if not stage.held:
        stage.say(f"\nvpnpf said:\n{product.talk}")


def _configured(directory: Path, provider: MockProvider, client: QBittorrent, profile: str) -> Path:
    """With all servers and openings."""
    config = write_config(directory, provider, client, profile)
    files = [site.client_config(directory / f"proton-{n}.conf").name for n, site in enumerate(provider.servers, 1)]
    text = config.read_text().replace('"proton.conf"', json.dumps(files))
    config.write_text(text.replace('["forwarded"]', json.dumps(["forwarded", *MORE])))
    return config


async def story(stage: Stage, lab: Lab, pause: float = 0.0) -> None:
    """A port, a visitor, a changed port, a visitor there; raises VpnpfError where it does not go on.

    `pause`: seconds that each of them is left to be looked at.
    """
    provider, client, product = lab.provider, lab.client, lab.product
    state = await product.until(lambda state: state["phase"] == "ready")
    first = int(product.forward()["external_port"])
    stage.act("READY", f"phase {state['phase']}, external port {first}")
    await asyncio.sleep(pause)

    stage.scene("Somebody on the internet connects")
    await _visit(stage, provider.peer, first)
    await product.until(lambda _state: product.forward()["proofs"]["reachable"]["ok"])
    _six(stage, first)

    stage.scene(f"Renewals; after {ROTATE_AFTER} the gateway gives another port")
    await product.until(lambda _state: _moved(product, first), deadline=max(20.0, 6 * provider.gateway.lifetime))
    provider.gateway.rotate_after = None
    second = int(product.forward()["external_port"])
    said = (await client.preferences())["listen_port"]
    stage.act("qBittorrent itself says", f"listen port {said}", held=said == second)
    await asyncio.sleep(pause)
    await _visit(stage, provider.peer, second)
    await product.until(lambda _state: product.forward()["proofs"]["reachable"]["ok"])
    _six(stage, second)
    old = await provider.peer.connect_tcp(EXIT, first)
    stage.act("the old port is closed", f"{EXIT}:{first} {old.result}", held=not old.connected)


async def _visit(stage: Stage, peer: Peer, port: int) -> None:
    outcome = await peer.connect_tcp(EXIT, port, deadline=3.0)
    stage.act(f"{INTERNET} connects in", f"{EXIT}:{port} {outcome.result} in {outcome.seconds * 1000:.0f} ms",
              held=outcome.connected)  # fmt: skip


def _six(stage: Stage, port: int) -> None:
    proven = stage.proven(port)
    missing = [name for name in PROOFS if name not in proven]
    stage.act(f"six proofs of port {port}", f"missing: {', '.join(missing)}" if missing else "all true",
              held=not missing)  # fmt: skip


def _moved(product: Product, first: int) -> bool:
    forward = product.forward()
    proofs = forward["proofs"]
    return (
        forward["external_port"] not in {None, first}
        and product.state["phase"] == "ready"
        and all(proofs[name]["ok"] for name in PROOFS if name != "reachable")
    )


def _content(product: Product) -> bool:
    return product.status is None and product.state["phase"] == "ready" and not product.state["problems"]


def summary(stage: Stage, ran: str) -> None:
    """How it went."""
    failed = [act for act in stage.acts if not act.held]
    stage.scene("Summary")
    stage.say(f"  {len(stage.acts) - len(failed)} of {len(stage.acts)} claims held; {ran}")
    for act in failed:
        stage.say(f"  did not hold: {act.claim}: {act.evidence}")
    if not failed:
        stage.say('  Every proof held. The same with your provider: see README.md, "Install for real use".')
