"""A client's io before a gateway with all faults, without sockets and on a virtual clock.

The gateway is the same `Behaviour` that the one with sockets obeys, so days of a scenario take seconds:

    faults, clock = Faults(), FakeClock()
    behaviour = Behaviour(faults, Machine(faults, now=clock.now()))
    io = SimulatedIO(behaviour, parse("every 300s refuse 1"), clock=clock)
    lease = await provider.acquire(io, a_tunnel(), MappingRequest(ForwardSpec("torrent")))
    clock.advance(30)
    assert lease.external_port in {rule.external_port for rule in io.mapped}
"""

from __future__ import annotations

from mock_provider.behaviour import Behaviour
from mock_provider.faults import Fate
from mock_provider.mangle import Source
from mock_provider.natpmp import PORT, Dnat
from mock_provider.perform import Performer
from mock_provider.scenario import Change, Playback, Scenario
from vpnpf import testing

GATEWAY, CLIENT = "10.2.0.1", "10.2.0.2"
CLIENT_PORT = 49152


class SimulatedIO(testing.FakeIO):
    """All that a provider can do to the world, with such a gateway in it. The switches of FakeIO itself are not used.

    As with the socket that `vpnpf.io.udp` connects, what comes from a wrong source does not arrive.
    """

    def __init__(
        self, behaviour: Behaviour, scenario: Scenario | None = None, *, clock: testing.FakeClock | None = None
    ) -> None:
        super().__init__(lambda _sent: testing.Fate.SILENT, clock=clock)
        self.behaviour = behaviour
        scenario = scenario or Scenario()
        if scenario.seed is not None:
            behaviour.faults.reseed(scenario.seed)
        self._playback = Playback(scenario, self.now())
        self._performer = Performer(behaviour)
        self.changes: list[Change] = []
        """What the scenario has done so far."""
        self.announced: list[tuple[float, bytes]] = []
        """What the gateway has multicast so far, and when."""

    @property
    def mapped(self) -> frozenset[Dnat]:
        """The forwards that stand now."""
        self.catch_up()
        return self.behaviour.machine.table

    def catch_up(self) -> None:
        """Let everything happen that was due until now, each thing at its time."""
        while (due := self._next_due()) <= self.now():
            if due == self._playback.next_due:
                for change in self._playback.due(due):
                    self._performer.perform(change, due)
                    self.changes.append(change)
            else:
                _, sends = self.behaviour.tick(due)
                self.announced += [(due, send.data) for send in sends]

    def _next_due(self) -> float:
        moments = (self._playback.next_due, self.behaviour.next_due)
        return min((moment for moment in moments if moment is not None), default=float("inf"))

    def _bring(self, sent: testing.Sent) -> list[tuple[float, testing.Reply]]:
        self.catch_up()
        if (sent.address, sent.port) != (GATEWAY, PORT):
            return []
        outcome = self.behaviour.receive(sent.data, (CLIENT, CLIENT_PORT), sent.at)
        if outcome.fate is Fate.REFUSED:
            return [(sent.at, testing.Fate.REFUSED)]
        return [(sent.at + send.delay, send.data) for send in outcome.sends if send.source is Source.GATEWAY]
