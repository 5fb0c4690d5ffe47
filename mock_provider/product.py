"""vpnpf itself as a child in a namespace, watched by its own events.

    async with Product(lab.client, directory, config, profile) as product:
        state = await product.until(lambda state: state["phase"] == "ready")
        external = product.forward()["external_port"]
        assert await product.stop() == 0

It is started as a person would start it, with `--events`; what it said on stderr is in `product.talk`.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mock_provider.host import Host
from mock_provider.provider import MockProvider
from mock_provider.torrent_daemon import TorrentDaemon
from vpnpf.errors import VpnpfError

Json = dict[str, Any]

CONFIG = """\
[profiles.{profile}]
provider = "{provider}"
[profiles.{profile}.tunnel]
type = "wireguard"
config = "proton.conf"
[profiles.{profile}.policy]
mode = "allow-list"
allow = ["forwarded"]
[profiles.{profile}.forwards.torrent]
client = "qb"
[clients.qb]
type = "{client}"
url = "{url}"
username = "{username}"
password = {{ file = "qb.password" }}
"""
"""What a person with ProtonVPN and a torrent client writes."""


class Product:
    """One `vpnpf run`; an async context manager that kills what is left of it."""

    def __init__(
        self,
        host: Host,
        directory: Path,
        config: Path,
        profile: str,
        *,
        arguments: Sequence[str] = ("--events",),
        wrap: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        on_event: Callable[[Json], None] = lambda _event: None,
    ) -> None:
        self.host = host
        self.directory = directory
        """Holds its state and runtime directories, so that several can run on one machine."""
        self.events: list[Json] = []
        """All of stdout so far, `state` events included."""
        self.state: Json = {}
        """The newest state; empty before the first."""
        self.talk = ""
        """All of stderr so far."""
        self.started = 0.0
        """When it was started, on time.monotonic()."""
        self._argv = (*wrap, sys.executable, "-m", "vpnpf", "run", profile, "--config", str(config), *arguments)
        self._env = dict(env or {})
        self._on_event = on_event
        self._process: Process | None = None
        self._readers: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    @property
    def pid(self) -> int:
        """The process id. Raises AssertionError if it was not started."""
        assert self._process is not None
        return self._process.pid

    @property
    def status(self) -> int | None:
        """Its exit status, or None while it runs."""
        return self._process.returncode if self._process else None

    def forward(self, name: str = "torrent") -> Json:
        """A forward of the newest state. Raises StopIteration if there is none of that name."""
        found: Json = next(forward for forward in self.state["forwards"] if forward["name"] == name)
        return found

    def notices(self, kind: str) -> list[Json]:
        """All events of one kind so far."""
        return [event for event in self.events if event["event"] == kind]

    async def __aenter__(self) -> Self:
        state, runtime = self.directory / "state", self.directory / "runtime"
        for path in (state, runtime):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        env = {"STATE_DIRECTORY": str(state), "RUNTIME_DIRECTORY": str(runtime), "HOME": str(self.directory)}
        self.started = time.monotonic()
        self._process = await self.host.popen(self._argv, stdout=PIPE, stderr=PIPE, env={**env, **self._env})
        self._readers = [asyncio.create_task(self._read_events()), asyncio.create_task(self._read_talk())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.status is None:
            self.signal(signal.SIGKILL)
        await self.ended()

    async def until(self, condition: Callable[[Json], bool], deadline: float = 20.0) -> Json:
        """Wait for a state that fits; returns it. Raises VpnpfError with what it said, if it ends or time is up."""
        doing = "waiting for vpnpf"
        try:
            async with asyncio.timeout(deadline):
                while not (self.state and condition(self.state)):
                    if all(reader.done() for reader in self._readers):
                        raise VpnpfError(doing, f"it ended with status {await self.ended()}: {self.talk[-2000:]}")
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            last = json.dumps(self.state, indent=1)
            raise VpnpfError(doing, f"not in {deadline:g} s; it said: {self.talk[-2000:]}\n{last}") from None
        return self.state

    def signal(self, number: int) -> None:
        """Send it a signal; nothing happens if it has ended."""
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def stop(self, deadline: float = 15.0) -> int:
        """SIGTERM, and wait until it has cleaned up; returns its exit status. Raises TimeoutError."""
        self.signal(signal.SIGTERM)
        async with asyncio.timeout(deadline):
            return await self.ended()

    async def ended(self) -> int:
        """Wait for its end; returns its exit status."""
        assert self._process is not None
        await asyncio.gather(*self._readers)
        return await self._process.wait()

    async def _read_events(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        rest = b""
        while data := await self._process.stdout.read(65536):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["event"] == "state":
                    self.state = event
                self.events.append(event)
                self._on_event(event)
            self._changed.set()
        self._changed.set()

    async def _read_talk(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        while data := await self._process.stderr.read(65536):
            self.talk += data.decode(errors="replace")
        self._changed.set()


_count = itertools.count(1)


def unique_profile() -> str:
    """A profile name that no other run on this machine has: wireguard-go's sockets are named after it."""
    return f"p{os.getpid()}-{next(_count)}"


def write_config(
    directory: Path, provider: MockProvider, client: TorrentDaemon, profile: str, *, provider_id: str = "protonvpn"
) -> Path:
    """Write config.toml, the tunnel's file and the client's password into a directory; returns the first."""
    provider.client_config(directory / "proton.conf")
    secret = directory / "qb.password"
    secret.touch(mode=0o600)
    secret.write_text(client.password + "\n")
    config = directory / "config.toml"
    said = {"client": client.kind, "url": client.url, "username": client.username}
    config.write_text(CONFIG.format(profile=profile, provider=provider_id, **said))
    return config


async def traces(host: Host) -> Json:
    """What a program could have left behind in a namespace: addresses, routes, rules, packet filter, resolver."""
    ip = ("ip", "-d", "-j")
    found: Json = {"resolver": host.resolver.read_text()}
    for name, argv in {
        "links": (*ip, "link"),
        "addresses": (*ip, "addr"),
        "routes": (*ip, "-4", "route", "show", "table", "all"),
        "routes6": (*ip, "-6", "route", "show", "table", "all"),
        "rules": (*ip, "-4", "rule"),
        "rules6": (*ip, "-6", "rule"),
    }.items():
        found[name] = _without_clocks(json.loads(await host.must(argv) or "[]"))
    found["filter"] = await host.must(("nft", "-s", "list", "ruleset"))
    return found | _settings(host)


def _settings(host: Host) -> Json:
    names = ("all/src_valid_mark", "all/rp_filter", "default/rp_filter", "all/arp_ignore")
    with host.inside():
        return {name: Path("/proc/sys/net/ipv4/conf", name).read_text() for name in names}


def _without_clocks(value: Any) -> Any:  # noqa: ANN401 - whatever `ip` prints
    if isinstance(value, dict):
        return {key: _without_clocks(item) for key, item in value.items() if key not in {"expires", "stats64"}}
    return [_without_clocks(item) for item in value] if isinstance(value, list) else value
