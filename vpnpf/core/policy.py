"""Which rule set belongs to which state: one pure function, so that it can be read, printed and tested."""

from __future__ import annotations

from vpnpf.core.state import ForwardState, Machine
from vpnpf.core.unused import of_forward
from vpnpf.model import FirewallPolicy, FirewallStage, ForwardRule, Lease, LockMode, PolicyMode, PortPolicy, Protocol


def policy_for(machine: Machine) -> FirewallPolicy:
    """The rule set that should stand in this state."""
    spec = machine.spec
    rules: tuple[ForwardRule, ...] = ()
    if machine.tunnel_gone and stays_closed(machine):
        # An engine that follows has to be able to ask its provider; under lockdown none may follow for days.
        stage = FirewallStage.LOCKED if spec.lock is LockMode.LOCKDOWN else FirewallStage.BLOCKED
    elif machine.tunnel is not None:
        stage = FirewallStage.CONNECTED
        rules = tuple(
            rule for forward in machine.forwards for rule in rules_for(forward, shut=bool(why_shut(machine, forward)))
        )
    else:
        stage = FirewallStage.BLOCKED if machine.tunnel_number else FirewallStage.CONNECTING
    return FirewallPolicy(stage, machine.plan, inbound(machine), rules, spec.lock)


def stays_closed(machine: Machine) -> bool:
    """Whether the lock outlives a stop: always under lockdown, else until the engine that follows has its own."""
    lock = machine.spec.lock
    return machine.stopping and (lock is LockMode.LOCKDOWN or (machine.closed and lock is LockMode.ON))


def inbound(machine: Machine) -> PortPolicy:
    """The port policy without the openings that were closed because nobody used them."""
    return machine.inbound or machine.spec.policy


def rules_for(forward: ForwardState, *, shut: bool = False) -> tuple[ForwardRule, ...]:
    """Open ports of a forward: the new one, and while it is not followed everywhere yet the old one too."""
    if forward.lease is None:
        return ()
    rules = [_rule(forward, forward.lease, shut=shut)]
    if forward.replaced is not None:
        old = _rule(forward, forward.replaced, shut=shut)
        if (old.arrives, old.listen) != (rules[0].arrives, rules[0].listen):
            rules.append(old)
    return tuple(rules)


def _rule(forward: ForwardState, lease: Lease, *, shut: bool) -> ForwardRule:
    spec = forward.spec
    return ForwardRule(
        name=spec.name,
        protocols=lease.protocols,
        arrives=lease.internal_port,
        listen=spec.internal_port or lease.external_port,
        expires_at=lease.expires_at,
        target=spec.target,
        sources=spec.sources,
        shut=shut,
    )


def why_shut(machine: Machine, forward: ForwardState) -> str:
    """Why nobody may come in on a forward while its port is held; empty: the policy decides."""
    if forward.spec.shut:
        return "its port is held, and nobody may come in (open = false)"
    use = machine.watch.uses.get(of_forward(forward.spec.name))
    return "closed because nobody used it: `vpnpf policy open` opens it again" if use is not None and use.closed else ""


def guarded(machine: Machine) -> bool:
    """Whether the rule set of this state was put in force, apart from its ports."""
    wanted, applied = policy_for(machine), machine.applied
    return applied is not None and (applied.stage, applied.plan) == (wanted.stage, wanted.plan)


def intact(machine: Machine) -> bool:
    """Whether the rule set applied last was still there, rule by rule, when it was last looked at."""
    return machine.reading is not None and machine.reading.intact


def stands(machine: Machine, forward: ForwardState, now: float) -> bool:
    """Whether the kernel was given the rule of the forward's port and has not closed it by itself since.

    The rule's end may be older than the lease's: a renewal has yet to reach the kernel.
    """
    if machine.applied is None or forward.lease is None:
        return False
    wanted = _rule(forward, forward.lease, shut=False)
    return any(
        (rule.name, rule.arrives, rule.listen, rule.target)
        == (wanted.name, wanted.arrives, wanted.listen, wanted.target)
        and (rule.expires_at is None or rule.expires_at > now)
        for rule in machine.applied.forwards
    )


def admits(policy: PortPolicy, port: int, protocol: Protocol) -> bool:
    """Whether the policy lets new flows in to a forwarded port."""
    match policy.mode:
        case PolicyMode.OPEN_ALL:
            return True
        case PolicyMode.BLOCK_ALL:
            return False
        case PolicyMode.ALLOW_LIST:
            named = any(entry.protocol is protocol and entry.first <= port <= entry.last for entry in policy.openings)
            return policy.forwarded or named


def counted(machine: Machine, now: float) -> dict[str, int] | None:
    """Inbound packets of all that the allow-list has open, as last read, by `Use.what`; None: nobody can say."""
    applied, reading = machine.applied, machine.reading
    if applied is None or reading is None or not reading.intact or machine.tunnel is None:
        return None
    if applied.stage is not FirewallStage.CONNECTED or applied.inbound.mode is not PolicyMode.ALLOW_LIST:
        return None
    over = {each.key for each in applied.inbound.openings if each.ends_at is not None and each.ends_at <= now}
    found = {what: hits.packets for what, hits in reading.openings if what not in over}
    for forward in machine.forwards:
        name = forward.spec.name
        hits = [each for each in reading.hits if each[0] == name]
        port = forward.listen_port or 0
        admitted = any(admits(applied.inbound, port, protocol) for protocol in forward.spec.protocols)
        if hits and admitted and not why_shut(machine, forward) and stands(machine, forward, now):
            found[of_forward(name)] = sum(counter.packets for _, _, counter in hits)
    return found
