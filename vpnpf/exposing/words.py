"""Open ports and findings as lines for a person, and as JSON for a script."""

from __future__ import annotations

from collections.abc import Iterator

from vpnpf.core.exposure import Finding
from vpnpf.core.reach import Exposed, Listener, Place, answers_beside
from vpnpf.core.serialise import Json, time_of
from vpnpf.core.spans import span
from vpnpf.io.listeners import Listening
from vpnpf.model import PortPolicy
from vpnpf.printable import printable

_OTHERS = "what the provider lets in is its own matter; other customers of its server may reach every open port"


def words(
    profile: str,
    policy: PortPolicy,
    spans: tuple[Exposed, ...],
    found: tuple[Finding, ...],
    listening: Listening,
    place: Place,
    notes: tuple[str, ...],
    now: float,
) -> list[str]:
    """Everything, a line each; `now` is on CLOCK_BOOTTIME."""
    lines = [f"{profile}: {policy.mode}, " + ("nothing is open" if not spans else _OTHERS)]
    for each in spans:
        lines += _open(each, listening, place, now)
    for finding in found:
        lines += ["", *finding_lines(finding)]
    lines += ["", "nothing to warn of"] if spans and not found else []
    lines += ["", *(f"note: {note}" for note in notes)] if notes else []
    return [printable(line) for line in lines]


def finding_lines(finding: Finding) -> list[str]:
    """A finding: what, why it matters, what to do."""
    why = f"  why: {finding.why}" + (f" ({finding.source})" if finding.source else "")
    return [printable(line) for line in (f"{finding.severity}: {finding.what}", why, f"  do: {finding.todo}")]


def _open(each: Exposed, listening: Listening, place: Place, now: float) -> Iterator[str]:
    why = f" ({each.why})" if each.why else ""
    sources = f", from {', '.join(each.sources)}" if each.sources else ""
    head = f"  {each}{why}{sources}: "
    if each.target is not None:
        yield f"{head}goes on to {each.target}, which is not looked at"
    elif not each.listeners:
        yield f"{head}nothing listens"
    else:
        yield f"{head}{len(each.listeners)} listening"
    for listener in each.listeners:
        since = f", for {span(now - listener.owner.since)}" if listener.owner else ""
        beside = "; also beside the tunnel" if answers_beside(listener, listening.listeners, place) else ""
        yield f"    {listener} on {_where(listener)}: {listener.who}{since}{beside}"


def _where(listener: Listener) -> str:
    where = "any address" if listener.any_address else listener.address
    if listener.any_address and ":" not in listener.address:
        where = "any IPv4 address"
    elif listener.any_address and listener.v6_only:
        where = "any IPv6 address"
    return f"{where} of {listener.device}" if listener.device else where


def as_json(
    profile: str,
    policy: PortPolicy,
    spans: tuple[Exposed, ...],
    found: tuple[Finding, ...],
    listening: Listening,
    place: Place,
    notes: tuple[str, ...],
    offset: float,
) -> Json:
    """The same as one object; `offset` is wall-clock time minus CLOCK_BOOTTIME."""
    return {
        "profile": profile,
        "mode": str(policy.mode),
        "open": [_open_json(each, listening, place, offset) for each in spans],
        "findings": [
            {
                "severity": str(each.severity),
                "kind": each.kind,
                "ports": list(each.ports),
                "what": each.what,
                "why": each.why,
                "do": each.todo,
                "source": each.source or None,
            }
            for each in found
        ],
        "unseen_processes": listening.unseen,
        "notes": list(notes),
    }


def _open_json(each: Exposed, listening: Listening, place: Place, offset: float) -> Json:
    return {
        "protocol": str(each.protocol),
        "first": each.first,
        "last": each.last,
        "why": each.why or None,
        "sources": list(each.sources),
        "target": each.target,
        "listeners": [
            {
                "port": listener.port,
                "address": listener.address,
                "device": listener.device or None,
                "user": listener.user,
                "program": listener.program or None,
                "interpreter": (listener.owner.interpreter or None) if listener.owner else None,
                "pid": listener.owner.pid if listener.owner else None,
                "running_since": time_of(listener.owner.since if listener.owner else None, offset),
                "beside_the_tunnel": answers_beside(listener, listening.listeners, place),
            }
            for listener in each.listeners
        ],
    }
