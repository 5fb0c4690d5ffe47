"""Port mapping by UPnP IGD, version 1 and 2, through one device (`interfaces.Igd`).

What the gateway is told and what its answers look like is the business of the package async-upnp-client, an extra:
it is loaded when a gateway is looked for, in `vpnpf.io.upnp_device` and nowhere else.
"""

from __future__ import annotations

import asyncio
import ipaddress
from importlib import import_module
from types import ModuleType

from vpnpf.errors import Unsupported
from vpnpf.interfaces import Igd
from vpnpf.io import ssdp


async def find(device: str, address: str, gateway: str) -> Igd:
    """Find the gateway's device, from our own IPv4 address `address` and by this network device only.

    Raises Unsupported if it maps no ports, is no IPv4 address or the package is missing; NoAnswer, Refused or
    Transient for a gateway that is not there or talks nonsense.
    """
    doing = f"looking for a UPnP gateway at {gateway}"
    try:
        gateway = str(ipaddress.IPv4Address(gateway))
    except ValueError:
        raise Unsupported(doing, "UPnP maps ports of IPv4 only", "set the gateway's IPv4 address") from None
    # In a thread: it takes a tenth of a second and more, and a loop that keeps ports must not stand still so long.
    library = await asyncio.to_thread(_library, doing)
    location = await ssdp.locate(device, address, gateway)
    found: Igd = await library.connect(location, device, address, gateway)
    return found


def _library(doing: str) -> ModuleType:
    try:
        return import_module("vpnpf.io.upnp_device")
    except ImportError as error:
        if (error.name or "").startswith("vpnpf"):
            raise
        raise Unsupported(doing, f"the package {error.name} is not installed", "pip install vpnpf[upnp]") from None
