"""The chain of proofs, made from what was last seen and never from what was last asked for."""

from __future__ import annotations

from msgspec.structs import replace

from vpnpf.core.knocks import knock_words
from vpnpf.core.policy import admits, inbound, policy_for, stands, why_shut
from vpnpf.core.schedule import HANDSHAKE_DEAD
from vpnpf.core.state import ForwardState, Machine
from vpnpf.core.switch import blocked
from vpnpf.model import Endpoint, Hits, ListeningSocket, ListenSettings, PolicyMode, Proof, Proofs, Protocol

ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, never bound to

Finding = tuple[bool | None, str, float | None]
"""(ok, evidence, when it was looked at)."""


def prove(machine: Machine, forward: ForwardState, now: float) -> Proofs:
    """All six proofs of a forward; `since` of each goes on while its value stays."""
    before = forward.proofs
    return Proofs(
        tunnel=_continue(before.tunnel, _tunnel(machine, now), now),
        lease=_continue(before.lease, _lease(machine, forward, now), now),
        firewall=_continue(before.firewall, _firewall(machine, forward, now), now),
        client=_continue(before.client, _client(machine, forward), now),
        listening=_continue(before.listening, _listening(machine, forward), now),
        reachable=_continue(before.reachable, _reachable(machine, forward), now),
    )


def wanted_settings(machine: Machine, forward: ForwardState) -> ListenSettings | None:
    """How the torrent client should be set now; None: there is no client, port or tunnel."""
    if forward.spec.client is None or forward.listen_port is None or machine.tunnel is None:
        return None
    # Without a tunnel there is no device that the client has to be kept on: any will do.
    device = "" if machine.tunnel.plan.direct or not forward.spec.client_device else machine.tunnel.interface
    return ListenSettings(forward.listen_port, device)


def count(machine: Machine, name: str) -> dict[Protocol, Hits]:
    """Inbound packets counted for a forward, as last read."""
    reading = machine.reading
    return {protocol: hits for forward, protocol, hits in (reading.hits if reading else ()) if forward == name}


def followed(forward: ForwardState) -> bool:
    """Whether everything up to the listening socket follows the lease's port."""
    proofs = forward.proofs
    if not (proofs.tunnel.ok and proofs.lease.ok):
        return False
    if forward.spec.client is None:
        return True
    return bool(proofs.client.ok) and bool(proofs.listening.ok or not forward.spec.client_local)


def _continue(before: Proof, finding: Finding, now: float) -> Proof:
    ok, evidence, checked = finding
    since = before.since if ok is before.ok else now
    return replace(before, ok=ok, since=None if ok is None else since, checked=checked, evidence=evidence)


def _tunnel(machine: Machine, now: float) -> Finding:
    if machine.tunnel is None or machine.health is None:
        return False, "the tunnel is down", now
    if machine.tunnel.plan.direct:
        return True, f"no tunnel: the router {machine.tunnel.gateway} on {machine.tunnel.interface}", machine.health_at
    if machine.silent_since is not None and machine.job("tunnel").failed == "Rekey":
        return False, f"no answer from {machine.plan.endpoint} for {now - machine.silent_since:.0f} s", now
    received = f", {machine.health.rx} bytes in" if machine.health.rx else ""
    if not machine.health.handshakes:
        return True, f"{machine.tunnel.interface} is up{received}", machine.health_at
    age = machine.health.handshake_age
    if age is None:
        return False, f"no handshake with {machine.plan.endpoint} yet", machine.health_at
    evidence = f"handshake with {machine.plan.endpoint} {age:.0f} s old{received}"
    return age <= HANDSHAKE_DEAD, evidence, machine.health_at


def _lease(machine: Machine, forward: ForwardState, now: float) -> Finding:
    lease = forward.lease
    if lease is None:
        return False, "no lease", now
    if forward.leased_for != machine.tunnel_number:
        # The tunnel may have come back to another gateway.
        return None, f"port {lease.external_port} is not confirmed through the new tunnel yet", lease.granted_at
    wished = forward.spec.external_port
    other = f"; {wished} was asked for" if wished not in {None, lease.external_port} else ""
    return True, f"{lease.place} granted {lease.length}{other}", lease.granted_at


def _firewall(machine: Machine, forward: ForwardState, now: float) -> Finding:
    reading, applied = machine.reading, machine.applied
    if reading is None or applied is None:
        return None, "no rule set yet", None
    if not reading.intact:
        return False, reading.evidence, machine.reading_at
    if applied.stage is not policy_for(machine).stage or not stands(machine, forward, now):
        return False, f"the rule set in force is {applied.stage}, without the port", machine.reading_at
    job = machine.job("firewall")
    if job.failed == "ReadFirewall" and job.problem is not None:
        return None, f"{job.problem.doing}: {job.problem.message}", machine.reading_at
    closed = _closed(machine, forward)
    if closed:
        return False, closed, machine.reading_at
    some = forward.spec.sources if machine.spec.policy.mode is not PolicyMode.OPEN_ALL else ()
    return True, f"{reading.evidence}{'; only from ' if some else ''}{', '.join(some)}", machine.reading_at


def _closed(machine: Machine, forward: ForwardState) -> str:
    """Why the policy lets nobody in on the port; empty: it lets them in."""
    policy, port = inbound(machine), forward.listen_port or 0
    why = why_shut(machine, forward)
    if why and policy.mode is not PolicyMode.OPEN_ALL:
        return why
    closed = [f"{port}/{protocol}" for protocol in forward.spec.protocols if not admits(policy, port, protocol)]
    return f"closed by the policy {policy.mode}: {', '.join(closed)}" if closed else ""


def _client(machine: Machine, forward: ForwardState) -> Finding:
    if forward.spec.client is None:
        return None, "no client: the port is announced by events", None
    wanted, seen = wanted_settings(machine, forward), forward.settings
    problem = machine.job(f"client:{forward.spec.name}").problem
    if problem is not None:
        return False, f"{problem.doing}: {problem.message}", problem.since
    if wanted is None or seen is None or forward.settings_for != machine.tunnel_number:
        return None, "not set yet", None
    if seen == wanted:
        return (
            True,
            f"{forward.spec.client} says port {seen.port} on {seen.interface or 'any device'}",
            forward.settings_at,
        )
    return False, f"{forward.spec.client} says {differs(seen, wanted)}", forward.settings_at


def differs(seen: ListenSettings, wanted: ListenSettings) -> str:
    """What a torrent client says otherwise than it should, in words."""
    said = []
    if seen.port != wanted.port:
        said.append(f"port {seen.port} instead of {wanted.port}")
    if seen.interface != wanted.interface:
        said.append(f"interface {seen.interface or 'any'} instead of {wanted.interface or 'any'}")
    if seen.random_port:
        said.append("a random port at each start")
    if seen.port_mapping:
        said.append("its own UPnP/NAT-PMP is on")
    return ", ".join(said)


def _listening(machine: Machine, forward: ForwardState) -> Finding:
    if forward.spec.target is not None:
        beyond = str(Endpoint(forward.spec.target, forward.listen_port)) if forward.listen_port else forward.spec.target
        passes = f"net.{'ipv6.conf.all.forwarding' if ':' in forward.spec.target else 'ipv4.ip_forward'} = 1"
        return (
            None,
            f"packets go on to {beyond}, which is not looked at; this machine has to pass them on ({passes})",
            None,
        )
    if not forward.spec.client_local:
        who = forward.spec.client or "the program"
        return None, f"{who} runs on another machine: its sockets cannot be seen from here", None
    if forward.sockets is None or forward.listen_port is None or machine.tunnel is None:
        return None, "not looked at yet", None
    problem = machine.job(f"listening:{forward.spec.name}").problem
    if problem is not None:
        return None, f"{problem.doing}: {problem.message}", forward.sockets_at
    # A look that was under way when the port changed has seen the sockets of the old one.
    there = tuple(socket for socket in forward.sockets if socket.port == forward.listen_port)
    good = {p: _serving(there, p, machine) for p in forward.spec.protocols}
    missing = [protocol for protocol, socket in good.items() if socket is None]
    if missing:
        return False, _nobody(there, missing, forward.listen_port), forward.sockets_at
    seen = ", ".join(f"{s.protocol} {s.address}:{s.port}" for s in good.values() if s)
    return True, f"sockets {seen}", forward.sockets_at


def _nobody(sockets: tuple[ListeningSocket, ...], missing: list[Protocol], port: int) -> str:
    """That nothing listens for the tunnel's packets, and where else something does: bound by settings of its own."""
    said = f"nothing listens on {', '.join(f'{port}/{protocol}' for protocol in missing)}"
    elsewhere = sorted({_place(socket) for socket in sockets if socket.protocol in missing})
    return f"{said} for the tunnel's address, only on {', '.join(elsewhere)}" if elsewhere else said


def _place(socket: ListeningSocket) -> str:
    return f"{socket.address} ({socket.device})" if socket.device else socket.address


def _serving(sockets: tuple[ListeningSocket, ...], protocol: Protocol, machine: Machine) -> ListeningSocket | None:
    """The socket that packets from the tunnel would reach."""
    tunnel = machine.tunnel
    assert tunnel is not None
    own = {address.partition("/")[0] for address in tunnel.plan.addresses}
    # A socket for any IPv6 address alone gets nothing of a port that an IPv4 gateway gave.
    any_ = ANY[":" in tunnel.gateway]
    for socket in sockets:
        here = socket.address in own or socket.address == any_
        if socket.protocol is protocol and here and socket.device in {"", tunnel.interface}:
            return socket
    return None


def _reachable(machine: Machine, forward: ForwardState) -> Finding:
    if forward.lease is None or machine.reading is None:
        return None, "no port", None
    if forward.hits_before is None:
        return None, "no rule set with the port was read yet", None
    hits, before, shut = count(machine, forward.spec.name), forward.hits_before, blocked(machine, forward)
    new = {p: h.packets - before.get(p, 0) for p, h in hits.items()}
    if any(packets > 0 for packets in new.values()):
        seen = ", ".join(f"{packets} {protocol}" for protocol, packets in sorted(new.items()))
        evidence = f"inbound packets counted on the port: {seen}"
        return True, f"{evidence}; {shut} now" if shut else evidence, machine.reading_at
    if forward.proofs.reachable.ok:
        # Another program emptied the counters; what was proven for this port stays proven.
        return True, forward.proofs.reachable.evidence, forward.proofs.reachable.checked
    if shut:
        return None, f"nobody can come in: {shut}", machine.switch.seen_at
    words = knock_words(forward)
    return None, f"nobody has come in yet{words}", forward.tested.at if words else machine.reading_at
