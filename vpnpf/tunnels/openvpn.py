"""OpenVPN: the provider's file is read, written anew and given to `openvpn`, which never sees the original.

openvpn makes the encrypted connection and nothing else. Device, addresses, routes and resolver are ours, as with
WireGuard, and stand before it runs: what the server pushes is looked at and taken over, or not. It runs with
CAP_NET_ADMIN alone, and lives no longer than we do; the rules and routes do.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import defaultdict
from pathlib import Path
from typing import ClassVar
from zlib import crc32

from msgspec.structs import replace

from vpnpf.api import (
    Endpoint,
    LeaseLost,
    Manifest,
    Misconfigured,
    Transient,
    Tunnel,
    TunnelHealth,
    TunnelOptions,
    TunnelPlan,
    Unsupported,
)
from vpnpf.errors import ConfigError, Mistake, VpnpfError
from vpnpf.io import process
from vpnpf.io.clock import BootClock
from vpnpf.io.lan import KernelLinks
from vpnpf.model import Rekeyed, Stirring
from vpnpf.protocol.openvpn_config import OpenVpnConfig, Remote, parse, render
from vpnpf.protocol.openvpn_push import Pushed
from vpnpf.tunnels import outside, prerequisites, routing, uplink
from vpnpf.tunnels.addresses import NOBODY
from vpnpf.tunnels.config_file import read_bytes
from vpnpf.tunnels.names import interface_name, mark_of
from vpnpf.tunnels.openvpn_plan import MTU, completed, read
from vpnpf.tunnels.openvpn_process import PROGRAM, Launcher
from vpnpf.tunnels.openvpn_session import Login, Session
from vpnpf.tunnels.supplied import Supplied
from vpnpf.tunnels.surroundings import Surroundings
from vpnpf.tunnels.watch import Watch
from vpnpf.tunnels.whole import all_of, in_thread, to_the_end

Given = tuple[OpenVpnConfig, TunnelPlan]
"""What a provider said that a tunnel is."""
PATIENCE = 15.0
"""Seconds for the first connection; TLS repeats what was lost after 2 and 4 s."""
REKEY_PATIENCE = 6.0
"""Seconds for a new one in place; then it is begun anew."""
LOGIN_AGAIN = 60.0
"""Seconds until a login is tried again that was refused and had been good before: a session of ours may still count."""
LOGIN_REFUSED_AGAIN = 300.0
"""Seconds until it is tried again where even a login that the provider has just given is refused."""
_GIVEN_LOGIN_REFUSED = (
    "the provider gave this login just now: is the account still good, and not in use on more devices than it may be?"
)
_NO_LOGIN = "set username and password in the profile's tunnel"


class OpenVpnTunnel:
    """`type = "openvpn"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="openvpn",
        name="OpenVPN",
        summary="the provider's OpenVPN file over UDP or TCP, by openvpn 2.5 or newer",
        verified="real daemon",
        verified_with="openvpn 2.6",
        keys=("config", "username", "password", "namespace", "publish"),
    )

    def __init__(self, options: TunnelOptions) -> None:
        self._options = options
        self._around = Surroundings(options)
        self._interface = interface_name(options.profile)
        self._outside = options.outside
        self._launcher = Launcher(Path(options.runtime), self._outside)
        self._clock = BootClock()
        self._chosen: dict[int, tuple[OpenVpnConfig, Remote]] = {}
        """By server: the file and the remote of it, as they were at the last plan."""
        self._failures: dict[int, int] = defaultdict(int)
        """By server, tries to come up that failed, ever: the remote that worked last is the one to begin with."""
        self._session: Session | None = None
        self._watch: Watch | None = None
        self._welcome: set[int] = set()
        """Servers at which the login was good."""
        self._supplied = Supplied(options.supply) if options.supply else None
        """Makes the configuration in place of files."""
        self._given_login, self._gateway = Login("", ""), ""
        """That came with it."""

    def check_config(self) -> None:
        """Read the provider's files. Raises ConfigError with every mistake."""
        mistakes: list[Mistake] = []
        for path in self._options.configs:
            try:
                config = parse(read_bytes(path), path)
            except ConfigError as error:
                mistakes += error.mistakes
            else:
                if config.needs_password and not self._options.username:
                    mistakes.append(Mistake(path, "its server asks for a user name and a password", _NO_LOGIN))
        if mistakes:
            raise ConfigError(tuple(mistakes))

    def check_machine(self) -> None:
        """See that this machine has what `up` needs. Raises Unavailable or PermissionDenied."""
        for program in ("ip", PROGRAM, "setpriv"):
            process.find(program)
        prerequisites.need_the_privilege()
        prerequisites.need_tun()

    async def plan(self, server: int = 0) -> TunnelPlan:
        """Read a server's file and look one of its remotes up, or ask the provider for one. Raises ConfigError, Failure.

        The addresses in the tunnel are not known before the server says them: what `up` returns has them.
        """
        if self._supplied is not None:
            table, lan = self._around.table, self._options.lan
            return await self._supplied.plan(server, interface=self._interface, table=table, mtu=MTU, lan=lan)
        path = self._options.configs[server]
        config = parse(await in_thread(read_bytes, path), path)
        # After a failure the next remote has its turn, and after the last one the next address of each.
        number, remotes = self._failures[server], config.remotes
        # The same one at each start, or the ports held there would be lost.
        first = crc32(self._options.profile.encode()) if config.remote_random else 0
        remote = remotes[(first + number) % len(remotes)]
        addresses = await self._around.endpoints.addresses(remote.host, remote.port)
        address = addresses[number // len(remotes) % len(addresses)]
        self._chosen[server] = config, remote
        return TunnelPlan(
            interface=self._interface,
            endpoint=Endpoint(address, remote.port, remote.protocol),
            addresses=(),
            mark=mark_of(self._around.table),
            table=self._around.table,
            mtu=config.mtu or MTU,
            lan=await KernelLinks().prefixes(self._interface) if self._options.lan else (),
            notes=config.notes,
            server=server,
            identity=config.identity(remote),
        )

    async def up(self, plan: TunnelPlan) -> Tunnel:
        """Bring it up and wait for the connection. Raises Failure; then nothing is left."""
        if self._supplied is None and plan.server not in self._chosen:
            await self.plan(plan.server)
        if self._supplied is None and OpenVpnConfig.identity(*self._chosen[plan.server]) != plan.identity:
            raise Transient("reading the tunnel's file", "it holds another key or server than at the last plan")
        self._failures[plan.server] += 1
        await self.down()
        try:
            await self._make_device()
            await self._around.prepare()
            # Where nothing is held yet, the provider is asked while his name can still be looked up.
            supplied = None if self._options.held else self._supplied
            given = await self._given(supplied, plan) if supplied else None
            # Everything but the marked packets and the LAN leads into it from now on, and is lost there for the moment.
            placeholder = replace(plan, addresses=(NOBODY,))
            if self._outside is None:
                await routing.set_up(placeholder)
            plan, pushed = await self._reached(plan, given)
            whole = completed(plan, pushed, self._gateway)
            if self._outside is not None:
                # Not before: openvpn finds it by its name, and it has that outside.
                await outside.bring_in(self._outside, self._interface)
                await routing.set_up(placeholder)
            await routing.heal(whole)
            away = ("ip", "addr", "del", NOBODY, "dev", self._interface)
            await process.must(away, doing="setting the tunnel's addresses")
            await self._around.ask(whole.dns)
        except BaseException:
            # What went wrong first is told; what cannot be undone is tried again by the next `up` or `down`, and told then.
            with contextlib.suppress(VpnpfError):
                await self.down()
            raise
        self._failures[plan.server] -= 1
        self._welcome.add(plan.server)
        return Tunnel(whole, "openvpn", whole.gateway or "")

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        """One look. Raises LeaseLost if device or program is gone, Transient if it cannot be looked at."""
        session = self._running(tunnel)
        health = await session.health()
        await routing.heal(tunnel.plan)
        await self._around.heal(tunnel.plan.dns)
        return health

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        """Connect anew in place: device, addresses, routes and sockets stay. Raises NoAnswer, LeaseLost, Transient.

        If openvpn does so already, that is waited for. LeaseLost also if the server gives other addresses than before.
        """
        session, doing = self._running(tunnel), f"connecting anew to {tunnel.plan.endpoint}"
        try:
            pushed = await session.connect_anew(REKEY_PATIENCE)
        except Transient as error:
            raise await uplink.offline(error.doing, tunnel.plan, self._outside) or error from None
        except Misconfigured as error:
            # openvpn has ended; whether trying again can help is told by the next start.
            raise LeaseLost(doing, error.cause) from error
        whole = completed(tunnel.plan, pushed, self._gateway)
        if (whole.addresses, whole.gateway) != (tunnel.plan.addresses, tunnel.plan.gateway):
            raise LeaseLost(
                f"connecting anew to {tunnel.plan.endpoint}", "the server gives another address than before"
            )
        return Rekeyed(await self.check(tunnel))

    async def watch(self, tunnel: Tunnel) -> Stirring:
        """Wait until the device or openvpn is gone, or the server gives no answer. Raises LeaseLost, Unavailable."""
        session = self._running(tunnel)
        if self._watch is None:
            self._watch = Watch(tunnel.interface)
        waiting = {
            asyncio.create_task(each, name="watching") for each in (self._watch.stirring(tunnel), session.trouble())
        }
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            return next(iter(done)).result()
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        """Raise Unsupported: OpenVPN cuts its packets into parts where the way carries less."""
        raise Unsupported(f"fitting the MTU of {tunnel.interface}", "OpenVPN fits its packets itself")

    async def down(self) -> None:
        """Undo all of `up`, to the end though cancelled. Raises what could not be undone, after all the rest was."""
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        await to_the_end(
            all_of(
                self._end,
                self._launcher.end_leftover,
                self._around.let_go,
                lambda: outside.delete(self._outside, self._interface),
                *self._around.undo(),
            )
        )

    async def _end(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _make_device(self) -> None:
        """A device that stays while openvpn comes and goes."""
        doing = f"making the device {self._interface}"
        argv = (*outside.at(self._outside, "ip"), "tuntap", "add", "dev", self._interface, "mode", "tun")
        await process.must(argv, doing=doing)

    async def _reached(self, plan: TunnelPlan, given: Given | None) -> tuple[TunnelPlan, Pushed]:
        """Let openvpn connect: the plan as the configuration has it, and what was pushed. Raises Failure."""
        if self._supplied is None:
            return plan, await self._connected(await self._start(plan, self._chosen[plan.server][0]), plan)
        config, plan = given or await self._given(self._supplied, plan)
        try:
            return plan, await (await self._start(plan, config)).connected(PATIENCE)
        except Misconfigured:
            # The login may have been one that ended: the provider is asked for another.
            await self._end()
            config, plan = await self._given(self._supplied, plan, again=True)
        except Transient as error:
            raise await uplink.offline(error.doing, plan, self._outside) or error from None
        try:
            return plan, await self._connected(await self._start(plan, config), plan)
        except Misconfigured as error:
            refused = Misconfigured(error.doing, error.cause, _GIVEN_LOGIN_REFUSED, LOGIN_REFUSED_AGAIN)
            refused.anywhere = True
            raise refused from error

    async def _given(self, supplied: Supplied, plan: TunnelPlan, *, again: bool = False) -> Given:
        """What the provider says that the tunnel is. Raises Failure."""
        given = await supplied.configure(plan, again=again)
        self._given_login, self._gateway = Login(given.username, given.password), given.gateway
        config = read(given.text, plan.endpoint)
        return config, replace(plan, mtu=config.mtu or MTU, notes=config.notes)

    async def _start(self, plan: TunnelPlan, config: OpenVpnConfig) -> Session:
        told = frozenset(words[0] for words in config.options)
        program, connection = await self._launcher.start(plan, render(config, plan.endpoint), told)
        self._session = Session(program, connection, plan.endpoint, self._login, self._clock)
        return self._session

    async def _connected(self, session: Session, plan: TunnelPlan) -> Pushed:
        try:
            return await session.connected(PATIENCE)
        except Transient as error:
            raise await uplink.offline(error.doing, plan, self._outside) or error from None
        except Misconfigured as error:
            if plan.server not in self._welcome:
                raise
            hint = "the login was good before: is the account in use elsewhere, or over the number of its sessions?"
            raise Transient(error.doing, error.cause, hint, LOGIN_AGAIN) from error

    async def _login(self) -> Login:
        """Read when asked for. Raises Misconfigured."""
        if self._supplied is not None:
            if not (self._given_login.username and self._given_login.password):
                raise Misconfigured("logging in", "the server asks for a login, and the provider gave none")
            return self._given_login
        password = await in_thread(self._options.password)
        if not self._options.username or not password:
            raise Misconfigured("logging in", "there is no user name or no password", _NO_LOGIN)
        return Login(self._options.username, password)

    def _running(self, tunnel: Tunnel) -> Session:
        """The session of a tunnel that is up. Raises LeaseLost."""
        doing = f"looking at the device {tunnel.interface}"
        if self._session is None:
            raise LeaseLost(doing, "the tunnel is not up")
        try:
            socket.if_nametoindex(tunnel.interface)
        except OSError:
            raise LeaseLost(doing, "it is gone") from None
        return self._session
