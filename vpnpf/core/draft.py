"""The memory while it changes: what every fact has in common, whoever brings it."""

from __future__ import annotations

import math
from types import MappingProxyType

from msgspec.structs import replace

from vpnpf.core.remedies import Step, for_exit, noted
from vpnpf.core.schedule import HANDSHAKE_DEAD, SILENT
from vpnpf.core.state import ForwardState, Job, Machine, PortTest, placed, wishes_for
from vpnpf.events import (
    ExitDiffers,
    GatewayReset,
    Notice,
    PortLost,
    RemedyTaken,
)
from vpnpf.model import (
    EpochRule,
    Proof,
    Remedy,
    Tunnel,
    TunnelHealth,
    TunnelPlan,
)
from vpnpf.protocol.epoch import Epoch, natpmp_lost, pcp_lost, recreate_at


class Draft:
    """A machine on its way to the next, with the notices that come of it."""

    def __init__(self, machine: Machine, now: float) -> None:
        self.machine = machine
        self.now = now
        self.notices: list[Notice] = []

    def _climb(self, step: Step | None) -> None:
        """Take a rung of the ladder: note it, tell it, and prepare what the planner will ask for."""
        if step is None:
            return
        machine = self.machine
        self._set(taken=noted(machine.taken, step, self.now))
        self.notices.append(RemedyTaken(step.remedy, step.cause, step.forward))
        match step.remedy:
            case Remedy.REMAP:
                wish = self._of(step.forward).wish
                self._forward(step.forward, wish=replace(wish, token="") if wish else None)
            case Remedy.REKEY:
                self._set(rekey_due=True)
            case Remedy.RESTART:
                self._tunnel_lost()
            case Remedy.NEXT_SERVER:
                self._set(server=(machine.server + 1) % machine.servers, planned=False)
                if machine.tunnel is not None:
                    self._tunnel_lost()
            case Remedy.RETRY | Remedy.TELL:
                pass

    def _restart(self, cause: str) -> None:
        self._set(rekey_due=False)
        self._climb(Step(Remedy.RESTART, cause))

    def _epoch(self, epoch: Epoch, rule: EpochRule, granted: str) -> None:
        """Hold what the gateway says of its age against the last; `granted`: the forward whose answer it is."""
        before = self.machine.epoch
        lost = (pcp_lost if rule is EpochRule.PCP else natpmp_lost)(before, epoch)
        self._set(epoch=epoch)
        last = self.machine.reset_at
        if not lost or before is None or (last is not None and last > self.now):
            return  # all is well, or everything is to be asked for anyway
        at = recreate_at(self.now, last)
        others = [f for f in self.machine.forwards if f.lease is not None and f.spec.name != granted]
        for forward in others:
            due = at if forward.renew_at is None else min(at, forward.renew_at)
            self._forward(forward.spec.name, renew_at=due)
        self._set(reset_at=at)
        self.notices.append(GatewayReset(f"its epoch is {epoch.seconds} s, after {before.seconds} s"))

    def _exit(self, seen: str) -> None:
        """Compare what the internet sees with what the gateway says."""
        machine = self.machine
        says = next((f.lease.exit_address for f in machine.forwards if f.lease and f.lease.exit_address), None)
        differs = says if says is not None and says != seen else ""
        new = (differs, seen) != (machine.exit_differs, machine.exit_seen)
        since = self.now if new else machine.exit_since
        self._set(exit_seen=seen, exit_at=self.now, exit_differs=differs, exit_since=since)
        if differs and new:
            self.notices.append(ExitDiffers(differs, seen))
        self._climb(for_exit(self.machine, self.now))

    def _planned(self, plan: TunnelPlan) -> None:
        """Another server or key knows nothing of what was held: it is asked for the same ports."""
        other = plan.identity != self.machine.plan.identity
        if other:
            held = {f.spec.name: f.wish for f in self.machine.forwards if f.wish is not None}
            self._set(
                held={**self.machine.held, self.machine.plan.identity: held}, saved=(), epoch=None, exit_differs=""
            )
        self._set(plan=plan, planned=True, places=placed(self.machine.places, plan))
        if other:
            wishes = wishes_for(self.machine.held, plan.identity)
            for forward in self.machine.forwards:
                if forward.lease is not None:
                    self._drop(forward, "it belongs to another server")
                self._forward(forward.spec.name, wish=wishes.get(forward.spec.name))

    def _tunnel_lost(self) -> None:
        """Forget what depended on the tunnel; leases are kept until they end, and renewed once it is back."""
        self._set(tunnel=None, health=None, planned=False, rekey_due=False)
        self._set(silent_since=None, tunnel_stirred=False)
        self._forget()

    def _moved(self, tunnel: Tunnel) -> None:
        """The tunnel has other addresses, on the same device: to all that goes through it, it is another one."""
        number, before = self.machine.tunnel_number, self.machine.mtu_for
        self._set(tunnel=tunnel, plan=tunnel.plan, tunnel_number=number + 1, exit_at=-math.inf, stirred_at=-math.inf)
        if before == number:  # the device's, and it stays
            self._set(mtu_for=number + 1)
        self._forget()

    def _forget(self) -> None:
        """What was seen and is under way through a tunnel means nothing for the next."""
        ended_with_it = {
            key: replace(job, running="", not_before=0.0)
            for key, job in self.machine.jobs.items()
            if ":" in key or key in _OF_THE_TUNNEL
        }
        jobs = MappingProxyType({**self.machine.jobs, **ended_with_it})
        self._set(jobs=jobs, switch=replace(self.machine.switch, told=None))
        for forward in self.machine.forwards:
            # What came in through that tunnel proves nothing of the next.
            proofs = replace(forward.proofs, reachable=Proof())
            lost = {"replaced": None, "sockets": None, "hits_before": None, "tested": PortTest()}
            self._forward(forward.spec.name, proofs=proofs, **lost)
            if forward.lease is not None:
                self._forward(forward.spec.name, renew_at=self.now)

    def _stopped(self) -> None:
        """Without the tunnel nothing is held any more that anybody could reach; it stays a wish for the next start."""
        self._set(tunnel=None, health=None, tunnel_gone=True)
        for forward in self.machine.forwards:
            self._forward(forward.spec.name, lease=None, replaced=None, renew_at=None, sockets=None, announced=None)

    def _expire(self) -> None:
        for forward in self.machine.forwards:
            if forward.replaced is not None and ended(forward.replaced.expires_at, self.now):
                self._forward(forward.spec.name, replaced=None)
            if forward.lease is not None and ended(forward.lease.expires_at, self.now):
                self._drop(self._of(forward.spec.name), "the lease ran out before it could be renewed")

    def _drop(self, forward: ForwardState, cause: str) -> None:
        if forward.announced is not None:
            self.notices.append(PortLost(forward.spec.name, forward.announced.external_port, cause))
        self._forward(
            forward.spec.name,
            lease=None,
            replaced=None,
            wish=None if forward.unwanted else forward.lease or forward.wish,
            unwanted=False,
            renew_at=None,
            sockets=None,
            announced=None,
        )

    def _tested(self, name: str, found: bool | None) -> None:
        """A knock on the port; None: whoever was to knock could not be asked."""
        before = self._of(name).tested
        self._forward(name, tested=PortTest(before.times + 1, self.now, before.open if found is None else found))

    def _of(self, name: str) -> ForwardState:
        return next(forward for forward in self.machine.forwards if forward.spec.name == name)

    def _forward(self, name: str, **changes: object) -> None:
        forwards = tuple(replace(f, **changes) if f.spec.name == name else f for f in self.machine.forwards)
        self._set(forwards=forwards)

    def _set(self, **changes: object) -> None:
        self.machine = replace(self.machine, **changes)

    def _set_job(self, key: str, job: Job) -> None:
        self._set(jobs=MappingProxyType({**self.machine.jobs, key: job}))


def dead(health: TunnelHealth) -> bool:
    """Whether a tunnel accepts nothing more, or its server has been silent for too long."""
    return _too_old(health) or health.silent_for > SILENT


_OF_THE_TUNNEL = ("announcements", "exit", "tunnel-watch", "mtu", "switch")
"""Keys of work that goes on through one tunnel and means nothing for the next."""


def _too_old(health: TunnelHealth) -> bool:
    return health.handshakes and (health.handshake_age is None or health.handshake_age > HANDSHAKE_DEAD)


def why_dead(health: TunnelHealth) -> str:
    """What makes a dead tunnel dead."""
    if health.silent_for > SILENT:
        return f"the server has been silent for {health.silent_for:.0f} s"
    if health.handshake_age is None:
        return "the tunnel never shook hands"
    return f"the tunnel's handshake is too old: {health.handshake_age:.0f} s"


def ended(at: float | None, now: float) -> bool:
    """Whether what ends then (None: never) has ended."""
    return at is not None and at <= now
