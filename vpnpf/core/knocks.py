"""When a torrent client is asked to have its port knocked on from the internet, and what that says.

Only while nobody has come in: the knock is counted by the kernel like anybody's, and that is the proof. A port that was
found closed changes nothing else; the service that knocks may be down, or may see this machine by another address.
"""

from __future__ import annotations

from vpnpf.core.policy import why_shut
from vpnpf.core.state import ForwardState, Machine
from vpnpf.core.switch import blocked

FIRST = 5.0
"""Seconds that others have to come in first, once the client listens."""
AGAIN, LONGEST = 600.0, 4 * 3600.0
"""Seconds until the second knock, twice as many until the next, and at most so many."""


def knock_due(machine: Machine, forward: ForwardState) -> float | None:
    """When the next knock is due; None: there is nothing to be learnt by one."""
    proofs, tested = forward.proofs, forward.tested
    if proofs.reachable.ok or not forward.spec.client_tests or forward.spec.sources:
        return None
    if not (proofs.firewall.ok and proofs.client.ok and proofs.listening.ok) or proofs.listening.since is None:
        return None
    if why_shut(machine, forward) or blocked(machine, forward):
        return None
    first = proofs.listening.since + FIRST
    return max(first, tested.at + min(LONGEST, AGAIN * 2.0 ** (tested.times - 1))) if tested.times else first


def knock_words(forward: ForwardState) -> str:
    """What the last knock on this port said, after "nobody has come in yet"; empty: nothing."""
    found = forward.tested.open
    if found is None:
        return ""
    who = f"the port test of {forward.spec.client} says"
    return f", but {who} open: it may have knocked elsewhere" if found else f", and {who} closed"
