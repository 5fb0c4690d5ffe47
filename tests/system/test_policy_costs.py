"""The short form of `python -m tests.bench.policies`: nothing that is open breaks, and a change is quick and cheap."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from msgspec.structs import replace

from tests.bench.policies import MODES, Flows, apply_many, listed, switch_times
from tests.system.firewall_lab import GATEWAY, Lab, boottime
from vpnpf.firewall.nft import Nft
from vpnpf.model import FirewallStage, Opening, PolicyMode, Protocol

pytestmark = pytest.mark.system


@pytest.fixture
def lab() -> Iterator[Lab]:
    made = Lab()
    yield made
    made.close()


async def test_no_outbound_flow_breaks_when_the_policy_changes(lab):
    nft, wanted = Nft(prefix=lab.prefix), listed(50)
    shorter = replace(wanted.inbound, openings=wanted.inbound.openings[::2])
    await nft.apply(wanted, boottime())
    with Flows(lab, 10, lab.server, GATEWAY) as carried:
        for inbound in (wanted.inbound, shorter):
            for mode in MODES * 4:
                reading = await nft.apply(replace(wanted, inbound=replace(inbound, mode=mode)), boottime())
                assert reading.intact, reading.evidence
        assert not carried.broken
        assert carried.stalled() == 0
        await nft.apply(replace(wanted, stage=FirewallStage.BLOCKED), boottime())
        assert carried.stalled(0.3) == 10, "control: these flows would show it"


@pytest.mark.alone
async def test_a_change_of_the_mode_is_in_force_at_once(lab):
    for row in await switch_times(lab, 5, count=2000):
        assert min(row.values) <= row.at_most, row


@pytest.mark.alone
async def test_ten_thousand_entries_are_applied_read_back_and_counted(lab):
    """In processor time, which other work on the machine matters little to; the budget itself is for `make policies`."""
    *_, spent = await apply_many(lab, 5)
    assert min(spent.values) <= 250, spent


async def test_a_change_of_one_entry_among_many_touches_no_other(lab, monkeypatch):
    nft, wanted = Nft(prefix=lab.prefix), listed(500)
    await nft.apply(wanted, boottime())
    said: list[str] = []
    real = nft._nft

    async def listening(*arguments: str, stdin: str = ""):
        said.append(stdin)
        return await real(*arguments, stdin=stdin)

    monkeypatch.setattr(nft, "_nft", listening)
    entry = Opening(7, 7, Protocol.TCP)
    more = replace(wanted.inbound, openings=(entry, *wanted.inbound.openings))
    await nft.apply(replace(wanted, inbound=more), boottime())
    assert _elements(said) == ["add element inet vpnpf open_tcp { 7 }"]
    for mode in (PolicyMode.BLOCK_ALL, PolicyMode.OPEN_ALL, PolicyMode.ALLOW_LIST):
        said.clear()
        await nft.apply(replace(wanted, inbound=replace(more, mode=mode)), boottime())
        assert _elements(said) == []
    said.clear()
    await nft.apply(wanted, boottime())
    assert _elements(said) == ["delete element inet vpnpf open_tcp { 7 }"]


def _elements(said: list[str]) -> list[str]:
    """Commands that touch elements of the list's sets."""
    lines = [line for text in said for line in text.splitlines()]
    return [line for line in lines if " element inet vpnpf open_" in line or "flush set inet vpnpf open_" in line]
