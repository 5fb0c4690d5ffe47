"""The program `ip`, many lines in one call, for each address family that the kernel has."""

from __future__ import annotations

from pathlib import Path

from vpnpf.core.routes import FAMILIES
from vpnpf.io import process

PROC = Path("/proc")
V4, V6 = FAMILIES


async def force(family: str, lines: list[str]) -> process.Completed:
    """Carry out all lines though some fail, with numbers for names in what they write. Raises Unavailable, Transient."""
    return await process.run(("ip", "-N", family, "-force", "-batch", "-"), stdin=_batch(lines))


async def listing(family: str, lines: list[str]) -> str:
    """What lines that list write; those that fail write nothing. Raises Unavailable, Transient."""
    return (await force(family, lines)).stdout


def complaint(done: process.Completed) -> str:
    """The first thing that `ip` did not like, in a few words; what was there already does not count."""
    said = (line.strip() for line in done.stderr.splitlines())
    return next((line for line in said if line and "File exists" not in line and not line.startswith("Command ")), "")


def families() -> tuple[str, ...]:
    """Those that the kernel has: where it has no IPv6 at all, none can leave, and `ip -6` would fail."""
    return (V4, V6) if (PROC / "net/if_inet6").exists() else (V4,)


def carried(interface: str, family: str) -> bool:
    """Whether a device carries a family: IPv6 may be switched off on some."""
    if family == V4:
        return True
    try:
        return (PROC / "sys/net/ipv6/conf" / interface / "disable_ipv6").read_text().strip() == "0"
    except OSError:  # there is no such device
        return False


def _batch(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"
