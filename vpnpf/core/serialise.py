"""States and notices as JSON values: what scripts are written against. Fields are added, never changed.

Times become RFC 3339 in UTC here; `offset` is wall-clock time minus CLOCK_BOOTTIME, in seconds.
"""

from __future__ import annotations

from datetime import UTC, datetime

from vpnpf.core.talk import talk
from vpnpf.core.timeline import phase_words
from vpnpf.events import (
    Disagrees,
    ExitDiffers,
    GatewayReset,
    LeaseRenewed,
    MtuLowered,
    Notice,
    OpeningUnused,
    PhaseChanged,
    PolicyChanged,
    PortAnnounced,
    PortGranted,
    PortLost,
    ProblemNoticed,
    ProblemOver,
    RemedyTaken,
    SwitchSeen,
    WishTaken,
)
from vpnpf.model import (
    PROOF_NAMES,
    Entry,
    Forward,
    Lease,
    Opening,
    Peer,
    Phase,
    PortPolicy,
    Problem,
    Proof,
    Proofs,
    ProviderPolicy,
    Server,
    State,
    Use,
)

Json = dict[str, object]


def time_of(at: float | None, offset: float) -> str | None:
    """RFC 3339 in UTC with milliseconds: "2026-05-04T03:02:01.000Z"; None also for what no date can say."""
    if at is None:
        return None
    try:
        date = datetime.fromtimestamp(at + offset, UTC)
    except (OverflowError, ValueError, OSError):
        return None
    return date.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def state_json(state: State, offset: float, now: float = 0.0) -> Json:
    """A state, whole, as it is at `now`: an entry of the allow-list that has ended by then lets nobody in."""
    tunnel, health, policy = state.tunnel, state.health, state.policy
    said = _switch(state.provider_policy)
    return {
        "profile": state.profile,
        "provider": state.provider,
        "phase": str(state.phase),
        "phase_since": time_of(state.phase_since, offset),
        "phase_text": phase_words(
            state.phase, state.lock, [each.proofs.firewall.ok is not False for each in state.forwards]
        ),
        "phase_cause": state.phase_cause,
        "phase_hint": _phase_hint(state),
        "tunnel": None
        if tunnel is None
        else {
            "interface": tunnel.interface,
            "backend": tunnel.backend,
            "endpoint": str(tunnel.plan.endpoint),
            "place": tunnel.plan.place,
            "addresses": list(tunnel.plan.addresses),
            "gateway": tunnel.gateway,
            "dns": list(tunnel.plan.dns),
            "mtu": tunnel.plan.mtu,
            "received": health.rx if health else 0,
            "sent": health.tx if health else 0,
            "handshake": time_of(state.handshake_at, offset),
        },
        "policy": {
            "mode": str(policy.mode),
            "allow": [*(["forwarded"] if policy.forwarded else []), *(str(each) for each in _open(policy, now))],
            "entries": [{"what": str(each), "until": time_of(each.ends_at, offset)} for each in _open(policy, now)],
            "stage": str(state.firewall) if state.firewall else None,
        },
        "provider_policy": {**said, "seen": time_of(state.provider_policy_at, offset)} if said else None,
        "disagree": state.disagree,
        "unused": [_unused(use, offset) for use in state.uses if use.reported],
        "lock": str(state.lock),
        "namespace": state.namespace or None,
        "forwards": [_forward(forward, offset) for forward in state.forwards],
        "problems": [_problem(problem, offset) for problem in state.problems],
        "server": {"number": tunnel.plan.server + 1 if tunnel else None, "of": state.servers},
        "servers": servers_json(state),
        "exit_seen": state.exit_seen,
        "timeline": [_entry(entry, offset) for entry in state.timeline],
    }


def servers_json(state: State) -> list[Json]:
    """The servers that a profile can go to."""
    return [_server(server, state.server) for server in state.places]


def state_event(state: State, now: float, offset: float) -> Json:
    """A state as a line of `--events`; `now` is CLOCK_BOOTTIME."""
    return {"time": time_of(now, offset), "event": "state", **state_json(state, offset, now)}


def notice_event(notice: Notice, at: float, profile: str, offset: float) -> Json:
    """A notice of a profile as a line of `--events`; `at` is when it was made, by CLOCK_BOOTTIME.

    "talk" has it in words, a line each, as `vpnpf run --verbose` says it.
    """
    said = {"talk": talk(notice, verbose=True)}
    return {"time": time_of(at, offset), "profile": profile, **notice_json(notice, offset), **said}


def notice_json(notice: Notice, offset: float) -> Json:  # noqa: C901, PLR0911 - one line a notice
    """A notice with its kind in "event"."""
    match notice:
        case PhaseChanged(before=before, after=after, cause=cause):
            return {"event": "phase", "before": str(before), "phase": str(after), "cause": cause}
        case PortGranted(forward=name, lease=lease, before=before):
            return {"event": "granted", "forward": name, "before": before, **_lease(lease, offset)}
        case LeaseRenewed(forward=name, lease=lease):
            return {"event": "renewed", "forward": name, **_lease(lease, offset)}
        case PortAnnounced(forward=name, lease=lease, listen_port=port, before=before, target=target):
            announced = {"forward": name, "before": before, "listen_port": port, "target": target}
            return {"event": "port", **announced, **_lease(lease, offset)}
        case PortLost(forward=name, external_port=port, cause=cause):
            return {"event": "port-lost", "forward": name, "external_port": port, "cause": cause}
        case RemedyTaken(remedy=remedy, cause=cause, forward=name):
            return {"event": "remedy", "remedy": str(remedy), "forward": name or None, "cause": cause}
        case WishTaken(wish=wish, forward=name, server=number):
            return {"event": "wish", "wish": str(wish), "forward": name or None, "server": number}
        case PolicyChanged(before=old, after=new):
            return {"event": "policy", "before": str(old.mode), "mode": str(new.mode)}
        case SwitchSeen(before=earlier, after=later):
            return {"event": "switch", "before": _switch(earlier), **(_switch(later) or {})}
        case Disagrees(how=how):
            return {"event": "disagrees" if how else "agrees", "how": how}
        case OpeningUnused(what=what, since=since, after=after, closed=closed):
            shown = {"what": what, "since": time_of(since, offset), "after": after, "closed": closed}
            return {"event": "unused", **shown}
        case MtuLowered(before=before, after=after):
            return {"event": "mtu", "before": before, "mtu": after}
        case GatewayReset(cause=cause):
            return {"event": "gateway-reset", "cause": cause}
        case ExitDiffers(gateway=gateway, seen=seen):
            return {"event": "exit-differs", "gateway": gateway, "seen": seen}
        case ProblemNoticed(problem=problem):
            return {"event": "problem", **_problem(problem, offset)}
        case ProblemOver(problem=problem):
            return {"event": "problem-over", **_problem(problem, offset)}


def _phase_hint(state: State) -> str:
    """What the person can do about it: of the problems, the hint of the newest that has one; READY needs none."""
    if state.phase is Phase.READY:
        return ""
    hinted = [problem for problem in state.problems if problem.hint]
    return max(hinted, key=lambda problem: problem.since).hint if hinted else ""


def _server(server: Server, current: int) -> Json:
    endpoint = str(server.endpoint) if server.endpoint else None
    return {"number": server.number, "place": server.place, "endpoint": endpoint, "current": server.number == current}


def _switch(policy: ProviderPolicy | None) -> Json | None:
    return {"mode": str(policy.mode), "ports": list(map(str, policy.ports))} if policy else None


def _unused(use: Use, offset: float) -> Json:
    opened, last = time_of(use.since, offset), time_of(use.last, offset)
    return {"what": use.what, "opened": opened, "last": last, "idle": round(use.idle), "closed": use.closed}


def _entry(entry: Entry, offset: float) -> Json:
    return {
        "time": time_of(entry.at, offset),
        "event": entry.kind,
        "forward": entry.forward or None,
        "text": entry.text,
        "cause": entry.cause,
    }


def _forward(forward: Forward, offset: float) -> Json:
    lease = forward.lease
    return {
        "name": forward.spec.name,
        "client": forward.spec.client,
        "protocols": [str(protocol) for protocol in forward.spec.protocols],
        "external_port": lease.external_port if lease else None,
        "internal_port": lease.internal_port if lease else None,
        "listen_port": forward.listen_port,
        "target": forward.spec.target,
        "exit_address": lease.exit_address if lease else None,
        "granted_at": time_of(lease.granted_at if lease else None, offset),
        "lifetime": lease.lifetime if lease else None,
        "expires_at": time_of(lease.expires_at if lease else None, offset),
        "renew_at": time_of(forward.renew_at, offset),
        "announced": forward.announced,
        "client_settings": _settings(forward, offset),
        "packets": forward.packets,
        "packets_at": time_of(forward.packets_at, offset),
        "peers": [_peer(peer, offset) for peer in forward.peers],
        "proofs": _proofs(forward.proofs, offset),
    }


def _peer(peer: Peer, offset: float) -> Json:
    return {
        "address": peer.address,
        "port": peer.port,
        "protocol": str(peer.protocol),
        "since": time_of(peer.since, offset),
        "connected": peer.connected,
        "came_in": peer.came_in,
    }


def _settings(forward: Forward, offset: float) -> Json | None:
    said = forward.client_settings
    if said is None:
        return None
    return {
        "port": said.port,
        "interface": said.interface,
        "random_port": said.random_port,
        "port_mapping": said.port_mapping,
        "read_at": time_of(forward.client_settings_at, offset),
    }


def _proofs(proofs: Proofs, offset: float) -> Json:
    return {name: _proof(getattr(proofs, name), offset) for name in PROOF_NAMES}


def _proof(proof: Proof, offset: float) -> Json:
    return {
        "ok": proof.ok,
        "since": time_of(proof.since, offset),
        "checked": time_of(proof.checked, offset),
        "evidence": proof.evidence,
    }


def _lease(lease: Lease, offset: float) -> Json:
    return {
        "external_port": lease.external_port,
        "internal_port": lease.internal_port,
        "exit_address": lease.exit_address,
        "protocols": [str(protocol) for protocol in lease.protocols],
        "lifetime": lease.lifetime,
        "expires_at": time_of(lease.expires_at, offset),
    }


def _problem(problem: Problem, offset: float) -> Json:
    return {
        "doing": problem.doing,
        "kind": str(problem.kind),
        "message": problem.message,
        "hint": problem.hint,
        "since": time_of(problem.since, offset),
        "failures": problem.failures,
        "retry_at": time_of(problem.retry_at, offset),
    }


def _open(policy: PortPolicy, now: float) -> list[Opening]:
    return [each for each in policy.openings if each.ends_at is None or each.ends_at > now]
