"""Whether this machine has a way out at all: a server is not to be blamed for a cable that is out."""

from __future__ import annotations

import json
from typing import Any

from vpnpf.errors import Offline
from vpnpf.interfaces import Outside
from vpnpf.io import process
from vpnpf.model import TunnelPlan
from vpnpf.tunnels.outside import at


async def offline(doing: str, plan: TunnelPlan, outside: Outside | None = None) -> Offline | None:
    """Why nothing can come back from a tunnel's server, if this machine has no way out. Raises Unavailable, Transient."""
    why = await is_down(plan.endpoint.address, plan.mark, outside)
    return Offline(doing, why, "plug the cable in, or join the network; it goes on by itself then") if why else None


async def is_down(address: str, mark: int, outside: Outside | None = None) -> str:
    """Say in a few words why nothing can get from here to a server's address; empty: something can. Raises Unavailable.

    "Here" is where the tunnel's own packets leave.
    """
    ip = at(outside, "ip")
    family = "-6" if ":" in address else "-4"
    done = await process.run((*ip, "-j", family, "route", "get", address, "mark", f"{mark:#x}"))
    device = device_of(done.stdout) if done.status == 0 else ""
    if not device:
        return "this machine has no route to it"
    shown = await process.run((*ip, "-j", "link", "show", "dev", device))
    return "" if carries(shown.stdout) else f"the link {device} is down"


def device_of(printed: str) -> str:
    """The device in what `ip -j route get` prints; empty: there is no way. Pure."""
    match _parsed(printed):
        case [{"dev": str(device), **rest}, *_] if rest.get("type", "unicast") in {"unicast", "local"}:
            return device
    return ""


def carries(printed: str) -> bool:
    """Whether a device in what `ip -j link show` prints is up and has carrier, as far as it says. Pure."""
    match _parsed(printed):
        case [{"flags": list(flags)}, *_]:
            return "UP" in flags and "NO-CARRIER" not in flags
    return False


def _parsed(printed: str) -> Any:  # noqa: ANN401 - whatever `ip` prints
    try:
        return json.loads(printed or "[]")
    except (ValueError, RecursionError):
        return []
