"""The largest packet that gets through a tunnel whole.

Where the way to the server carries less than usual (PPPoE, LTE, a tunnel in a tunnel) and says nothing about it, small
packets arrive and large ones vanish: connections open and then hang. So the resolver in the tunnel is asked with
questions of falling size, and the first size that is answered is the tunnel's.
"""

from __future__ import annotations

from vpnpf.errors import NoAnswer, Unsupported
from vpnpf.io import process
from vpnpf.model import Tunnel
from vpnpf.tunnels import questions

SIZES = (1420, 1412, 1400, 1380, 1360, 1320, 1280)
"""Bytes; with 60 to 80 around them: Ethernet, PPPoE, and what people set by hand. 1280 is the least of IPv6."""
PATIENCE = 0.7
TRIES = 2
DOING = "fitting the tunnel's MTU"


async def fit(tunnel: Tunnel, size_now: int) -> int:
    """Find it and set the device to it; `size_now` is what the device has. Returns what it has then.

    Raises Unsupported if there is nobody to ask, NoAnswer if he answers nothing, Transient.
    """
    if not tunnel.plan.dns:
        raise Unsupported(DOING, "the tunnel has no resolver that could be asked")
    if not await _answered(tunnel, 0):
        raise NoAnswer(DOING, "the tunnel's resolver does not answer")
    for size in (size_now, *(size for size in SIZES if size < size_now)):
        if await _answered(tunnel, size):
            # A while in which nothing got through looks the same, so the large ones are given another chance.
            if size != size_now and await _answered(tunnel, size_now):
                return size_now
            if size != size_now:
                argv = ("ip", "link", "set", "dev", tunnel.interface, "mtu", str(size))
                await process.must(argv, doing=DOING)
            return size
    # None of them: it is not their size that keeps them from being answered.
    raise NoAnswer(DOING, "the tunnel's resolver answers small questions only")


async def _answered(tunnel: Tunnel, size: int) -> bool:
    for _ in range(TRIES):
        if await questions.ask(tunnel, PATIENCE, size):
            return True
    return False
