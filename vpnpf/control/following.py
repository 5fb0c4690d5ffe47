"""The events of a profile in words: what `vpnpf run` says, for whoever reads them over the socket. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from vpnpf.control.messages import Json
from vpnpf.control.seen import Seen, read
from vpnpf.core.talk import Telling
from vpnpf.printable import printable

QUIET = frozenset({"renewed", "switch"})
"""Kinds of events that only a person who wants to know all is told."""


class Following:
    """Turns events into lines, each once, and keeps the newest state."""

    def __init__(self, *, verbose: bool = False) -> None:
        self.seen: Seen | None = None
        """The newest state; None before the first."""
        self._verbose = verbose
        self._telling = Telling()

    def lines(self, event: Json) -> list[str]:
        """What a person is told of it, each line with the time of day in UTC. Raises Unavailable for what is no event."""
        at = _moment(event.get("time"))
        hour = f"{at:%H:%M:%S} " if at is not None else ""
        return [printable(hour + line) for line in self._told(event, at.timestamp() if at is not None else 0.0)]

    def _told(self, event: Json, at: float) -> list[str]:
        kind = event.get("event")
        if kind == "state":
            self.seen = read(event)
            return self._news(self.seen)
        if kind == "missed":
            return [f"{event.get('count')} events were lost: they were not read in time"]
        talk = event.get("talk")
        if not isinstance(talk, list) or (kind in QUIET and not self._verbose):
            return []
        problem = f"{event.get('doing')}: {event.get('message')}" if kind == "problem" else None
        return self._telling.notice(map(str, talk), at, problem)

    def _news(self, seen: Seen) -> list[str]:
        lines = self._telling.place(seen.tunnel.place) if seen.tunnel is not None else []
        for forward in seen.forwards:
            proof = forward.proofs.get("reachable")
            if forward.external_port is not None and proof is not None and proof.ok:
                lines += self._telling.reached(forward.name, forward.external_port, proof.evidence)
        return lines


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(str(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
