"""What READY means, in words. Pure, and quick to load."""

from __future__ import annotations

from collections.abc import Collection


def ready_words(ports: Collection[bool]) -> str:
    """`ports`: of each forward, whether the policy lets anybody in by its port."""
    if not ports:
        return "the tunnel is up"
    which, verb, it = ("the port", "is", "it") if len(ports) == 1 else ("the ports", "are", "them")
    if all(ports):
        return f"{which} {verb} open, and kept"
    return f"{which} {verb} kept; the policy keeps {'some of ' if any(ports) else ''}{it} shut"
