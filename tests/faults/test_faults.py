"""The short forms of `make faults`. Each has its control in the same run: probes that have to be seen without the rules."""

from __future__ import annotations

import os
import socket
from collections import Counter

import pytest

from mock_provider.topology import CLIENT, INTERNET, SERVER, Lab
from mock_provider.wireguard import PORT
from tests.faults import as_before, faults, kills, recovery, swaps
from tests.faults.cable import Leaks
from tests.faults.killer import described
from tests.faults.troubles import TROUBLES


def not_kept(figures):
    return [str(figure) for figure in figures if not figure.kept]


@pytest.mark.system
async def test_each_kind_of_fault_once_leaks_nothing():
    account = await faults.run(len(TROUBLES), 3, seed=2)
    assert account.leaked.total() == 0, account.leaked
    assert not_kept(faults.figures(account, len(TROUBLES), 10_000)) == []


@pytest.mark.system
async def test_swaps_under_a_flood_leak_nothing_and_the_usual_replace_is_caught():
    found = await swaps.run(40, 20_000, range(20, 4000))
    # The rate is told and not judged here: other tests may have the processor.
    assert not_kept(swaps.figures(found, 40, 0)) == []


@pytest.mark.system
@pytest.mark.alone
async def test_kill_9_at_some_steps_leaves_the_old_or_the_new():
    account = await kills.run(10, 1)
    assert account.wrong == []
    # The order of steps differs a little, so that a run may not come to a point.
    assert not_kept(kills.figures(account, 8)) == []
    assert sum(map(len, account.steps.values())) > 100


@pytest.mark.alone
@pytest.mark.system
async def test_traffic_is_back_soon():
    assert not_kept(recovery.figures(await recovery.run({"killed": 3, "uplink": 1}))) == []


@pytest.mark.system
async def test_all_is_as_before_after_each_end():
    account = await as_before.run(3)
    assert account.differs == []
    assert not_kept(as_before.figures(account, 3)) == []


@pytest.mark.system
async def test_the_cable_is_watched_but_for_the_tunnels_own_packets():
    async with Lab() as lab, Leaks(lab) as leaks:
        leaks._predicate = lambda packet: packet.protocol == socket.IPPROTO_UDP
        with lab.client.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.bind((CLIENT, 4400))
            for address, port in ((SERVER, PORT), (SERVER, PORT + 1), (INTERNET, PORT), (INTERNET, 4401)):
                sender.sendto(b"probe", (address, port))
            with lab.router.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.sendto(b"to the client", (CLIENT, 4400))
        assert await leaks.count() == 3
        assert leaks.by_kind() == Counter(
            {
                "IPv4": 1,
                f"protocol 17 to {SERVER} port {PORT + 1}": 1,
                f"protocol 17 to {INTERNET} port {PORT}": 1,
            }
        )


@pytest.mark.parametrize(
    ("event", "arguments", "line"),
    [
        ("open", ("/x", "w", os.O_WRONLY), "file open '/x'"),
        ("open", ("/x", None, os.O_RDWR | os.O_CREAT), "file open '/x'"),
        ("open", ("/x", "r", os.O_RDONLY), None),
        ("open", (os.devnull, None, os.O_RDWR), None),
        ("os.rename", ("/a", "/b", -1, -1), "file os.rename '/a'"),
        ("subprocess.Popen", ("/usr/sbin/nft", ["/usr/sbin/nft", "-f", "-"], None, None), "process nft -f -"),
        ("socket.connect", (None, ("10.2.0.1", 5351)), "socket socket.connect ('10.2.0.1', 5351)"),
        ("import", ("os", None, None, None, None), None),
    ],
)
def test_a_step_is_what_changes_something(event, arguments, line):
    assert described(event, arguments) == line


def test_points_are_spread_over_all_steps_and_programs_count_twice():
    steps = {"up": ["file a", "process b", "file c"], "down": ["process d"]}
    everything = kills.chosen(steps, 99)
    assert [str(point) for point in everything] == [
        "up, step 1 (before)",
        "up, step 2 (before)",
        "up, step 2 (during)",
        "up, step 3 (before)",
        "down, step 1 (before)",
        "down, step 1 (during)",
    ]
    assert kills.chosen(steps, 3) == everything[::2]


def test_95_of_100():
    assert recovery.share([1.0, 2.0, 3.0], 95) == 3.0
    assert recovery.share([float(number) for number in range(1, 101)], 95) == 95.0
