"""Learning a fact: what an event changes in the engine's memory. Decides nothing about what to do next."""

from __future__ import annotations

import math
from types import MappingProxyType

from msgspec.structs import replace

from vpnpf.core.draft import dead, ended, why_dead
from vpnpf.core.failing import ANOTHER, LEASE_AGAIN, LOOKS
from vpnpf.core.peers import met, through
from vpnpf.core.policy import counted, policy_for, stands, stays_closed
from vpnpf.core.proofs import count, wanted_settings
from vpnpf.core.remedies import Step
from vpnpf.core.schedule import HANDSHAKE_DEAD, renew_at
from vpnpf.core.state import Job, PortTest
from vpnpf.core.switch import absorbed, as_said, switch_for
from vpnpf.core.unused import Watch, blind, left_open, looked, reopened, worth_keeping
from vpnpf.core.wishes import Wishing
from vpnpf.events import (
    Announced,
    Answer,
    ClientSeen,
    Event,
    ExitSeen,
    FirewallApplied,
    FirewallRead,
    FirewallRemoved,
    FirewallStirred,
    LeaseGranted,
    LeaseReleased,
    LeaseRenewed,
    LeasesSaved,
    MtuFitted,
    MtuLowered,
    NewPortWanted,
    OpeningUnused,
    PolicyChanged,
    PolicyWanted,
    PortGranted,
    PortTested,
    ProblemOver,
    RenewWanted,
    ServerWanted,
    SocketsSeen,
    StopRequested,
    SwitchRead,
    Tick,
    TunnelCameUp,
    TunnelPlanned,
    TunnelRekeyed,
    TunnelSeen,
    TunnelStirred,
    TunnelStopped,
    UsesSaved,
    WorkFailed,
)
from vpnpf.model import (
    Connection,
    FailureKind,
    FirewallReading,
    Proofs,
    Remedy,
    Stirring,
    Tunnel,
)
from vpnpf.protocol.epoch import Epoch

UNDOING = frozenset({"StopTunnel", "RemoveFirewall", "Release"})
"""Work whose success ends what went wrong with itself; another problem under its key is given up, not over."""


class Absorber(Wishing):
    """One event on its way into the memory."""

    def absorb(self, event: Event) -> None:
        """Take the event in. An answer of an older generation changes nothing."""
        match event:
            case Tick():
                pass
            case StopRequested(force, closed):
                self._set(stopping=True, force=self.machine.force or force, closed=closed)
            case PolicyWanted():
                self._wanted(event)
            case RenewWanted(forward=name):
                self._renew_wanted(name)
            case NewPortWanted(forward=name):
                self._port_wanted(name)
            case ServerWanted(server=number):
                self._server_wanted(number)
            case _:
                job = self.machine.job(event.key)
                if event.generation != job.generation or not job.running:
                    return
                if isinstance(event, WorkFailed):
                    self._failed(event, job)
                else:
                    self._succeeded(event, job)
        self._expire()

    def _wanted(self, event: PolicyWanted) -> None:
        before, policy = self.machine.spec.policy, event.policy
        watch = reopened(self.machine.watch, before, policy, event.reopen)
        self._set(spec=replace(self.machine.spec, policy=policy))
        self._used(watch)
        if policy != before:
            self.notices.append(PolicyChanged(before, policy))

    def _used(self, watch: Watch) -> None:
        """Another account of what is used: what was closed for not being so is left out of the rule set."""
        machine = self.machine
        due = worth_keeping(machine.uses_saved, watch.uses, machine.spec.policy)
        self._set(watch=watch, uses_due=due, inbound=left_open(machine.spec.policy, watch.uses))

    def _succeeded(self, event: Answer, job: Job) -> None:  # noqa: C901, PLR0915 - one flat table of answers
        if isinstance(event, LeaseGranted) and ended(event.lease.expires_at, self.now):
            cause = "it had ended before it arrived"
            late = WorkFailed(event.generation, event.key, FailureKind.TRANSIENT, "taking a lease", cause)
            self._failed(late, job)
            return
        if job.running in LOOKS and job.failed not in {"", job.running} and not self._as_wanted(event):
            self._set_job(event.key, replace(job, running="", not_before=0.0))
        elif job.running == "Release" and not self.machine.stopping:
            # What was wrong with asking for a port is over once one is given.
            self._set_job(event.key, replace(job, running="", failures=0, not_before=0.0))
        else:
            if job.problem is not None and (job.running not in UNDOING or job.failed == job.running):
                self.notices.append(ProblemOver(job.problem))
            self._set_job(event.key, replace(job, running="", failed="", failures=0, not_before=0.0, problem=None))
        match event:
            case FirewallApplied(policy=policy, reading=reading):
                self._set(applied=policy)
                self._read(reading)
                wound_down = self.machine.tunnel_gone and stays_closed(self.machine)
                if wound_down and policy.stage is policy_for(self.machine).stage:
                    self._set(firewall_gone=True)
            case FirewallRead(reading=reading):
                self._read(reading)
            case FirewallRemoved():
                self._set(applied=None, reading=None, reading_at=self.now, firewall_gone=True)
            case TunnelPlanned(plan=plan):
                self._planned(plan)
            case TunnelCameUp(tunnel=tunnel, health=health):
                number = self.machine.tunnel_number + 1
                # The plan may know more now: addresses that the server gave.
                self._set(tunnel=tunnel, plan=tunnel.plan, tunnel_number=number, health=health, health_at=self.now)
                self._set(exit_at=-math.inf, stirred_at=-math.inf)
            case TunnelSeen(health=health):
                # After a suspend the tunnel is given until the next look: it shakes hands anew when something is sent.
                awake = self.now - self.machine.health_at <= HANDSHAKE_DEAD
                self._set(health=health, health_at=self.now)
                if awake and dead(health) and not self.machine.rekey_due:
                    self._climb(Step(Remedy.REKEY, why_dead(health)))
            case TunnelRekeyed(health=health, tunnel=anew):
                self._rekeyed(anew)
                self._set(health=health, health_at=self.now, rekey_due=False, silent_since=None)
                if dead(health):
                    self._restart("it shook hands anew and is dead all the same")
            case TunnelStirred(stirring=stirring):
                self._stirred(stirring)
            case MtuFitted(mtu=mtu):
                self._fitted(mtu)
            case FirewallStirred():
                self._set(firewall_stirred=True)
            case Announced(epoch=epoch, at=at, rule=rule):
                self._set(heard_at=self.now)
                self._epoch(Epoch(epoch, at), rule, "")
            case ExitSeen(address=address):
                self._exit(address)
            case TunnelStopped():
                self._stopped()
            case LeaseGranted():
                self._granted(event)
            case LeaseReleased(forward=name):
                if self.machine.stopping:
                    self._forward(name, released=True)
                else:
                    self._drop(self._of(name), ANOTHER)
            case ClientSeen(forward=name, settings=settings):
                number = self.machine.tunnel_number if event.set else self._of(name).settings_for
                self._forward(name, settings=settings, settings_at=self.now, settings_for=number)
            case SocketsSeen(forward=name, sockets=sockets, connections=connections):
                self._forward(name, sockets=sockets, sockets_at=self.now)
                if connections is not None:
                    self._met(name, connections)
            case PortTested(forward=name, port=port, open=found):
                if port == self._of(name).listen_port:
                    self._tested(name, found)
            case SwitchRead(policy=policy, told=told):
                self._set(switch=absorbed(self.machine, policy, told, self.now))
            case LeasesSaved(leases=leases):
                self._set(saved=leases)
            case UsesSaved(uses=uses):
                self._set(uses_saved=MappingProxyType({use.what: use for use in uses}), uses_due=False)
            case WorkFailed():  # handled apart
                pass

    def _met(self, name: str, connections: tuple[Connection, ...]) -> None:
        forward, tunnel = self._of(name), self.machine.tunnel
        if tunnel is not None and forward.listen_port is not None:
            here = through(connections, tunnel, forward.listen_port)
            peers, present = met(forward.peers, forward.present, here, self.now)
            self._forward(name, peers=peers, present=present)

    def _as_wanted(self, event: Answer) -> bool:
        """Whether a look shows what a change was to bring about: nobody would try that again."""
        if isinstance(event, SwitchRead):
            return as_said(event.policy) == switch_for(self.machine, self.now)
        if not isinstance(event, ClientSeen):
            return False
        forward = self._of(event.forward)
        ours = forward.settings_for == self.machine.tunnel_number
        return ours and event.settings == wanted_settings(self.machine, forward)

    def _stirred(self, stirring: Stirring) -> None:
        """A tunnel without answers shakes hands anew at once: whoever restarted has forgotten the old keys."""
        self._set(stirred_at=self.now)
        if not stirring.silent_for:
            self._set(tunnel_stirred=True)
        elif self.machine.silent_since is None and self.machine.job("tunnel").failed != "Rekey":  # or it never can
            self._set(silent_since=self.now - stirring.silent_for)
            self._climb(Step(Remedy.REKEY, stirring.cause))

    def _rekeyed(self, anew: Tunnel | None) -> None:
        """A server that was silent may have restarted, and its gateway with it: whatever is held is asked for again.

        So it is if the server had forgotten the key; then the tunnel may even have other addresses.
        """
        if anew is not None and anew != self.machine.tunnel:
            self._moved(anew)
        if anew is not None or self.machine.silent_since is not None:
            for forward in self.machine.forwards:
                key = f"lease:{forward.spec.name}"
                job = self.machine.job(key)
                if forward.lease is not None:
                    self._forward(forward.spec.name, renew_at=self.now)
                if (
                    job.failed == "Acquire" and job.not_before <= self.now + 2 * LEASE_AGAIN
                ):  # else somebody asked for it
                    self._set_job(key, replace(job, not_before=0.0))

    def _fitted(self, mtu: int) -> None:
        tunnel = self.machine.tunnel
        assert tunnel is not None
        self._set(mtu_for=self.machine.tunnel_number)
        if mtu < tunnel.plan.mtu:
            self.notices.append(MtuLowered(tunnel.plan.mtu, mtu))

    def _granted(self, event: LeaseGranted) -> None:
        forward, lease = self._of(event.forward), event.lease
        held = forward.lease
        number = self.machine.tunnel_number
        if lease.epoch is not None:
            self._epoch(Epoch(lease.epoch, lease.epoch_at or lease.granted_at), lease.epoch_rule, event.forward)
        if held is not None and (held.external_port, held.internal_port) == (lease.external_port, lease.internal_port):
            self._forward(event.forward, lease=lease, wish=lease, leased_for=number, renew_at=renew_at(lease, self.now))
            self.notices.append(LeaseRenewed(event.forward, lease))
            return
        self._forward(
            event.forward,
            lease=lease,
            # After two changes in a row the first port is the one that the client still listens on.
            replaced=forward.replaced or held,
            wish=lease,
            leased_at=self.now,
            leased_for=number,
            renew_at=renew_at(lease, self.now),
            released=False,
            sockets=None,
            tested=PortTest(),
            packets=0,
            packets_at=None,
            hits_before=None,
            # What was proven was proven of another port.
            proofs=Proofs(tunnel=forward.proofs.tunnel),
        )
        self.notices.append(PortGranted(event.forward, lease, held.external_port if held else None))

    def _read(self, reading: FirewallReading) -> None:
        """The rule set as it is; the first reading of one that has a forward's port is what its hits count from."""
        self._set(reading=reading, reading_at=self.now)
        if self.machine.tunnel is None:
            return
        totals: dict[str, int] = {}
        for name, _, hits in reading.hits if reading.intact else ():
            totals[name] = totals.get(name, 0) + hits.packets
        for forward in self.machine.forwards:
            name, before = forward.spec.name, forward.counter
            total = totals.get(name, 0)
            if forward.hits_before is None:
                if reading.intact and stands(self.machine, forward, self.now):
                    first = {protocol: each.packets for protocol, each in count(self.machine, name).items()}
                    self._forward(name, hits_before=MappingProxyType(first), counter=total)
            elif name in totals and total != before:
                # One that went back begins anew: another program emptied it.
                more = total - before if total > before else total
                at = self.now if more else forward.packets_at
                self._forward(name, counter=total, packets=forward.packets + more, packets_at=at)
        self._look_for_use()

    def _look_for_use(self) -> None:
        machine = self.machine
        counts, policy = counted(machine, self.now), machine.spec.policy
        if counts is None:
            self._set(watch=blind(machine.watch))
            return
        watch, found = looked(
            machine.watch, counts, policy, machine.spec.forwards, self.now, 2 * machine.timing.firewall
        )
        if watch is not machine.watch:
            self._used(watch)
        for use in found:
            since = use.since if use.last is None else use.last
            self.notices.append(OpeningUnused(use.what, since, policy.report_unused or 0.0, use.closed))
