"""The memory as observers may see it: what they get is one frozen State. Pure."""

from __future__ import annotations

from vpnpf.core.peers import told
from vpnpf.core.state import Machine, exit_problem, heard
from vpnpf.events import ApplyFirewall
from vpnpf.model import Forward, State


def view(machine: Machine) -> State:
    """What observers may know."""
    switch, known = machine.switch, heard(machine)
    return State(
        profile=machine.spec.name,
        provider=machine.spec.provider,
        phase=machine.phase,
        phase_since=machine.phase_since,
        tunnel=machine.tunnel,
        health=machine.health,
        policy=machine.spec.policy,
        firewall=machine.applied.stage if machine.applied else None,
        forwards=tuple(
            Forward(
                spec=forward.spec,
                lease=forward.lease,
                listen_port=forward.listen_port if forward.lease else None,
                renew_at=forward.renew_at,
                announced=forward.announced is not None,
                proofs=forward.proofs,
                client_settings=forward.settings,
                client_settings_at=forward.settings_at if forward.settings else None,
                packets=forward.packets,
                packets_at=forward.packets_at,
                peers=told(forward.peers, looking=forward.sockets is not None),
            )
            for forward in machine.forwards
        ),
        problems=tuple(
            filter(None, (exit_problem(machine), *(job.problem for _, job in sorted(machine.jobs.items()))))
        ),
        timeline=machine.timeline,
        servers=machine.servers,
        lock=machine.spec.lock,
        namespace=machine.spec.namespace,
        exit_seen=machine.exit_seen,
        policy_stands=_policy_stands(machine),
        reading=machine.reading,
        unapplied=_unapplied(machine),
        provider_policy=switch.seen if known else None,
        provider_policy_at=switch.seen_at if known else None,
        disagree=f"the provider {'still ' if switch.told else ''}{switch.differs}" if known and switch.differs else "",
        uses=tuple(machine.watch.uses.values()),
        server=machine.server + 1,
        places=machine.places,
        phase_cause=machine.phase_cause,
        handshake_at=_handshake_at(machine),
    )


def _handshake_at(machine: Machine) -> float | None:
    """When the tunnel shook hands last; a machine's own link never does."""
    tunnel, health = machine.tunnel, machine.health
    if tunnel is None or tunnel.plan.direct or health is None or health.handshake_age is None:
        return None
    return machine.health_at - health.handshake_age


def _policy_stands(machine: Machine) -> bool:
    applied, reading = machine.applied, machine.reading
    if applied is None or reading is None or machine.job("firewall").failed == "ApplyFirewall":
        return False
    return applied.inbound == (machine.inbound or machine.spec.policy) and reading.intact


def _unapplied(machine: Machine) -> str:
    """Why the kernel has not this very policy; what failed for another one is over."""
    job = machine.job("firewall")
    if job.problem is None or not isinstance(job.last, ApplyFirewall) or job.failed != "ApplyFirewall":
        return ""
    return job.problem.message if job.last.policy.inbound == (machine.inbound or machine.spec.policy) else ""
