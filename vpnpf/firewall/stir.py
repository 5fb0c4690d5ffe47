"""Whether somebody else touched our table or took one of our rules away, as the kernel tells it."""

from __future__ import annotations

import asyncio
import struct

from vpnpf.core.routes import PROTOCOL
from vpnpf.firewall.ruleset import FAMILY_TABLE
from vpnpf.io import netlink
from vpnpf.io.netlink import NETFILTER, NFTABLES, ROUTE, RULES4, RULES6, Changes

_TABLE = FAMILY_TABLE.split()[1].encode() + b"\0"
_OURS = struct.pack("=HHB", 5, 21, PROTOCOL)
"""The attribute FRA_PROTOCOL of a rule (linux/fib_rules.h): length, type, value."""


class Stirred:
    """One pair of sockets; what comes between two waits is kept."""

    def __init__(self) -> None:
        self._filter = Changes(NETFILTER, (NFTABLES,), lambda told: _TABLE in told)
        self._rules = Changes(ROUTE, (RULES4, RULES6), _is_our_rule_gone)

    def forget(self) -> None:
        """What has come by now is known, or is about to be looked at."""
        self._filter.forget()
        self._rules.forget()

    async def wait(self) -> None:
        """Wait for either. Raises Unavailable."""
        waiting = {asyncio.create_task(each.wait()) for each in (self._filter, self._rules)}
        try:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if failures := [error for each in done if (error := each.exception())]:
                raise failures[0]
        finally:
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)


def _is_our_rule_gone(told: bytes) -> bool:
    return any(kind == netlink.DELRULE and _OURS in payload for kind, payload in netlink.messages(told))
