"""A port policy as JSON, for the store and the control socket, and back. Pure.

Ends are written in wall-clock time (seconds since 1970), since CLOCK_BOOTTIME starts anew with the machine; `offset` is
wall-clock time minus CLOCK_BOOTTIME.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from ipaddress import ip_network
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from vpnpf.model import Opening, PolicyMode, PortPolicy, Protocol

Port = Annotated[int, Meta(ge=1, le=65535)]
Text = Annotated[str, Meta(max_length=256)]
Wall = Annotated[float, Meta(ge=0, le=253402300799)]
"""Seconds since 1970, to the end of the year 9999."""
MOST_SOURCES = 256


class PolicyError(ValueError):
    """What came is no policy; reads as the cause: "openings[3]: 9000-8000/tcp is inverted"."""


class _Opening(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    first: Port
    last: Port
    protocol: Protocol
    sources: Annotated[tuple[Text, ...], Meta(max_length=MOST_SOURCES)] = ()
    name: Text = ""
    comment: Text = ""
    ends_at: Wall | None = None


class _Policy(Struct, frozen=True, forbid_unknown_fields=True):
    mode: PolicyMode
    forwarded: bool = True
    openings: tuple[_Opening, ...] = ()
    report_unused: Annotated[float, Meta(gt=0, le=1e9)] | None = None
    close_unused: bool = False


def policy_json(policy: PortPolicy, offset: float) -> dict[str, object]:
    """The policy as JSON can hold it."""
    # Not to_builtins, which leaves tuples.
    found: dict[str, object] = msgspec.json.decode(_encoded(policy, offset))
    return found


def _encoded(policy: PortPolicy, offset: float) -> bytes:
    openings = tuple(
        _Opening(
            each.first,
            each.last,
            each.protocol,
            each.sources,
            each.name,
            each.comment,
            None if each.ends_at is None else max(0.0, round(each.ends_at + offset, 3)),
        )
        for each in policy.openings
    )
    return msgspec.json.encode(
        _Policy(policy.mode, policy.forwarded, openings, policy.report_unused, policy.close_unused)
    )


def policy_from(value: object, offset: float) -> PortPolicy:
    """The policy that a value says, in canonical form. Raises PolicyError, naming the first place that is wrong."""
    try:
        wire = msgspec.convert(value, _Policy)
    except msgspec.ValidationError as error:
        raise PolicyError(str(error)) from None
    openings = [_opening(place, each, offset) for place, each in enumerate(wire.openings)]
    return PortPolicy(wire.mode, wire.forwarded, ordered(openings), wire.report_unused, wire.close_unused)


def digest(policy: PortPolicy) -> str:
    """Names what a policy says, apart from when its timed entries end: those may be told by how long they last."""
    timeless = tuple(each if each.ends_at is None else replace(each, ends_at=0.0) for each in policy.openings)
    return hashlib.sha256(_encoded(replace(policy, openings=timeless), 0.0)).hexdigest()[:32]


def without_ended(policy: PortPolicy, now: float) -> PortPolicy:
    """The policy without entries whose time is over at `now` (CLOCK_BOOTTIME)."""
    left = tuple(each for each in policy.openings if each.ends_at is None or each.ends_at > now)
    return policy if len(left) == len(policy.openings) else replace(policy, openings=left)


def ordered(openings: Iterable[Opening]) -> tuple[Opening, ...]:
    """Openings in the order of a policy; as that of the struct, but where that compares a time with None."""
    return tuple(sorted(openings, key=_order))


def _opening(place: int, wire: _Opening, offset: float) -> Opening:
    where = f"openings[{place}]"
    if wire.last < wire.first:
        raise PolicyError(f"{where}: {wire.first}-{wire.last}/{wire.protocol} is inverted")
    for text in (wire.name, wire.comment):
        if not text.isprintable():
            raise PolicyError(f"{where}: its name or comment has characters that cannot be printed")
    ends_at = None if wire.ends_at is None else wire.ends_at - offset
    sources = _sources(where, wire.sources)
    return Opening(wire.first, wire.last, wire.protocol, sources, wire.name, wire.comment, ends_at)


def _sources(where: str, texts: tuple[str, ...]) -> tuple[str, ...]:
    if not texts:
        return ()
    try:
        return tuple(sorted({str(ip_network(text)) for text in texts}))
    except ValueError:
        raise PolicyError(f"{where}: its sources are not all addresses or prefixes") from None


def _order(opening: Opening) -> tuple[object, ...]:
    return (
        opening.first,
        opening.last,
        opening.protocol,
        opening.sources,
        opening.name,
        opening.comment,
        opening.ends_at or 0.0,
    )
