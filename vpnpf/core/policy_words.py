"""Port policies in words, and what is different between two. Pure.

`now` and `ends_at` are in seconds on CLOCK_BOOTTIME, `offset` is wall-clock time minus that.
"""

from __future__ import annotations

from datetime import datetime

from vpnpf.core.spans import span
from vpnpf.model import Opening, PolicyMode, PortPolicy

FORWARDED = "forwarded"
MOST_NAMED = 4
"""Entries that one line names."""


def ports(opening: Opening) -> str:
    """What is open to whom: "22/tcp from 203.0.113.0/24", in the form that can be written again."""
    return str(opening) + (f" from {', '.join(opening.sources)}" if opening.sources else "")


def entry(opening: Opening, now: float, offset: float) -> str:
    """All of an entry: "22/tcp (ssh) from 203.0.113.0/24, ends in 2 h 0 min (2026-12-01 10:00:00): backup"."""
    parts = str(opening)
    parts += f" ({opening.name})" if opening.name else ""
    parts += f" from {', '.join(opening.sources)}" if opening.sources else ""
    if opening.ends_at is not None:
        parts += f", {end(opening.ends_at, now, offset)}"
    return parts + (f": {opening.comment}" if opening.comment else "")


def end(at: float, now: float, offset: float) -> str:
    """When something ends, or that it has."""
    when = moment(at + offset)
    return f"ends in {span(at - now)} ({when})" if at > now else f"ended {span(now - at)} ago ({when})"


def moment(wall: float) -> str:
    """A wall-clock time for people, in the time zone of this machine."""
    try:
        return datetime.fromtimestamp(wall).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return "at a time that no calendar knows"


def difference(old: PortPolicy, new: PortPolicy, now: float, offset: float) -> list[str]:
    """What becomes of the old policy, a line each with "-" or "+" before it; empty: nothing changes."""
    lines = [f"- mode {old.mode}", f"+ mode {new.mode}"] if old.mode is not new.mode else []
    before, after = _entries(old, now, offset), _entries(new, now, offset)
    lines += [f"- {line}" for line in before if line not in after]
    lines += [f"+ {line}" for line in after if line not in before]
    return lines + _unused(old, new)


def consequence(old: PortPolicy, new: PortPolicy) -> str:
    """What a change of the mode means, in one sentence; empty: the mode stays."""
    if old.mode is new.mode:
        return ""
    return {
        PolicyMode.OPEN_ALL: "every port of this machine's tunnel address becomes reachable from the internet",
        PolicyMode.BLOCK_ALL: "nobody can come in any more, also not on a forwarded port; what goes out is left alone",
        PolicyMode.ALLOW_LIST: "only what the list names can come in",
    }[new.mode]


def changed(old: PortPolicy, new: PortPolicy) -> str:
    """That a policy was changed, in one sentence."""
    if old.mode is not new.mode:
        return f"the port policy is {new.mode} now, it was {old.mode}"
    before, after = {each.key for each in old.openings}, {each.key for each in new.openings}
    more, fewer = sorted(after - before), sorted(before - after)
    said = [f"{_some(keys)} {word}" for keys, word in ((more, "opened"), (fewer, "closed")) if keys]
    if old.forwarded is not new.forwarded:
        said.append(f"forwarded ports {'opened' if new.forwarded else 'closed'}")
    return f"the port policy ({new.mode}) was changed: {', '.join(said) or 'its entries say something else now'}"


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:MOST_NAMED]) + (f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else "")


def _entries(policy: PortPolicy, now: float, offset: float) -> dict[str, None]:
    """The entries in words; in a dictionary, since there may be thousands."""
    lines = [FORWARDED] if policy.forwarded else []
    lines += [entry(each, now, offset) for each in policy.openings]
    return dict.fromkeys(lines)


def _unused(old: PortPolicy, new: PortPolicy) -> list[str]:
    if (old.report_unused, old.close_unused) == (new.report_unused, new.close_unused):
        return []
    return [f"- {_unused_words(old)}", f"+ {_unused_words(new)}"]


def _unused_words(policy: PortPolicy) -> str:
    if policy.report_unused is None:
        return "unused openings are not looked for"
    does = "closed" if policy.close_unused else "reported"
    return f"openings unused for {span(policy.report_unused)} are {does}"
