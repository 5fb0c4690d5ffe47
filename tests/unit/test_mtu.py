"""Fitting the MTU: what is concluded from who answers what."""

from types import SimpleNamespace

import pytest

from vpnpf.errors import NoAnswer, Unsupported
from vpnpf.model import Endpoint, Tunnel, TunnelPlan
from vpnpf.tunnels import mtu

TUNNEL = Tunnel(
    TunnelPlan("vpf-home", Endpoint("198.51.100.10", 51820), ("10.2.0.2/32",), dns=("10.2.0.1",)), "a test", ""
)


class Way:
    """A way to the resolver that carries so many bytes; `deaf`: questions of any size that are lost, by number."""

    def __init__(self, monkeypatch, carries, deaf=()):
        self.carries, self.deaf, self.asked, self.set = carries, deaf, 0, []
        monkeypatch.setattr(mtu.questions, "ask", self.ask)
        monkeypatch.setattr(mtu.process, "must", self.must)

    async def ask(self, tunnel, patience, size=0):
        self.asked += 1
        return size <= self.carries and self.asked not in self.deaf

    async def must(self, argv, *, doing):
        self.set.append(int(argv[-1]))


@pytest.mark.parametrize(("carries", "found"), [(1500, 1420), (1420, 1420), (1419, 1412), (1320, 1320), (1300, 1280)])
async def test_the_largest_that_gets_through_is_set(monkeypatch, carries, found):
    way = Way(monkeypatch, carries)
    assert await mtu.fit(TUNNEL, 1420) == found
    assert way.set == ([found] if found != 1420 else [])


@pytest.mark.parametrize("deaf", [{1}, {2}, {2, 3}, {2, 3, 4, 5}, set(range(2, 10))])
async def test_a_while_in_which_nothing_gets_through_lowers_nothing(monkeypatch, deaf):
    """The control is the test before: what is too large never gets through."""
    way = Way(monkeypatch, 1500, deaf)
    assert await mtu.fit(TUNNEL, 1420) == 1420
    assert way.set == []


@pytest.mark.parametrize("carries", [-1, 0, 512, 1279])
async def test_a_resolver_that_answers_nothing_or_small_questions_only_says_nothing_about_the_way(monkeypatch, carries):
    way = Way(monkeypatch, carries)
    with pytest.raises(NoAnswer):
        await mtu.fit(TUNNEL, 1420)
    assert way.set == []


async def test_without_a_resolver_there_is_nobody_to_ask():
    with pytest.raises(Unsupported):
        await mtu.fit(SimpleNamespace(plan=SimpleNamespace(dns=())), 1420)
