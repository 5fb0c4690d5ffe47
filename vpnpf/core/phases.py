"""From which phase to which a profile may go: the table that tests hold every step against, and the docs are drawn from."""

from __future__ import annotations

from vpnpf.model import Phase

TRANSITIONS: dict[Phase, dict[Phase, str]] = {
    Phase.STARTING: {
        Phase.CONNECTING: "the rules stand",
        Phase.FAILED: "the kernel takes no rules",
        Phase.STOPPING: "asked to stop",
    },
    Phase.CONNECTING: {
        Phase.LEASING: "the tunnel is up",
        Phase.FAILED: "the tunnel cannot be",
        Phase.STOPPING: "asked to stop",
    },
    Phase.LEASING: {
        Phase.READY: "every forward is followed",
        Phase.BLOCKED: "the tunnel is lost",
        Phase.FAILED: "no port can be had",
        Phase.STOPPING: "asked to stop",
    },
    Phase.READY: {
        Phase.LEASING: "a link of the chain broke, or the port changed",
        Phase.BLOCKED: "the tunnel is lost",
        Phase.FAILED: "the kernel takes no rules",
        Phase.STOPPING: "asked to stop",
    },
    Phase.BLOCKED: {
        Phase.LEASING: "the tunnel is back",
        Phase.FAILED: "the tunnel cannot be",
        Phase.STOPPING: "asked to stop",
    },
    Phase.FAILED: {
        Phase.STARTING: "tried again",
        Phase.CONNECTING: "tried again",
        Phase.LEASING: "tried again",
        Phase.READY: "tried again",
        Phase.BLOCKED: "tried again",
        Phase.STOPPING: "asked to stop",
    },
    Phase.STOPPING: {Phase.STOPPED: "all is undone"},
    Phase.STOPPED: {},
}
"""From, to, and what brings it about."""


def drawn() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {Phase.STARTING.name}"]
    for before, after in TRANSITIONS.items():
        lines += [f"    {before.name} --> {phase.name}: {why}" for phase, why in after.items()]
    lines.append(f"    {Phase.STOPPED.name} --> [*]")
    return "\n".join(lines)
