"""What the panels say, in words. Pure: times are seconds since 1970, spans are seconds."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.control.seen import Seen, SeenEntry, SeenForward, SeenProblem, SeenProof, SeenUnused
from vpnpf.core.spans import span
from vpnpf.core.units import size
from vpnpf.model import FirewallStage, LockMode, Phase, PolicyMode
from vpnpf.printable import printable
from vpnpf.tui.view import Reach, View

SIGNS = {True: "✓", False: "✗", None: "·"}
"""Of a proof: it holds, it does not, it was not looked at or there is nothing to look at."""
NO_TUNNEL = "no tunnel"
"""How a profile without a tunnel calls its back end."""


class Level(StrEnum):
    """How good or bad something is: a colour, never the only sign of it."""

    GOOD = "good"
    BUSY = "busy"
    """On its way; nothing is wrong."""
    WARN = "warn"
    BAD = "bad"
    UNKNOWN = "unknown"


class Standing(Struct, frozen=True):
    """Whether one is protected, at a glance."""

    level: Level
    sign: str
    word: str
    """In capitals."""
    means: str
    """What it means for what leaves this machine, in a sentence."""


def without_tunnel(seen: Seen) -> bool:
    """Whether the profile forwards a port of the router, and protects nothing."""
    return seen.tunnel is not None and seen.tunnel.backend == NO_TUNNEL


def standing(view: View) -> Standing:
    """As far as it is known: nothing is called protected that was only true earlier."""
    seen = view.seen
    if seen is None and not view.trouble:
        return Standing(Level.UNKNOWN, "…", "LOOKING", "What leaves this machine, and how, is not known yet.")
    if seen is None:
        return Standing(Level.UNKNOWN, "?", "NOT KNOWN", "What leaves this machine, and how, is not known.")
    if view.reach is Reach.AWAY:
        age = span(view.now - seen.time.timestamp())
        means = f"This is what was last known, {age} ago: {seen.phase.upper()}."
        return Standing(Level.UNKNOWN, "?", "NOT KNOWN", means)
    if without_tunnel(seen):
        return Standing(Level.WARN, "!", "NO VPN", "There is no tunnel: everything leaves by the router, as always.")
    found = _unlocked(seen) if seen.lock == LockMode.OFF else _locked(seen)
    if seen.namespace is None or seen.phase == Phase.STOPPED:
        return found
    return replace(
        found, means=f"In its namespace {printable(seen.namespace, 40)}: {found.means[:1].lower()}{found.means[1:]}"
    )


_HELD = "Only vpnpf's own packets reach the internet."
_THROUGH = "Nothing gets to the internet past the tunnel."
_OPEN = "No rules of vpnpf are in force: traffic goes as it did before."


def _by_stage(stage: str | None) -> str:
    """What the rule set in force does."""
    match stage:
        case FirewallStage.CONNECTED:
            return _THROUGH
        case None:
            return _OPEN
        case FirewallStage.LOCKED:
            return "Nothing gets to the internet: the lock is on."
        case _:
            return _HELD


def _locked(seen: Seen) -> Standing:  # noqa: PLR0911 - one line a phase
    stage = seen.policy.stage
    match seen.phase:
        case Phase.READY | Phase.LEASING if stage == FirewallStage.CONNECTED:
            return Standing(Level.GOOD, "✓", "PROTECTED", _THROUGH)
        case Phase.FAILED:
            return Standing(Level.BAD, "✗", "NEEDS YOU", _by_stage(stage))
        case Phase.BLOCKED:
            return Standing(Level.WARN, "■", "BLOCKED", f"The tunnel is lost. {_by_stage(stage)}")
        case Phase.STOPPING:
            return Standing(Level.BUSY, "…", "STOPPING", _by_stage(stage))
        case Phase.STOPPED if stage is not None or seen.lock == LockMode.LOCKDOWN:
            means = "vpnpf is stopped and the lock stays: nothing gets to the internet. To open: sudo vpnpf unlock"
            return Standing(Level.WARN, "■", "BLOCKED", means)
        case Phase.STOPPED:
            return Standing(Level.BAD, "✗", "NOT PROTECTED", "vpnpf is stopped: all traffic goes its usual way.")
        case _:
            return Standing(Level.BUSY, "…", "CONNECTING", _by_stage(stage))


def _unlocked(seen: Seen) -> Standing:
    means = "The lock is off: what goes past the tunnel is not blocked."
    match seen.phase:
        case Phase.FAILED:
            return Standing(Level.BAD, "✗", "NEEDS YOU", means)
        case Phase.STOPPED:
            return Standing(Level.BAD, "✗", "NOT PROTECTED", "vpnpf is stopped: all traffic goes its usual way.")
        case Phase.BLOCKED:
            lost = "The tunnel is lost and the lock is off: traffic goes its usual way."
            return Standing(Level.BAD, "✗", "NOT PROTECTED", lost)
        case _:
            return Standing(Level.WARN, "!", "NOT PROTECTED", means)


def happening(view: View) -> str:
    """What goes on, since when and why; while the daemon cannot be asked, why not."""
    seen = view.seen
    if view.reach is not Reach.ATTACHED:
        return sentence(view.trouble) or "Looking for vpnpf…"
    if seen is None:
        return ""
    since = view.age(seen.phase_since)
    said = sentence(seen.phase_text or seen.phase)
    said += f", for {span(since)}" if since is not None else ""
    return said + (f": {seen.phase_cause}" if seen.phase_cause else "")


def hint(view: View) -> str:
    """What to do about it; empty: nothing."""
    if view.reach is not Reach.ATTACHED:
        return view.hint
    if view.seen is None:
        return ""
    if view.seen.phase == Phase.STOPPED and not view.seen.phase_hint and view.owner:
        return "press d to connect again"
    return view.seen.phase_hint


def whose(view: View) -> str:
    """Profile and provider."""
    watching = "" if view.owner else "watching only · "
    provider = f" · {view.seen.provider}" if view.seen else ""
    return f"{watching}{view.profile}{provider}"


def sentence(text: str) -> str:
    """With a capital."""
    return text[:1].upper() + text[1:]


def ago(seconds: float | None) -> str:
    """How old something is."""
    if seconds is None:
        return ""
    return "now" if round(seconds) < 1 else f"{span(seconds)} ago"


def clock(at: datetime | None, now: float) -> str:
    """In this machine's time zone: the time of today, "12:00:03", or else the date, "May 04"."""
    if at is None:
        return "?"
    local = at.astimezone()
    today = datetime.fromtimestamp(now).astimezone().date()
    return local.strftime("%H:%M:%S" if local.date() == today else "%b %d")


def rate(octets: float) -> str:
    """Bytes a second."""
    return f"{size(octets)}/s"


# -- a forward ----------------------------------------------------------------------------------


def which(view: View) -> str:
    """The forward that is looked at: "torrent", or "torrent, 1 of 3"."""
    forward = view.forward
    if forward is None or view.seen is None:
        return ""
    number = view.seen.forwards.index(forward) + 1
    return f"{forward.name}, {number} of {len(view.seen.forwards)}" if len(view.seen.forwards) > 1 else forward.name


def goes(forward: SeenForward) -> str:
    """Where what arrives on its port is led; empty: to the same port of this machine."""
    if forward.target is not None:
        return f"goes on to {forward.target} port {forward.listen_port or forward.external_port}"
    if forward.listen_port not in {None, forward.external_port}:
        return f"local port {forward.listen_port}"
    return ""


def server(seen: Seen) -> str:
    """Where the tunnel leads: "Zürich, 203.0.113.5:51820 (2 of 3)"."""
    tunnel = seen.tunnel
    if tunnel is None:
        return "no tunnel"
    if tunnel.backend == NO_TUNNEL:
        return f"router {tunnel.gateway}" if tunnel.gateway else NO_TUNNEL
    to = ", ".join(filter(None, (tunnel.place, tunnel.endpoint)))
    many = seen.server.of > 1 and seen.server.number is not None
    return f"{to} ({seen.server.number} of {seen.server.of})" if many else to


def looked(proof: SeenProof, now: float) -> str:
    """When a proof was looked at last."""
    return ago(max(0.0, now - proof.checked.timestamp())) if proof.checked else "never"


class Renewal(Struct, frozen=True):
    """The next renewal of a lease."""

    level: Level
    said: str
    ends: str = ""
    """When the lease ends."""
    done: float | None = None
    """How much of the time until the renewal is over, from 0 to 1; None: there is none."""


def renewal(view: View) -> Renewal:
    """Of the forward that is looked at."""
    forward = view.forward
    if forward is None or forward.external_port is None:
        return Renewal(Level.UNKNOWN, "no lease at this moment" if view.seen else "")
    left, due = view.until(forward.expires_at), view.until(forward.renew_at)
    if left is None:
        ends = "the lease has no end"
    else:
        ends = f"lease ends in {span(left)}" if left > 0 else f"lease ended {span(-left)} ago"
    if view.reach is not Reach.ATTACHED:
        return Renewal(Level.UNKNOWN, "not known: vpnpf does not answer", ends)
    if due is None:
        return Renewal(Level.GOOD, "nothing to renew" if left is None else "no renewal is planned", ends)
    if due < -OVERDUE:
        return Renewal(Level.WARN, f"renewal overdue by {span(-due)}", ends, 1.0)
    granted = view.age(forward.granted_at)
    whole = (granted or 0.0) + max(0.0, due)
    done = (granted or 0.0) / whole if whole > 0 else 1.0
    return Renewal(Level.GOOD, f"renewed in {span(due)}" if due > 0 else "renewed now", ends, done)


OVERDUE = 3.0
"""Seconds that a renewal may be under way before it is called overdue."""

# -- policy, problems, timeline -----------------------------------------------------------------


def mode(seen: Seen) -> str:
    """What may come in, in words."""
    if without_tunnel(seen):
        return "no policy: the machine's own filters decide"
    match seen.policy.mode:
        case PolicyMode.OPEN_ALL:
            return "open-all: every port is open"
        case PolicyMode.BLOCK_ALL:
            return "block-all: nobody comes in"
        case PolicyMode.ALLOW_LIST:
            return "allow-list: only what is listed"
        case other:
            return other or "no policy"


def exposed(seen: Seen, now: float) -> str:
    """What the internet reaches by it."""
    policy = seen.policy
    if without_tunnel(seen):
        return ""
    if policy.mode == PolicyMode.OPEN_ALL:
        return "whatever listens here is on the internet"
    if policy.mode == PolicyMode.BLOCK_ALL:
        return "also not on a forwarded port"
    ports = [str(each.external_port) for each in seen.forwards if each.external_port is not None]
    ends = {each.what: each.until.timestamp() for each in policy.entries if each.until}
    named = [
        "forwarded" + (f" ({', '.join(ports)})" if ports else "")
        if each == "forwarded"
        else each + (f" ({span(max(0.0, ends[each] - now))} left)" if each in ends else "")
        for each in policy.allow
    ]
    return f"open: {', '.join(named)}" if named else "open: nothing"


def stage(seen: Seen) -> str:
    """What the rule set in force does."""
    stage = seen.policy.stage
    if stage is None:
        return "firewall: no rules of vpnpf"
    if seen.lock == LockMode.OFF or without_tunnel(seen):
        return "firewall: what leaves is free"
    match stage:
        case FirewallStage.CONNECTED:
            return "firewall: no way past the tunnel"
        case FirewallStage.LOCKED:
            return "firewall: all is shut"
        case _:
            return "firewall: all is shut but vpnpf"


def switch(view: View) -> str:
    """The provider's own switch; empty: it has none, or was not asked."""
    seen = view.seen
    said = seen.provider_policy if seen else None
    if seen is None or said is None:
        return ""
    return f"provider's own switch: {', '.join((said.mode, *said.ports))}, seen {ago(view.age(said.seen))}"


def unused(entry: SeenUnused) -> str:
    """That nobody uses an opening."""
    return f"{entry.what}: nobody came in for {span(entry.idle)}" + ("; closed" if entry.closed else "")


def times(problem: SeenProblem) -> str:
    """How often."""
    return "once" if problem.failures == 1 else f"{problem.failures} times"


def again(problem: SeenProblem, now: float) -> str:
    """When it is tried next; empty: nobody knows."""
    if problem.retry_at is None:
        return ""
    left = problem.retry_at.timestamp() - now
    return f"tried again in {span(left)}" if left > 0 else "tried again now"


def entry(line: SeenEntry) -> str:
    """A line of the timeline, without its time."""
    whose = f"{line.forward}: " if line.forward else ""
    return printable(f"{whose}{line.text}" + (f" ({line.cause})" if line.cause else ""))
