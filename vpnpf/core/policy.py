"""Which rule set belongs to which state: one pure function, so that it can be read, printed and tested."""

from __future__ import annotations

from vpnpf.core.state import ForwardState, Machine
from vpnpf.model import FirewallPolicy, FirewallStage, ForwardRule, Lease, LockMode, PolicyMode, PortPolicy, Protocol


def policy_for(machine: Machine) -> FirewallPolicy:
    """The rule set that should stand in this state."""
    spec = machine.spec
    rules: tuple[ForwardRule, ...] = ()
    if machine.tunnel is not None:
        stage = FirewallStage.CONNECTED
        rules = tuple(rule for forward in machine.forwards for rule in rules_for(forward))
    elif machine.stopping and machine.tunnel_gone and spec.lock is LockMode.LOCKDOWN:
        stage = FirewallStage.LOCKED
    else:
        stage = FirewallStage.BLOCKED if machine.tunnel_number else FirewallStage.CONNECTING
    return FirewallPolicy(stage, machine.plan, spec.policy, rules, spec.lock)


def rules_for(forward: ForwardState) -> tuple[ForwardRule, ...]:
    """Open ports of a forward: the new one, and while it is not followed everywhere yet the old one too."""
    if forward.lease is None:
        return ()
    rules = [_rule(forward, forward.lease)]
    if forward.replaced is not None:
        old = _rule(forward, forward.replaced)
        if (old.arrives, old.listen) != (rules[0].arrives, rules[0].listen):
            rules.append(old)
    return tuple(rules)


def _rule(forward: ForwardState, lease: Lease) -> ForwardRule:
    listen = forward.spec.internal_port or lease.external_port
    return ForwardRule(forward.spec.name, lease.protocols, lease.internal_port, listen, lease.expires_at)


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
    wanted = _rule(forward, forward.lease)
    return any(
        (rule.name, rule.arrives, rule.listen) == (wanted.name, wanted.arrives, wanted.listen)
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
