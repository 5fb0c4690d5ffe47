"""The lock: the packet filter and the routes as one (`interfaces.Firewall`), and what outlives a reboot.

The packet filter goes first when it is put up and last when it is taken away, so that there is no moment with
neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec.structs import replace

from vpnpf.errors import VpnpfError
from vpnpf.firewall.boot import BootFiles
from vpnpf.firewall.hold import Hold
from vpnpf.firewall.nft import Nft
from vpnpf.firewall.stir import Stirred
from vpnpf.model import FirewallPolicy, FirewallReading, LockMode


class Lock:
    """Both layers. `boot` is the directory of what is put up again at boot, under mode "lockdown".

    `clock` gives seconds on CLOCK_BOOTTIME.
    """

    def __init__(self, boot: Path, *, clock: Callable[[], float] | None = None) -> None:
        self._nft = Nft(clock=clock)
        self._hold = Hold()
        self._boot = BootFiles(boot)
        self._stirred = Stirred()
        self._first = True

    async def apply(self, policy: FirewallPolicy, now: float) -> FirewallReading:
        """Put up what the policy says, and read it back. Raises as `Nft.apply`, and Transient for the routes."""
        reading = await self._nft.apply(policy, now)
        if policy.lock is LockMode.OFF or policy.plan.direct:
            # The rules of a tunnel without a lock are the tunnel's own; only what a killed run left is cleared.
            if self._first:
                await self._hold.clear()
        else:
            await self._hold.stand(policy.plan)
        self._first = False
        await asyncio.to_thread(self._boot.keep, policy)
        return reading

    async def read(self) -> FirewallReading:
        """Compare both layers with what was applied last. Raises what `apply` raises."""
        self._stirred.forget()
        reading = await self._nft.read()
        gone = await self._hold.missing()
        return replace(reading, intact=False, evidence=gone) if reading.intact and gone else reading

    async def remove(self) -> None:
        """Take both layers away, and what would put them up at boot. Raises PermissionDenied, Unavailable or Transient.

        A disk that cannot be written, or a program that fails, does not keep the rest from being taken away.
        """
        failed: VpnpfError | None = None
        for step in (self._forget, self._hold.clear, self._nft.remove):
            try:
                await step()
            except VpnpfError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    async def _forget(self) -> None:
        await asyncio.to_thread(self._boot.forget)

    async def watch(self) -> None:
        """Wait until somebody else changed either layer. Raises Unavailable if the kernel does not tell."""
        await self._stirred.wait()
