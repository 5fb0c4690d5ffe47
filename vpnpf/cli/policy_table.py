"""A port policy for people, a line each."""

from __future__ import annotations

from vpnpf.cli.policy_standing import SeenForward, SeenProvider, SeenUse, Standing
from vpnpf.core.policy_words import FORWARDED, entry, moment
from vpnpf.core.spans import span
from vpnpf.model import PolicyMode
from vpnpf.policy_changes import Times
from vpnpf.printable import printable

_MODES = {
    PolicyMode.OPEN_ALL: "open-all: every port is open to the internet",
    PolicyMode.BLOCK_ALL: "block-all: nobody can come in",
    PolicyMode.ALLOW_LIST: "allow-list: what is listed can come in",
}


def lines(standing: Standing, times: Times) -> list[str]:
    """Everything about it."""
    seen, policy = standing.seen, standing.policy
    found = [f"{seen.profile}: {_MODES[policy.mode]}", f"  origin: {_origin(standing)}", f"  here: {_here(standing)}"]
    if seen.provider is not None:
        found.append(f"  at the provider: {_provider(seen.provider, times)}")
    if policy.mode is PolicyMode.ALLOW_LIST or policy.openings:
        idle = (
            "" if policy.mode is PolicyMode.ALLOW_LIST else f", back with: vpnpf policy set {seen.profile} allow-list"
        )
        found.append(f"  entries{idle}:")
        found += _entries(standing, times)
    if seen.forwards:
        found.append("  forwarded ports:")
        found += [f"    {_forward(each)}{_closed(seen.uses.get(f'forward {each.name}'))}" for each in seen.forwards]
    return [printable(line) for line in found]


def _origin(standing: Standing) -> str:
    seen = standing.seen
    if seen.set_at is None:
        return "the configuration"
    differs = "differs from the configuration" if seen.differs else "the same as in the configuration"
    return f"set by hand on {moment(seen.set_at)}, {differs}; back to that with: vpnpf policy reset {seen.profile}"


def _here(standing: Standing) -> str:
    seen = standing.seen
    if not standing.running:
        return f"not in force, vpnpf does not run{'; ' + seen.unapplied if seen.unapplied else ''}"
    if not seen.applied:
        return f"NOT in force{': ' + seen.unapplied if seen.unapplied else ', it is being applied'}"
    if seen.stage != "connected":
        return "in force; without a tunnel nothing comes in"
    return "in force, as read back from the kernel"


def _entries(standing: Standing, times: Times) -> list[str]:
    policy, packets = standing.policy, standing.seen.packets
    rows = [(FORWARDED, "")] if policy.forwarded else []
    rows += [
        (entry(each, times.boot, times.offset), _used(packets.get(each.key), standing.seen.uses.get(each.key), times))
        for each in policy.openings
    ]
    if not rows:
        return ["    none"]
    widest = max(len(text) for text, _ in rows)
    return [f"    {text:<{widest}}  {count}".rstrip() for text, count in rows]


def _provider(provider: SeenProvider, times: Times) -> str:
    since = f", as it said {span(times.wall - provider.at)} ago" if provider.at is not None else ""
    return f"it {provider.lets_in}{since}" + (f"; {provider.disagree}" if provider.disagree else "; as wanted here")


def _used(count: int | None, use: SeenUse | None, times: Times) -> str:
    """What is known of the use of an entry; empty: nothing."""
    parts = [] if count is None else [_packets(count)]
    if use is not None and use.last is not None:
        parts.append(f"last {span(times.wall - use.last)} ago")
    if use is not None and use.closed:
        parts.append("CLOSED because nobody used it; `vpnpf policy open` opens it again")
    return ", ".join(parts)


def _packets(count: int) -> str:
    return f"{count} packet{'' if count == 1 else 's'} came in" if count else "nobody came in"


def _closed(use: SeenUse | None) -> str:
    return ", CLOSED because nobody used it" if use is not None and use.closed else ""


def _forward(forward: SeenForward) -> str:
    to = f" to {forward.target}, port {forward.listen_port}" if forward.target else ""
    local = f" to local port {forward.listen_port}" if not to and forward.listen_port != forward.external_port else ""
    sources = f" from {', '.join(forward.sources)}" if forward.sources else ""
    shut = ", held and not open" if forward.shut else ""
    counted = ", ".join(f"{count} {protocol}" for protocol, count in forward.packets.items())
    told = f": {counted} packets came in" if counted else ""
    return (
        f"{forward.name}: {forward.external_port} ({' and '.join(forward.protocols)}){to}{local}{sources}{shut}{told}"
    )
