"""The allow-list as the control socket tells it, as rows to be shown. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import Struct

from vpnpf.control.messages import Json
from vpnpf.control.told import told

FORWARDED = "forwarded"
_MINUTE, _HOUR, _DAY = 60, 3600, 86400


class Row(Struct, frozen=True):
    """An entry."""

    words: str
    """As it is written again: "22/tcp from 203.0.113.0/24"."""
    what: str
    who: str
    ends_at: float | None = None
    """Seconds since 1970; None: it stays."""
    packets: int | None = None
    last: float | None = None
    """When somebody came in last, in seconds since 1970."""
    closed: bool = False
    comment: str = ""


class _Opening(Struct, frozen=True):
    first: int
    last: int
    protocol: str
    sources: tuple[str, ...] = ()
    name: str = ""
    comment: str = ""
    ends_at: float | None = None


class _Policy(Struct, frozen=True):
    mode: str
    forwarded: bool = True
    openings: tuple[_Opening, ...] = ()


class _Use(Struct, frozen=True):
    last: float | None = None
    closed: bool = False


class _Told(Struct, frozen=True):
    policy: _Policy
    digest: str = ""
    packets: dict[str, int] = {}
    uses: dict[str, _Use] = {}


class Listed(Struct, frozen=True):
    """The list, and whether it counts."""

    mode: str
    digest: str
    rows: tuple[Row, ...]


def listed(answer: Json) -> Listed:
    """Of what `GET /v1/policy` answers. Raises Unavailable for what cannot be read."""
    said = told(answer, _Told, "policy")
    return Listed(said.policy.mode, said.digest, tuple(_rows(said)))


def _rows(told: _Told) -> Iterator[Row]:
    if told.policy.forwarded:
        yield Row(FORWARDED, "the forwarded ports", "as each forward says")
    for each in told.policy.openings:
        port = f"{each.first}" if each.first == each.last else f"{each.first}-{each.last}"
        what = f"{port}/{each.protocol}"
        sources = ", ".join(each.sources)
        words = f"{what} from {sources}" if sources else what
        use = told.uses.get(words, _Use())
        yield Row(
            words,
            f"{what} ({each.name})" if each.name else what,
            sources or "everybody",
            each.ends_at,
            told.packets.get(words),
            use.last,
            use.closed,
            each.comment,
        )


def left(ends_at: float | None, now: float) -> str:
    """How long an entry still is there, to the second where that counts."""
    if ends_at is None:
        return "stays"
    rest = max(0, round(ends_at - now))
    if not rest:
        return "over"
    if rest >= _DAY:
        return f"{rest // _DAY} d {rest % _DAY // _HOUR} h"
    minutes = f"{rest // _MINUTE % 60:02}:{rest % _MINUTE:02}"
    return f"{rest // _HOUR}:{minutes}" if rest >= _HOUR else minutes


def use(row: Row) -> str:
    """What is known of the use of an entry, in a word or two; empty: nothing."""
    if row.closed:
        return "CLOSED"
    if not row.packets:
        return "" if row.packets is None else "nobody yet"
    return f"{row.packets} packet{'' if row.packets == 1 else 's'}"


def whole(row: Row, now: float) -> str:
    """All that is known of an entry, on a line."""
    if row.words == FORWARDED:
        return "every port that a forward holds, open to whom its configuration says"
    parts = [f"{row.what}, open to {row.who}"]
    parts += [row.comment] if row.comment else []
    if row.closed:
        parts.append("CLOSED because nobody used it; open it again by writing it anew")
    elif use(row):
        ago = f", the last {_ago(now - row.last)} ago" if row.last is not None else ""
        parts.append(f"{use(row)} came in{ago}" if row.packets else "nobody came in yet")
    return " · ".join(parts)


def _ago(seconds: float) -> str:
    whole = max(0, round(seconds))
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min")):
        if whole >= unit:
            return f"{whole // unit} {name}"
    return f"{whole} s"
