"""The list of ports that a person wrote down: reading it, and which forward has which of them.

Pure; for the providers whose ports are set on their site (static.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple, cast

from vpnpf.api import BOTH, ForwardSpec, Objection, Option, Protocol

LAST_PORT = 65535
_ITEM = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?(?:/(tcp|udp))?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(r"[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})")
_WRITE = 'write 41001, "41001/tcp", or "41001:6881" for a public port and where it arrives'


class Port(NamedTuple):
    """A port that was set in the panel."""

    external: int
    internal: int
    """Where its packets arrive."""
    protocols: tuple[Protocol, ...]


class Panel(NamedTuple):
    """What a provider's site lets a person set."""

    place: str
    """Where that is, after a verb: "at airvpn.org"."""
    lowest: int = 1
    """The lowest public port that it gives."""
    maps: bool = False
    """Whether a port may arrive at another one."""


def read(panel: Panel, options: Mapping[str, object]) -> tuple[tuple[Port, ...], tuple[Objection, ...]]:
    """The ports, in the order of the list, and what is wrong in it.

    A port that is there once for TCP and once for UDP, to arrive at the same one, is one port.
    """
    wrong: list[Objection] = []
    found: dict[tuple[int, int], tuple[Protocol, ...]] = {}
    seen: dict[tuple[int, Protocol], int] = {}
    items = cast("list[object]", options.get("ports", []))
    if not items:
        wrong.append(Objection(("options", "ports"), "there is no port in it", _WRITE))
    for place, item in enumerate(items):
        port = _port(panel, item)
        if isinstance(port, Port):
            before = next((seen[port.external, each] for each in port.protocols if (port.external, each) in seen), None)
            if before is None:
                key = (port.external, port.internal)
                found[key] = tuple(each for each in BOTH if each in (*found.get(key, ()), *port.protocols))
                seen |= {(port.external, each): place for each in port.protocols}
                continue
            port = (f"port {port.external} is there already, as item {before + 1}", "write each port once")
        wrong.append(Objection(("options", "ports", place), *port))
    return tuple(Port(*key, protocols) for key, protocols in found.items()), tuple(wrong)


def _port(panel: Panel, item: object) -> Port | tuple[str, str]:
    """One item of the list, or what is wrong with it and the next step."""
    text = str(item) if type(item) in {int, str} else ""
    match = _ITEM.fullmatch(text)
    if match is None:
        return "it is not a port", _WRITE
    external, internal = int(match[1]), int(match[2] or match[1])
    if not (1 <= external <= LAST_PORT and 1 <= internal <= LAST_PORT):
        return f"it is not a port from 1 to {LAST_PORT}", _WRITE
    if external < panel.lowest:
        return f"no port below {panel.lowest} can be had {panel.place}", "write the public port that the site shows"
    if internal != external and not panel.maps:
        what = f"a port of {panel.place.removeprefix('at ')} arrives as the same port"
        return what, 'write the number alone; if it is otherwise by now, use provider = "static"'
    return Port(external, internal, (Protocol(match[3]),) if match[3] else BOTH)


def chosen(ports: tuple[Port, ...], spec: ForwardSpec) -> Port | Objection:
    """The port of a forward: the one that it names, else the one at its place in the list; or why there is none."""
    at, wished = ("forwards", spec.name), spec.external_port
    if wished is None and spec.slot >= len(ports):
        what = f"{len(ports)} {'port is' if len(ports) == 1 else 'ports are'} listed, and there are more forwards"
        return Objection(at, what, "add its port to options.ports, or remove the forward")
    there = tuple(port for port in ports if port.external == wished) if wished else ports[spec.slot : spec.slot + 1]
    if not there:
        listed = ", ".join(str(each) for each in dict.fromkeys(port.external for port in ports))
        return Objection((*at, "external_port"), f"{wished} is not in options.ports", f"listed: {listed}")
    for port in there:
        if set(spec.protocols) <= set(port.protocols):
            return port
    port = there[0]
    has = " and ".join(port.protocols)
    hint = (
        f"forward it for {' and '.join(spec.protocols)} on the site too, or write protocols = {_toml(port.protocols)}"
    )
    return Objection((*at, "protocols"), f"port {port.external} is listed for {has} alone", hint)


def check(panel: Panel, options: Mapping[str, object], forwards: tuple[ForwardSpec, ...]) -> tuple[Objection, ...]:
    """What is wrong with the list of ports, and with the forwards that are to have them."""
    ports, wrong = read(panel, options)
    return wrong or tuple(_unclear(ports, forwards))


def _unclear(ports: tuple[Port, ...], forwards: tuple[ForwardSpec, ...]) -> Iterator[Objection]:
    """The forwards that have no port, or one that may not be the one that was meant."""
    taken: dict[Port, str] = {}
    named = {spec.external_port for spec in forwards}
    free = [port.external for port in ports if port.external not in named]
    another = f"write external_port = {free[0]}" if free else "add its port to options.ports"
    # Those that say which port they want have it; who comes at the same place of the list is told.
    for place, spec in sorted(enumerate(forwards), key=lambda each: each[1].external_port is None):
        found = chosen(ports, spec)
        if isinstance(found, Objection):
            yield found
        elif found in taken:
            what = f"its port would be {found.external}, which the forward {taken[found]} has"
            yield Objection(("forwards", spec.name), what, another)
        elif spec.external_port is None and spec.slot != place:
            what = "it is not clear which port is meant, since forwards with a local port of their own come last"
            hint = f"write external_port = {ports[place].external}" if place < len(ports) else another
            yield Objection(("forwards", spec.name), what, hint)
        else:
            taken[found] = spec.name


def _toml(protocols: tuple[Protocol, ...]) -> str:
    return "[" + ", ".join(f'"{protocol}"' for protocol in protocols) + "]"


def end_of(text: str) -> datetime:
    """When a port ends: at that time, or with that day in UTC. Raises ValueError."""
    if _DATE.fullmatch(text):
        return datetime.combine(date.fromisoformat(text), datetime.min.time(), UTC) + timedelta(days=1)
    if _DATE.fullmatch(text[:10]) and _TIME.fullmatch(text[10:]):
        return datetime.fromisoformat(text).astimezone(UTC)
    raise ValueError("neither a date nor a date and time")


def _wrong_end(value: object) -> str:
    try:
        end_of(str(value))
    except (ValueError, OverflowError):
        return "not a date as 2026-12-08, or a date and time as 2026-12-08T14:30:00Z"
    return ""


OPTIONS = (
    Option("ports", list, 'the ports as the site shows them: [41001], ["41001/tcp", "41002:6881"]', required=True),
    Option("ends", str, 'when they end, if they do, in quotes: "2026-12-08" or "2026-12-08T14:30:00Z"', _wrong_end),
)
