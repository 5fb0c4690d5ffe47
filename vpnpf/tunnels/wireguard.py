"""WireGuard, by the kernel or by wireguard-go. wg-quick never sees the person's file.

Device, routing table and mark follow from the profile's name, so a run that was killed can be undone by the next
one. Keys go to `wg` by standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import defaultdict
from hashlib import blake2s
from typing import ClassVar

from msgspec.structs import replace

from vpnpf.api import (
    Endpoint,
    LeaseLost,
    Manifest,
    NoAnswer,
    Offline,
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
from vpnpf.protocol.wireguard_config import MTU, WireGuardConfig, parse
from vpnpf.tunnels import mtu, prerequisites, routing, uplink, watch
from vpnpf.tunnels.addresses import NOBODY, beside, gateway_of
from vpnpf.tunnels.config_file import read_text
from vpnpf.tunnels.names import interface_name, mark_of
from vpnpf.tunnels.supplied import Supplied
from vpnpf.tunnels.surroundings import Surroundings
from vpnpf.tunnels.whole import all_of, in_thread, to_the_end, together
from vpnpf.tunnels.wireguard_device import SOCKETS, Device
from vpnpf.tunnels.wireguard_health import Watch
from vpnpf.tunnels.wireguard_plan import completed, read

PATIENCE = 15.0
"""Seconds for the first handshake."""
REKEY_PATIENCE = 6.0
"""Seconds for a new one in place: the second try is 5 s after the first (REKEY_TIMEOUT of the protocol)."""
KNOCK = 1.5
"""Seconds after which a handshake that got no answer is begun anew; by itself WireGuard does so after 5 s."""


class WireGuard:
    """`type = "wireguard"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="wireguard",
        name="WireGuard",
        summary="the provider's WireGuard file, by the kernel or wireguard-go",
        verified="real (wireguard-go)",
        keys=("config", "namespace", "publish"),
    )

    def __init__(self, options: TunnelOptions) -> None:
        self._options = options
        self._around = Surroundings(options)
        self._device = Device(interface_name(options.profile), options.outside)
        self._clock = BootClock()
        self._configs: dict[int, WireGuardConfig] = {}
        """By server, as they were at the last plan."""
        self._supplied = Supplied(options.supply) if options.supply else None
        """Makes the configuration in place of files."""
        self._running: WireGuardConfig | None = None
        """What the device has."""
        self._gateway = ""
        """In the tunnel, if the provider said it beside that."""
        self._untold = False
        """Whether the device has another configuration than the tunnel that is known outside."""
        self._failures: dict[int, int] = defaultdict(int)
        """By server, tries to come up that failed, ever: the address that worked last is the one to begin with."""
        self._health = Watch(1, 0.0)
        self._watch: watch.Watch | None = None
        self._mtu: int | None = None
        """What the device was set to since it is up; None: what the plan says."""

    def check_config(self) -> None:
        """Read the provider's files. Raises ConfigError with every mistake."""
        mistakes: list[Mistake] = []
        for path in self._options.configs:  # none, if the provider makes the configuration
            try:
                parse(read_text(path), path)
            except ConfigError as error:
                mistakes += error.mistakes
        if mistakes:
            raise ConfigError(tuple(mistakes))

    def check_machine(self) -> None:
        """See that this machine has what `up` needs. Raises Unavailable or PermissionDenied."""
        for program in ("ip", "wg"):
            process.find(program)
        prerequisites.need_the_privilege()
        if not prerequisites.kernel_has_wireguard():
            process.find("wireguard-go")
            prerequisites.need_tun()
            prerequisites.need_directory(SOCKETS)

    async def plan(self, server: int = 0) -> TunnelPlan:
        """Read a server's file and look it up, or ask the provider for one. Raises ConfigError, Failure."""
        if self._supplied is not None:
            options, name = self._options, self._device.name
            return await self._supplied.plan(server, interface=name, table=self._around.table, mtu=MTU, lan=options.lan)
        config = await self._read(server)
        addresses = await self._around.endpoints.addresses(config.host, config.port)
        # After a failure the next address has its turn.
        address = addresses[self._failures[server] % len(addresses)]
        gateway = gateway_of(config.addresses[0], config.dns)
        lan = await KernelLinks().prefixes(self._device.name) if self._options.lan else ()
        return TunnelPlan(
            interface=self._device.name,
            endpoint=Endpoint(address, config.port),
            addresses=config.addresses,
            dns=config.dns,
            mark=mark_of(self._around.table),
            table=self._around.table,
            mtu=config.mtu,
            gateway=gateway,
            lan=beside((*config.addresses, *config.dns, gateway), lan),
            notes=config.notes,
            server=server,
            identity=_identity(config),
        )

    async def up(self, plan: TunnelPlan) -> Tunnel:
        """Bring it up and wait for the first handshake. Raises Failure; then nothing is left."""
        config = await self._planned(plan) if self._supplied is None else None
        self._failures[plan.server] += 1
        await self.down()
        try:
            backend = await self._device.create()
            await self._around.prepare()
            if self._supplied is not None:  # and so there is no file
                if self._options.held and self._options.outside is None:
                    # The lock's routes end in nothing: the provider's answers would not get past the reverse path filter.
                    await routing.set_up(replace(plan, addresses=(NOBODY,)))
                config, plan = await self._given(self._supplied, plan)
            assert config is not None
            self._running, self._health = config, Watch(config.keepalive, self._clock.now())
            await self._device.configure(config.setconf(plan.endpoint, plan.mark))
            await routing.set_up(plan)
            await self._around.ask(plan.dns)
            if self._supplied is not None:
                await routing.keep_only(plan)
            patience = PATIENCE
            if self._supplied is not None and not await self._hands_shaken(REKEY_PATIENCE):
                # The server has forgotten the key, perhaps: it is told once more.
                patience -= REKEY_PATIENCE
                config, plan = await self._given(self._supplied, plan, again=True)
                await self._put_back(plan, config)
                await self._move(plan)
            if not await self._hands_shaken(patience):
                raise await self._no_answer(plan, PATIENCE)
        except BaseException as error:
            if isinstance(error, Offline):
                self._failures[plan.server] -= 1  # no other address would have been better off
            # What went wrong first is told; what cannot be undone is tried again by the next `up` or `down`, and told then.
            with contextlib.suppress(VpnpfError):
                await self.down()
            raise
        self._failures[plan.server] -= 1
        return Tunnel(plan, backend, plan.gateway or "")

    async def check(self, tunnel: Tunnel) -> TunnelHealth:
        """One look. Raises LeaseLost if the device is gone, Transient if it cannot be looked at."""
        # Side by side, since the first look stands between the tunnel and the port.
        handshake, transfer, _ = await together(
            self._device.handshake(), self._device.transfer(), routing.heal(self._fitted(tunnel.plan))
        )
        await self._around.heal(tunnel.plan.dns)
        return self._health.look(self._clock.now(), self._clock.wall(), handshake, transfer)

    async def rekey(self, tunnel: Tunnel) -> Rekeyed:
        """Shake hands anew in place, with the endpoint of the tunnel's plan. Raises NoAnswer, LeaseLost, Transient.

        No name is looked up: the packet filter lets out what it was told of the plan, and nothing else. Whoever wants
        the same server at another address hands in a tunnel with that plan, when the filter stands for it.
        Where the provider makes the configuration, he is asked for it anew if the server does not answer.
        """
        until = time.monotonic() + REKEY_PATIENCE
        config: WireGuardConfig | None = None
        while True:
            await to_the_end(self._put_back(tunnel.plan, config))
            left = until - time.monotonic()
            answered = await self._hands_shaken(min(KNOCK, max(0.1, left)))
            if not answered and left <= KNOCK:
                raise await self._no_answer(tunnel.plan, REKEY_PATIENCE)
            config = await self._given_in_place(tunnel.plan) if not answered or self._in_doubt else None
            if config is not None:
                until = time.monotonic() + REKEY_PATIENCE
            elif answered:
                return await self._rekeyed(tunnel)

    @property
    def _in_doubt(self) -> bool:
        return self._supplied is not None and self._supplied.in_doubt

    async def _rekeyed(self, tunnel: Tunnel) -> Rekeyed:
        if not self._untold or self._running is None:
            return Rekeyed(await self.check(tunnel))
        plan = completed(tunnel.plan, self._running, self._gateway)
        anew = Tunnel(plan, tunnel.backend, plan.gateway or "")
        await to_the_end(self._move(plan))
        health = await self.check(anew)
        self._untold = False
        return Rekeyed(health, anew)

    async def watch(self, tunnel: Tunnel) -> Stirring:
        """Wait until the device is gone, or the server gives no answer. Raises Unavailable."""
        if self._watch is None:
            self._watch = watch.Watch(tunnel.interface)
        return await self._watch.stirring(tunnel)

    async def fit_mtu(self, tunnel: Tunnel) -> int:
        """Set the device to the largest packet that gets through. Raises Unsupported, NoAnswer, Transient."""
        if tunnel.plan.mtu != MTU:
            raise Unsupported(mtu.DOING, f"the tunnel's file says {tunnel.plan.mtu}")
        self._mtu = await mtu.fit(tunnel, self._fitted(tunnel.plan).mtu)
        return self._mtu

    async def down(self) -> None:
        """Undo all of `up`, to the end though cancelled. Raises what could not be undone, after all the rest was."""
        self._running = self._mtu = None
        self._untold = False
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        await to_the_end(all_of(self._around.let_go, self._device.remove, *self._around.undo()))

    async def _planned(self, plan: TunnelPlan) -> WireGuardConfig:
        """The file that a plan was made of. Raises ConfigError, Transient."""
        config = self._configs.get(plan.server) or await self._read(plan.server)
        if _identity(config) != plan.identity:
            raise Transient("reading the tunnel's file", "it holds another key or server than at the last plan")
        return config

    async def _given(
        self, supplied: Supplied, plan: TunnelPlan, *, again: bool = False
    ) -> tuple[WireGuardConfig, TunnelPlan]:
        """What the provider says that the tunnel is. Raises Failure."""
        given = await supplied.configure(plan, again=again)
        config, self._gateway = read(given.text), given.gateway
        return config, completed(plan, config, given.gateway)

    async def _given_in_place(self, plan: TunnelPlan) -> WireGuardConfig | None:
        """Another configuration for a tunnel that gets no answer, or None. Raises LeaseLost, Transient."""
        given = await self._supplied.configure_in_place(plan) if self._supplied else None
        if given is None:
            return None
        config = read(given.text)
        completed(plan, config, given.gateway)  # what cannot be one is not put on the device
        self._gateway, self._untold = given.gateway, True
        return config

    async def _put_back(self, plan: TunnelPlan, config: WireGuardConfig | None = None) -> None:
        """Begin to shake hands anew; with another configuration, if there is one."""
        if self._running is None:
            raise LeaseLost(f"shaking hands anew with {plan.endpoint}", "the tunnel is not up")
        config = config or self._running
        counted = await self._device.transfer()
        await self._device.put_back(config.setconf(plan.endpoint, plan.mark))
        self._running = config
        self._health.put_back(*counted)

    async def _move(self, plan: TunnelPlan) -> None:
        """Give the device the plan's addresses, and none but those; the new ones first, so that it always has a way."""
        await routing.heal(self._fitted(plan))
        await self._around.ask(plan.dns)
        await routing.keep_only(plan)

    def _fitted(self, plan: TunnelPlan) -> TunnelPlan:
        return plan if self._mtu is None else replace(plan, mtu=self._mtu)

    async def _hands_shaken(self, patience: float) -> bool:
        """Wait for the first handshake of a peer that is new on the device; say whether it came."""
        until, wait = time.monotonic() + patience, 0.01
        while time.monotonic() < until:
            if await self._device.handshake():
                return True
            await asyncio.sleep(wait)
            wait = min(0.2, wait * 1.3)
        return False

    async def _no_answer(self, plan: TunnelPlan, patience: float) -> NoAnswer:
        doing = f"shaking hands with {plan.endpoint}"
        with contextlib.suppress(VpnpfError):  # that nobody answered is known all the same
            if offline := await uplink.offline(doing, plan, self._options.outside):
                return offline
        return NoAnswer(
            doing,
            f"no answer in {patience:g} s",
            "is this machine online, is UDP let out, is its clock right, and is the key still valid at the provider?",
        )

    async def _read(self, server: int) -> WireGuardConfig:
        path = self._options.configs[server]
        config = self._configs[server] = parse(await in_thread(read_text, path), path)
        return config


def _identity(config: WireGuardConfig) -> str:
    """Server and key, told by digests that give neither away."""
    server = blake2s(config.public_key.encode(), digest_size=6).hexdigest()
    key = blake2s(config.private_key.encode(), digest_size=6).hexdigest()
    return f"wireguard {server} {key}"
