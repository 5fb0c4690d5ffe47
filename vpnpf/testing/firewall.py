"""A packet filter that remembers."""

from __future__ import annotations

import asyncio

from vpnpf.errors import Failure
from vpnpf.model import FirewallPolicy, FirewallReading, Hits, Protocol


class FakeFirewall:
    """A packet filter that remembers (`interfaces.Firewall`).

    `tamper` is somebody who edits the rules: they are not intact until they are applied again. `knock` is
    a packet from outside.
    """

    def __init__(self) -> None:
        self.policies: list[FirewallPolicy] = []
        """Every policy that was applied, in order."""
        self.current: FirewallPolicy | None = None
        """The one in force; None: our table is not there."""
        self.failure: Failure | None = None
        """Raised by `apply` and `read` as long as it is set."""
        self._tampered = ""
        self._stirred = asyncio.Event()
        self._hits: dict[tuple[str, Protocol], Hits] = {}

    async def apply(self, policy: FirewallPolicy, now: float) -> FirewallReading:
        """Put a policy in force. Raises `failure`; then the old one stands."""
        del now
        self._check()
        self.policies.append(policy)
        self.current = policy
        self._tampered = ""
        return self._reading()

    async def read(self) -> FirewallReading:
        """What is in force, and whether it is what was applied last. Raises `failure`."""
        self._check()
        return self._reading()

    async def remove(self) -> None:
        """Take the policy away."""
        self.current = None
        self._hits.clear()

    async def watch(self) -> None:
        """Wait until somebody tampers; what happened since the last wait counts."""
        await self._stirred.wait()
        self._stirred.clear()

    def tamper(self, evidence: str = "somebody took a rule out") -> None:
        """Change the rules behind vpnpf's back."""
        self._tampered = evidence
        self._stirred.set()

    def flush(self) -> None:
        """Take the whole table away behind vpnpf's back."""
        self.current = None
        self.tamper("the table is gone")

    def knock(self, forward: str, protocol: Protocol, packets: int = 1, octets: int = 60) -> None:
        """Count packets from outside on a forward's port."""
        so_far = self._hits.get((forward, protocol), Hits())
        self._hits[forward, protocol] = Hits(so_far.packets + packets, so_far.octets + octets)

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _reading(self) -> FirewallReading:
        if self._tampered or self.current is None:
            return FirewallReading(intact=False, evidence=self._tampered or "nothing was applied")
        hits = tuple(
            (rule.name, protocol, self._hits.get((rule.name, protocol), Hits()))
            for rule in self.current.forwards
            for protocol in rule.protocols
        )
        return FirewallReading(
            intact=True, evidence=f"{self.current.stage} as applied", hits=tuple(dict.fromkeys(hits))
        )
