"""What is to be done now: the difference between what should be and what was last seen.

The planner asks for work and never assumes that it happened. It is idempotent: planning twice at the same
moment asks for nothing twice, since of each key one piece of work runs at a time. All that it puts off for
its time goes into `wake_at`, so that is later than now by construction.
"""

from __future__ import annotations

import math
from types import MappingProxyType

from msgspec.structs import replace

from vpnpf.core.knocks import knock_due
from vpnpf.core.policy import guarded, intact, policy_for, stands, stays_closed
from vpnpf.core.proofs import wanted_settings
from vpnpf.core.remedies import HOPELESS
from vpnpf.core.schedule import EXIT_AGAIN, next_look
from vpnpf.core.state import ForwardState, Machine
from vpnpf.core.switch import switch_for
from vpnpf.events import (
    Acquire,
    ApplyFirewall,
    CheckExit,
    CheckPort,
    CheckTunnel,
    FitMtu,
    Listen,
    Order,
    PlanTunnel,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    ReadSwitch,
    Rekey,
    Release,
    RemoveFirewall,
    SaveLeases,
    SaveUses,
    SetClient,
    SetSwitch,
    StartTunnel,
    StopTunnel,
    WatchFirewall,
    WatchTunnel,
    Work,
)
from vpnpf.model import FirewallStage, MappingRequest, Phase, Tunnel

NOW = -math.inf
STIRRED_AGAIN = 1.0
"""Seconds; what wants to be looked at all the time is left to the regular looks in between."""
HEARD_AGAIN = 0.25
"""Seconds; whoever announces himself faster is not heard each time."""


class Planner:
    """One look at a whole machine."""

    def __init__(self, machine: Machine, now: float) -> None:
        self.machine = machine
        self.now = now
        self.orders: list[Order] = []
        self._wake = math.inf

    def plan(self) -> Machine:
        """Return the machine with the orders noted in it; `self.orders` has them."""
        if self.machine.phase is not Phase.STOPPED:
            if self.machine.stopping:
                self._wind_down()
            else:
                self._go_on()
        return replace(self.machine, wake_at=None if math.isinf(self._wake) else self._wake)

    # -- going on -------------------------------------------------------------------------------

    def _go_on(self) -> None:
        machine = self.machine
        self._firewall()
        self._ends()
        if machine.tunnel is None:
            if not machine.planned:
                self._order(PlanTunnel(machine.server))
            elif guarded(machine) and intact(machine) and not self._unsettled():
                self._order(StartTunnel(machine.plan))
            return
        if machine.rekey_due:
            self._order(Rekey(machine.tunnel))
        elif machine.tunnel_stirred:
            if self._order(CheckTunnel(machine.tunnel)):
                self.machine = replace(self.machine, tunnel_stirred=False)
        else:
            self._order(CheckTunnel(machine.tunnel), machine.health_at + machine.timing.tunnel)
        self._greet()
        if guarded(machine):
            for forward in machine.forwards:
                self._follow(forward, machine.tunnel)
            self._watch(machine.tunnel)
            if machine.switchable:
                self._switch(machine.tunnel)
            self._save()

    def _watch(self, tunnel: Tunnel) -> None:
        """What goes on beside the forwards, for all of them."""
        machine = self.machine
        if machine.announces:
            self._order(Listen(tunnel), machine.heard_at + HEARD_AGAIN)
        if machine.watched:
            if not machine.rekey_due:
                self._order(WatchTunnel(tunnel), machine.stirred_at + STIRRED_AGAIN)
            if machine.mtu_for != machine.tunnel_number and machine.phase is Phase.READY:
                self._order(FitMtu(tunnel))
        if machine.exit_check and any(f.lease is not None and f.lease.exit_address for f in machine.forwards):
            self._order(CheckExit(tunnel), machine.exit_at + EXIT_AGAIN)

    def _switch(self, tunnel: Tunnel) -> None:
        """The provider's own switch: read it, set it if it differs, and look until it says so itself."""
        machine, switch, timing = self.machine, self.machine.switch, self.machine.timing
        wanted = switch_for(machine, self.now)
        for entry in machine.spec.policy.openings:
            if entry.ends_at is not None:
                self._wake_at(entry.ends_at)
        if switch.seen is None or switch.seen_for != machine.tunnel_number:
            self._order(ReadSwitch(tunnel))
        elif wanted is None or (switch.seen == wanted and switch.told is None):
            self._order(ReadSwitch(tunnel), switch.seen_at + timing.switch)
        elif switch.told != wanted or self.now >= switch.told_at + timing.switch_again:
            job, due = machine.job("switch"), switch.told_at + timing.switch_set
            if job.problem is not None and job.problem.kind not in HOPELESS:
                due = max(due, job.not_before)  # it asked for patience; what it refused is another matter by now
            # A look that is under way can wait: what it would say is older than what is wanted.
            self._order(SetSwitch(tunnel, wanted), due, instead=True)
        else:
            again = next_look(switch.seen_at - switch.told_at, timing.soonest_switch, timing.switch_apart)
            self._order(ReadSwitch(tunnel), switch.seen_at + again)
            self._wake_at(switch.told_at + timing.switch_again)

    def _firewall(self) -> None:
        machine = self.machine
        wanted = policy_for(machine)
        if machine.applied != wanted or not intact(machine) or self._doubtful():
            self._order(ApplyFirewall(wanted))
            return
        if machine.watched:
            self._order(WatchFirewall())
        if machine.firewall_stirred:
            if self._order(ReadFirewall()):
                self.machine = replace(self.machine, firewall_stirred=False)
            return
        again = min(map(self._count_again, machine.forwards), default=machine.timing.firewall)
        self._order(ReadFirewall(), machine.reading_at + again)

    def _doubtful(self) -> bool:
        """Whether a change of the rule set failed: cut off at its deadline, it may be in force all the same."""
        return self.machine.job("firewall").failed == "ApplyFirewall"

    def _unsettled(self) -> bool:
        """Whether the kernel may have, or get, another rule set than that which was applied last.

        A change that was under way for a tunnel that is lost again opens what it was to open all the same.
        """
        job = self.machine.job("firewall")
        opening = isinstance(job.last, ApplyFirewall) and job.last.policy.stage is FirewallStage.CONNECTED
        return self._doubtful() or (opening and job.running == "ApplyFirewall")

    def _ends(self) -> None:
        """What ends by itself is to be noticed then, also while nothing can be done for it."""
        leases = (lease for forward in self.machine.forwards for lease in (forward.lease, forward.replaced))
        rules = self.machine.applied.forwards if self.machine.applied else ()
        for at in (*(lease.expires_at for lease in leases if lease), *(rule.expires_at for rule in rules)):
            if at is not None:
                self._wake_at(at)

    def _count_again(self, forward: ForwardState) -> float:
        timing = self.machine.timing
        if forward.lease is None or forward.proofs.reachable.ok:
            return timing.firewall
        return next_look(self.machine.reading_at - forward.leased_at, timing.soonest_count, timing.firewall)

    def _follow(self, forward: ForwardState, tunnel: Tunnel) -> None:
        """Lease, then firewall (done by now), then client, then sockets."""
        lease, name = forward.lease, forward.spec.name
        if lease is not None and forward.unwanted:
            self._order(Release(name, tunnel, lease), instead=True)
            return
        request = MappingRequest(forward.spec, lease or forward.wish, renewal=lease is not None)
        self._order(Acquire(name, tunnel, request), NOW if lease is None else forward.renew_at)
        if lease is None:
            return
        if stands(self.machine, forward, self.now):
            self._tell(forward)
            seen_here = forward.spec.client_local and forward.spec.target is None
            if seen_here and forward.listen_port is not None:
                self._look(forward, forward.listen_port)
                self._order(CheckPort(name, forward.listen_port), knock_due(self.machine, forward))

    def _greet(self) -> None:
        """Look at the torrent clients while the port is asked for: a wrong password is known early, who is in is in."""
        for forward in self.machine.forwards:
            if forward.spec.client is not None and self.machine.job(f"client:{forward.spec.name}").last is None:
                self._order(ReadClient(forward.spec.name))

    def _tell(self, forward: ForwardState) -> None:
        wanted = wanted_settings(self.machine, forward)
        if wanted is None:
            return
        timing, listening = self.machine.timing, forward.proofs.listening
        again = forward.settings_at + timing.client
        if forward.settings != wanted or forward.settings_for != self.machine.tunnel_number:
            self._order(SetClient(forward.spec.name, wanted))
        elif listening.ok is False and listening.since is not None:
            if forward.settings_at < listening.since:
                # The sockets went: somebody may have set another port, or the client was started anew.
                self._order(ReadClient(forward.spec.name))
            else:
                # The right settings and no socket: the client sits on dead sockets, and setting it anew makes it bind.
                first = listening.since + timing.rebind
                self._order(SetClient(forward.spec.name, wanted), first if forward.settings_at < first else again)
        else:
            self._order(ReadClient(forward.spec.name), again)

    def _look(self, forward: ForwardState, port: int) -> None:
        timing = self.machine.timing
        if forward.sockets is None or (not forward.proofs.listening.ok and forward.settings_at > forward.sockets_at):
            due = NOW
        elif forward.proofs.listening.ok:
            due = forward.sockets_at + timing.sockets
        else:
            age = forward.sockets_at - max(forward.leased_at, forward.settings_at)
            due = forward.sockets_at + next_look(age, timing.soonest_look, timing.sockets)
        self._order(ReadSockets(forward.spec.name, port), due)

    def _save(self) -> None:
        held = tuple((f.spec.name, f.wish) for f in self.machine.forwards if f.wish is not None)
        if _ports(held) != _ports(self.machine.saved):
            self._order(SaveLeases(self.machine.plan.identity, held))
        if self.machine.uses_due:
            self._order(SaveUses(tuple(self.machine.watch.uses.values())))

    # -- stopping -------------------------------------------------------------------------------

    def _wind_down(self) -> None:
        """Give the leases back, take the tunnel down, and only then let the machine's own traffic out again."""
        machine = self.machine
        if machine.watch.uses != machine.uses_saved:
            self._order(SaveUses(tuple(machine.watch.uses.values())))
        connected = machine.applied is not None and machine.applied.stage is FirewallStage.CONNECTED
        if machine.tunnel is not None and connected and not machine.force and not machine.tunnel_gone:
            held = [f for f in machine.forwards if f.lease is not None and not f.released]
            for forward in held:
                assert forward.lease is not None
                self._order(Release(forward.spec.name, machine.tunnel, forward.lease), instead=True)
            if held:
                return
        if not machine.tunnel_gone:
            self._order(StopTunnel(), instead=True)
            return
        if machine.firewall_gone:
            return
        if stays_closed(machine):
            self._order(ApplyFirewall(policy_for(machine)), instead=True)
        else:
            self._order(RemoveFirewall(), instead=True)

    # -- orders ---------------------------------------------------------------------------------

    def _order(self, work: Work, after: float | None = NOW, *, instead: bool = False) -> bool:
        """Ask for work once `after` has come; None: never. `instead` displaces other work of the same key.

        Says whether it was asked for just now.
        """
        job = self.machine.job(work.key)
        kind = type(work).__name__
        if after is None or job.running == kind or (job.running and not instead):
            return False
        due = max(after, job.not_before) if _again(work, job.last) else after
        if due > self.now:
            self._wake_at(due)
            return False
        generation = self.machine.generation + 1
        jobs = MappingProxyType(
            {**self.machine.jobs, work.key: replace(job, generation=generation, running=kind, last=work)}
        )
        self.machine = replace(self.machine, generation=generation, jobs=jobs)
        self.orders.append(Order(work, generation))
        return True

    def _wake_at(self, at: float) -> None:
        if at > self.now:
            self._wake = min(self._wake, at)


def _again(work: Work, last: Work | None) -> bool:
    """Whether it was tried just now: what another rule set, plan or port is wanted for need not wait for that."""
    if isinstance(work, ApplyFirewall | StartTunnel | SetClient | SetSwitch):
        return work == last
    if isinstance(work, PlanTunnel):
        # It is planned anew for the next try to start, so not before that is due.
        return isinstance(last, PlanTunnel | StartTunnel)
    return type(work) is type(last)


def _ports(leases: tuple[tuple[str, object], ...]) -> list[tuple[str, object, object]]:
    return [(name, getattr(lease, "external_port", None), getattr(lease, "token", None)) for name, lease in leases]
