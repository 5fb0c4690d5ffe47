"""A tunnel in a network namespace of its own: its program and its own packets are outside, its device is brought in."""

from __future__ import annotations

import os

from vpnpf.interfaces import Outside
from vpnpf.io import netns, process


def at(outside: Outside | None, program: str) -> tuple[str, ...]:
    """A program so that it runs where the tunnel's own packets leave. Raises Unavailable."""
    return (*outside.prefix, process.find(program)) if outside else (program,)


def home(outside: Outside | None) -> tuple[int, int]:
    """The network namespace that such programs are in."""
    return outside.number if outside else netns.number()


async def bring_in(outside: Outside | None, device: str) -> None:
    """Move a device that was made outside to us; it is down then. Raises Transient, Unavailable."""
    if outside:
        argv = (*at(outside, "ip"), "link", "set", device, "netns", str(os.getpid()))
        await process.must(argv, doing="moving the tunnel's device into its network namespace")


async def delete(outside: Outside | None, device: str) -> None:
    """Remove a device, also one that a killed run did not bring in. Nothing happens if there is none."""
    await process.run(("ip", "link", "del", device))
    if outside:
        await process.run((*at(outside, "ip"), "link", "del", device))
