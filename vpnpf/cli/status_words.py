"""A status in words. Times are seconds since 1970."""

from __future__ import annotations

from datetime import datetime

from vpnpf.cli.status_reading import Status
from vpnpf.control.seen import PROOFS, Seen, SeenForward, SeenProblem, SeenProof, SeenSwitch, SeenUnused
from vpnpf.core.readiness import ready_words
from vpnpf.core.spans import span
from vpnpf.core.units import size
from vpnpf.printable import printable

_PHASES = {
    "starting": "starting",
    "connecting": "CONNECTING: the tunnel is being made",
    "leasing": "LEASING: the tunnel is up, the port is not complete yet",
    "blocked": "BLOCKED: the tunnel is lost, nothing leaves until it is back",
    "failed": "FAILED: this needs you; the rules in force stay as they are",
    "stopping": "stopping",
    "stopped": "stopped: there is no tunnel and no port; `vpnpf up` begins again",
}
_LOCKED = (
    "it was not stopped, so what it locked is locked: start it again, or `sudo vpnpf unlock` gives the network back"
)
_ANSWERS = {True: "yes", False: "NO", None: "-"}


def words(status: Status, now: float) -> list[str]:
    """Everything a person wants to know, a line each. Ages are those at `now`."""
    seen = status.seen
    lines = [f"{seen.profile} ({seen.provider}): {_phase(seen, now)}"]
    if status.unheard:
        lines.insert(0, unheard(status))
    if not status.alive:
        lines.insert(0, stale(status))
        if seen.phase != "stopped":
            lines.insert(1, _LOCKED)
    if seen.tunnel is not None:
        tunnel = seen.tunnel
        traffic = f"{size(tunnel.received)} received, {size(tunnel.sent)} sent"
        to = f"{tunnel.place}, {tunnel.endpoint}" if tunnel.place else tunnel.endpoint
        lines.append(f"  tunnel {tunnel.interface} ({tunnel.backend}) to {to}: {traffic}")
    else:
        lines.append("  no tunnel")
    if seen.provider_policy is not None:
        lines.append(f"  {_switch(seen.provider_policy, seen.disagree, now)}")
    for forward in seen.forwards:
        lines.append(f"  forward {forward.name}: {_forward(forward, now)}")
        lines += _table(forward, now)
    lines += [f"  unused: {_unused(each, now)}" for each in seen.unused]
    for problem in seen.problems:
        lines += _problem(problem, now)
    return [printable(line) for line in lines]


def timeline(seen: Seen) -> list[str]:
    """The last transitions, oldest first."""
    lines = []
    for entry in seen.timeline:
        at = entry.time.strftime("%Y-%m-%d %H:%M:%S") if entry.time else "?"
        whose = f"{entry.forward}: " if entry.forward else ""
        lines.append(printable(f"{at} {whose}{entry.text}" + (f" ({entry.cause})" if entry.cause else "")))
    return lines


def stale(status: Status) -> str:
    """That it tells what was."""
    return f"vpnpf is not running: this is what was last known, {span(status.age)} ago"


def unheard(status: Status) -> str:
    """That it was not asked itself."""
    what = "runs but does not answer" if status.silent else "could not be asked"
    return f"{status.seen.profile} {what} ({status.unheard}): this is what it wrote {span(status.age)} ago"


def _phase(seen: Seen, now: float) -> str:
    since = f", for {span(now - seen.phase_since.timestamp())}" if seen.phase_since else ""
    if seen.phase == "ready":
        ports = [each.proofs.get("firewall", SeenProof()).ok is not False for each in seen.forwards]
        return f"READY: {ready_words(ports)}{since}"
    return _PHASES.get(seen.phase, seen.phase) + since


def _switch(switch: SeenSwitch, disagree: str, now: float) -> str:
    ago = f"it said so {span(now - switch.seen.timestamp())} ago" if switch.seen else "it said so"
    if disagree:
        return f"DISAGREE: {disagree}: {ago}"
    return f"provider's own switch: {', '.join((switch.mode, *switch.ports))} ({ago})"


def _forward(forward: SeenForward, now: float) -> str:
    if forward.external_port is None:
        return "no port yet"
    at = f" at {forward.exit_address}" if forward.exit_address else ""
    differs = forward.listen_port not in {None, forward.external_port}
    local = f", local port {forward.listen_port}" if differs else ""
    if forward.target is not None:
        host = f"[{forward.target}]" if ":" in forward.target else forward.target
        local = f", goes on to {host}:{forward.listen_port or forward.external_port}"
    return f"port {forward.external_port} ({' and '.join(forward.protocols)}){at}{local}{_renewal(forward, now)}"


def _renewal(forward: SeenForward, now: float) -> str:
    if forward.renew_at is None:
        return ""
    left = forward.renew_at.timestamp() - now
    return f", renewed in {left:.0f} s" if left >= 0 else f", renewal due since {-left:.0f} s"


def _table(forward: SeenForward, now: float) -> list[str]:
    rows = [(name, _row(forward.proofs.get(name, SeenProof()), now)) for name in PROOFS]
    widest = max(len(age) for _, (_, age, _) in rows)
    return [f"    {name:<9}  {ok:<3}  {age:>{widest}}  {said}".rstrip() for name, (ok, age, said) in rows]


def _row(proof: SeenProof, now: float) -> tuple[str, str, str]:
    age = f"{span(now - proof.checked.timestamp())} ago" if proof.checked else "not looked at"
    return _ANSWERS[proof.ok], age, proof.evidence


def _problem(problem: SeenProblem, now: float) -> list[str]:
    times = "once" if problem.failures == 1 else f"{problem.failures} times"
    since = _ago(problem.since, now)
    again = f"; tried again in {max(0.0, problem.retry_at.timestamp() - now):.0f} s" if problem.retry_at else ""
    lines = [f"  problem: {problem.doing}: {problem.message} ({times}{since}{again})"]
    return [*lines, f"    hint: {problem.hint}"] if problem.hint else lines


def _unused(unused: SeenUnused, now: float) -> str:
    last = f"last {span(now - unused.last.timestamp())} ago" if unused.last else "never"
    end = "; closed, `vpnpf policy open` opens it again" if unused.closed else ""
    return f"{unused.what}: nobody came in for {span(unused.idle)} ({last}){end}"


def _ago(at: datetime | None, now: float) -> str:
    return f", since {span(now - at.timestamp())}" if at else ""
