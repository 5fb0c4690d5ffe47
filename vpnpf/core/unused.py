"""What is open and nobody uses: told from the counters of the rule set, reported once, closed if the policy says so.

Pure. Idle time is only what was seen: from one reading of the counters to the next, while the rule set with the
opening was in force. So neither a restart nor a suspend, a lost tunnel or a wrong wall clock makes an opening look
unused, and a counter that cannot be read closes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.events import OpeningUnused
from vpnpf.model import ForwardSpec, PolicyMode, PortPolicy, Use

EVERY = 60.0
"""Seconds between two looks at the counters, at most; a hundredth of what the policy bears, if that is less."""
KEEP_EVERY = 3600.0
"""Seconds of idle time, at most, that a run that is killed may lose."""
_FORWARD = "forward "
_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class Watch(Struct, frozen=True):
    """What is known of the use of all that is open."""

    uses: Mapping[str, Use] = MappingProxyType({})
    """By what they are of."""
    counts: Mapping[str, int] = MappingProxyType({})
    """Inbound packets when each was last looked at by this process."""
    at: float | None = None
    """When the last look was; None: what stands now was not looked at yet."""


def of_forward(name: str) -> str:
    """What the use of a forward is kept under; no opening is written like this."""
    return f"{_FORWARD}{name}"


def closable(what: str, forwards: tuple[ForwardSpec, ...]) -> bool:
    """Whether it may be closed for being unused: any opening, and of the forwards those that are redirected.

    A port that is announced may be a torrent client's, which has told it to its peers.
    """
    if not what.startswith(_FORWARD):
        return True
    spec = next((forward for forward in forwards if of_forward(forward.name) == what), None)
    return spec is not None and spec.client is None and (spec.target is not None or spec.internal_port is not None)


def looked(
    watch: Watch,
    counts: Mapping[str, int],
    policy: PortPolicy,
    forwards: tuple[ForwardSpec, ...],
    now: float,
    gap: float,
) -> tuple[Watch, tuple[Use, ...]]:
    """One look at the counters of all that is open now; also returns what is found to be unused by it.

    `gap` is the longest time in seconds from one look to the next that nothing was missed in. What is not in `counts`
    was not seen, and nothing is learnt of it.
    """
    step = _share(policy, EVERY)
    uses, found = dict(watch.uses), []
    risen = [what for what, packets in counts.items() if watch.counts.get(what, packets) != packets]
    for what in risen:
        uses[what] = replace(uses.get(what) or Use(what, now), last=now, idle=0.0, reported=False)
    if watch.at is not None and now - watch.at < step:
        return (replace(watch, uses=uses, counts={**watch.counts, **counts}) if risen else watch), ()
    passed = 0.0 if watch.at is None else min(now - watch.at, step + gap)
    for what, packets in counts.items():
        use = uses.get(what)
        if use is None:
            use = Use(what, now, last=now if packets > watch.counts.get(what, 0) else None)
        elif what in watch.counts:
            still = passed if use.last is None else min(passed, now - use.last)
            use = replace(use, idle=use.idle + still)
        if policy.report_unused is not None and use.idle >= policy.report_unused and not use.reported:
            closed = policy.close_unused and policy.mode is PolicyMode.ALLOW_LIST and closable(what, forwards)
            use = replace(use, reported=True, closed=closed)
            found.append(use)
        uses[what] = use
    return Watch(uses, {**watch.counts, **counts}, now), tuple(found)


def blind(watch: Watch) -> Watch:
    """The counters could not be read, or nothing is open: the time until the next look is not idle time."""
    return replace(watch, at=None) if watch.at is not None else watch


def reopened(watch: Watch, before: PortPolicy, after: PortPolicy, reopen: tuple[str, ...]) -> Watch:
    """What is still known once another policy is wanted: nothing of an entry that is new or another, as if just opened."""
    anew = before == after and not reopen
    if before.openings == after.openings:  # ten thousand need not be told apart for another mode
        gone: set[str] = set()
    else:
        others = set(before.openings) ^ set(after.openings)
        gone = {opening.key for opening in others}
    uses = {
        what: use
        for what, use in watch.uses.items()
        if what not in gone and what not in reopen and not (use.closed and (anew or not after.close_unused))
    }
    return replace(watch, uses=uses)


def known(uses: tuple[Use, ...], policy: PortPolicy, forwards: tuple[ForwardSpec, ...]) -> Watch:
    """Where a start begins, from what was kept: nothing of what the profile no longer has."""
    wanted = {opening.key for opening in policy.openings} | {of_forward(forward.name) for forward in forwards}
    kept = {use.what: use if policy.close_unused or not use.closed else _opened(use) for use in uses}
    return Watch({what: use for what, use in kept.items() if what in wanted})


def left_open(policy: PortPolicy, uses: Mapping[str, Use]) -> PortPolicy | None:
    """The policy without the openings that were closed because nobody used them; None: nothing was."""
    closed = {use.what for use in uses.values() if use.closed}
    if not closed:
        return None
    return replace(policy, openings=tuple(opening for opening in policy.openings if opening.key not in closed))


def worth_keeping(saved: Mapping[str, Use], uses: Mapping[str, Use], policy: PortPolicy) -> bool:
    """Whether enough has changed since it was saved that a run that is killed would lose something."""
    if saved.keys() != uses.keys():
        return True
    much = _share(policy, KEEP_EVERY)
    return any(_differ(saved[what], use, much) for what, use in uses.items())


def _differ(saved: Use, use: Use, much: float) -> bool:
    if saved is use:
        return False
    if (saved.closed, saved.reported, saved.since) != (use.closed, use.reported, use.since):
        return True
    if saved.last is None or use.last is None:
        return saved.last is not use.last or use.idle - saved.idle >= much
    return use.last - saved.last >= much or use.idle - saved.idle >= much


def _share(policy: PortPolicy, longest: float) -> float:
    return longest if policy.report_unused is None else min(longest, policy.report_unused / 100)


def _opened(use: Use) -> Use:
    return replace(use, closed=False, reported=False, idle=0.0)


def unused_words(notice: OpeningUnused) -> str:
    """What is told of it, in one line."""
    end = "; closed until `vpnpf policy open` opens it again" if notice.closed else "; close it if it is not needed"
    return f"{notice.what}: nobody came in for {in_words(notice.after)}{end}"


def in_words(seconds: float) -> str:
    """How long, in the largest unit that it is a whole number of: "7 days", "36 hours"."""
    whole = max(1, round(seconds))
    size, unit = next((size, unit) for size, unit in _UNITS if whole % size == 0)
    return f"{whole // size} {unit}{'' if whole == size else 's'}"
