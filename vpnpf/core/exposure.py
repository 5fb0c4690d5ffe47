"""What is wrong with what the internet can reach through the tunnel, in plain words, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.core.dangers import Danger, danger_of
from vpnpf.core.reach import OPEN_ALL, Exposed, ForwardPort, Listener, Place, answers_beside, exposed
from vpnpf.model import LockMode, PortPolicy, Protocol

FEW = 16
"""Ports of an opening that are still named one by one where nothing listens."""


_SILENT = {"wireguard-go"}
"""Programs that answer nobody whom they do not know already."""
_OWN_QUESTIONS = 32768
"""From here on the kernel gives ports to programs that ask for none (ip_local_port_range): with UDP such a socket
mostly waits for answers to its own questions."""


class WebInterface(Struct, frozen=True):
    """The web interface of a torrent client of the configuration."""

    kind: str
    """The client's type: "qbittorrent"."""
    port: int
    lets_in: bool | None = None
    """Whether it answered without a login; None: it was not asked, or said nothing clear."""


class Severity(StrEnum):
    """How much a finding matters."""

    DANGER = "danger"
    WARNING = "warning"
    NOTE = "note"
    """Worth knowing; nobody is asked about it."""


class Finding(Struct, frozen=True):
    """Something that a person should know before ports are opened."""

    severity: Severity
    kind: str
    """Id of a service in `dangers`, or "open-all", "linkable", "web-interface"."""
    title: str
    why: str
    """Why it matters, in plain words."""
    todo: str
    ports: tuple[str, ...] = ()
    who: str = ""
    """The program behind the ports, in words; empty: none."""
    source: str = ""
    """What the reason rests on."""

    @property
    def what(self) -> str:
        """What was found, in one line."""
        at = f" on {', '.join(self.ports)}" if self.ports else ""
        return f"{self.title}{at}" + (f": {self.who}" if self.who else "")


def findings(
    spans: Iterable[Exposed], listeners: Iterable[Listener], place: Place, web: Iterable[WebInterface] = ()
) -> tuple[Finding, ...]:
    """What a person should know of open ports, the worst first."""
    return _merged(_raw(tuple(spans), tuple(listeners), place, tuple(web)))


def warnings_for(
    old: PortPolicy,
    new: PortPolicy,
    forwards: Iterable[ForwardPort],
    listeners: Iterable[Listener],
    place: Place | None = None,
    web: Iterable[WebInterface] = (),
) -> tuple[Finding, ...]:
    """What a person should know before `new` takes the place of `old`: only what `old` did not open already."""
    forwards, listeners, web, place = tuple(forwards), tuple(listeners), tuple(web), place or Place()
    before, after = (
        tuple(_raw(exposed(policy, forwards, listeners, place), listeners, place, web)) for policy in (old, new)
    )
    # One that was open to fewer sources is another finding now, by its severity or its words.
    return _merged(each for each in after if each not in before)


def must_ask(found: Iterable[Finding]) -> bool:
    """Whether a person has to agree first."""
    return any(each.severity is not Severity.NOTE for each in found)


def _raw(
    spans: tuple[Exposed, ...], listeners: tuple[Listener, ...], place: Place, web: tuple[WebInterface, ...]
) -> Iterator[Finding]:
    """One finding for each socket and each matter."""
    if any(span.why == OPEN_ALL for span in spans):
        yield _open_all(spans)
    by_chance = {
        (span.protocol, span.first) for span in spans if not span.by_port and not (span.target or span.sources)
    }
    forwarded = {(span.protocol, span.first) for span in spans if span.forwarded}
    for span in spans:
        for each in span.listeners:
            by_port = span.by_port and (each.protocol, each.port) not in by_chance
            yield from _dangerous(span, each, _danger(each, web, by_port=by_port), web)
            closed = not place.lan or (each.protocol, each.port) in forwarded
            asks = span.why == OPEN_ALL and each.protocol is Protocol.UDP and each.port >= _OWN_QUESTIONS
            if not asks and each.program not in _SILENT:
                yield from _linkable(each, listeners, place, closed=closed)
        if not span.listeners and span.by_port:
            yield from _waiting(span)


def _open_all(spans: tuple[Exposed, ...]) -> Finding:
    behind = len({each.program or each.who for span in spans for each in span.listeners})
    count = "no program listens" if not behind else "1 program listens" if behind == 1 else f"{behind} programs listen"
    return Finding(
        Severity.WARNING,
        "open-all",
        f"every port is opened to anybody, and {count} behind them now",
        "whatever is started later is open as well, without a further word",
        "name the ports that you need: mode allow-list",
    )


def _danger(listener: Listener, web: tuple[WebInterface, ...], *, by_port: bool) -> Danger | None:
    for each in web:
        if listener.protocol is Protocol.TCP and listener.port == each.port:
            return danger_of(Protocol.TCP, _WEB_PORTS.get(each.kind, 0), each.kind)
    return danger_of(listener.protocol, listener.port, listener.program, by_port=by_port)


_WEB_PORTS = {"qbittorrent": 8080, "transmission": 9091, "deluge": 8112}


def _dangerous(
    span: Exposed, listener: Listener, danger: Danger | None, web: tuple[WebInterface, ...]
) -> Iterator[Finding]:
    if danger is None:
        return
    severity = Severity.WARNING if danger.careful else Severity.DANGER
    title, why, kind = danger.name, danger.why, danger.id
    asked = next((each.lets_in for each in web if each.port == listener.port), None) if danger.web else None
    if danger.web and listener.protocol is Protocol.TCP:
        kind = "web-interface"
        if asked is True:
            title, why = f"{title}, which asks for no login,", f"it lets everybody in, and {why}"
        elif asked is False:
            severity = Severity.WARNING
            title, why = f"{title}, which asks for a login,", f"passwords can be guessed, and {why}"
    elif not danger.is_run_by(listener.program):
        title = f"the port of {title}"
    yield Finding(
        _lessened(severity, span.sources),
        kind,
        f"{title} {_to(span.sources)}",
        why,
        danger.todo,
        (str(listener),),
        listener.who,
        danger.source,
    )


def _waiting(span: Exposed) -> Iterator[Finding]:
    if span.target is not None or span.last - span.first >= FEW:
        return
    for port in range(span.first, span.last + 1):
        danger = danger_of(span.protocol, port)
        if danger is not None and not danger.careful:
            title = f"the port of {danger.name} {_to(span.sources)}, where nothing listens now"
            yield Finding(
                Severity.NOTE,
                danger.id,
                title,
                danger.why,
                danger.todo,
                (f"{port}/{span.protocol}",),
                source=danger.source,
            )


def _linkable(listener: Listener, listeners: tuple[Listener, ...], place: Place, *, closed: bool) -> Iterator[Finding]:
    """`closed`: the rules let nobody come to it by other links as long as the lock stands."""
    if not answers_beside(listener, listeners, place):
        return
    told = "somebody who sees both addresses can tell by its answers that they are the same machine, and so who you are"
    line = "at the address of your own line"
    if place.lock is LockMode.OFF:
        severity, title = Severity.WARNING, f"it also answers {line}"
    elif closed:
        severity, title = Severity.NOTE, f"without the lock it also answers {line}"
    else:
        severity, title = Severity.NOTE, f"it also answers on the LAN, and without the lock {line}"
    yield Finding(
        severity,
        "linkable",
        title,
        told,
        f"let it listen on the tunnel's address alone{f' ({place.addresses[0]})' if place.addresses else ''}",
        (str(listener),),
        listener.who,
    )


def _to(sources: tuple[str, ...]) -> str:
    return f"is open to {', '.join(sources)}" if sources else "is open to anybody"


def _lessened(severity: Severity, sources: tuple[str, ...]) -> Severity:
    """A step less where only few can come in."""
    if not sources:
        return severity
    return Severity.WARNING if severity is Severity.DANGER else Severity.NOTE


_ORDER = tuple(Severity)


def _merged(found: Iterable[Finding]) -> tuple[Finding, ...]:
    """Findings that differ by the port alone become one; the worst first, otherwise as they came."""
    ports: dict[Finding, dict[str, None]] = {}
    for each in found:
        ports.setdefault(replace(each, ports=()), {}).update(dict.fromkeys(each.ports))
    merged = [replace(each, ports=tuple(named)) for each, named in ports.items()]
    return tuple(sorted(merged, key=lambda each: _ORDER.index(each.severity)))
