"""The services of a provider that makes the tunnel's configuration: vpnpf itself reaches them beside the tunnel, by the mark.

Nobody else does, and vpnpf reaches nothing else. Each test has a control.
"""

from __future__ import annotations

from contextlib import suppress

import pytest
from msgspec.structs import replace

from tests.system.firewall_lab import (
    CLIENT_LAN,
    ENDPOINT,
    MARK,
    WEB,
    Lab,
    connect,
    connected,
    policy,
    received,
    send,
    with_first,
    without,
)
from vpnpf.firewall.boot import BootFiles
from vpnpf.firewall.nft import Nft
from vpnpf.firewall.render import render
from vpnpf.firewall.ruleset import Rule
from vpnpf.model import Endpoint, FirewallStage, LockMode, Protocol

pytestmark = pytest.mark.system

PORT = 1337
SERVICES = (Endpoint(ENDPOINT, PORT, Protocol.TCP),)
STAGES = tuple(stage for stage in FirewallStage if stage is not FirewallStage.LOCKED)
LABEL = "the provider's service"
CLOSED_FOR = 0.15
"""Seconds to wait for what must not come."""


@pytest.fixture
def lab():
    made = Lab()
    yield made
    made.close()


@pytest.fixture
def nft(lab):
    return Nft(prefix=lab.prefix)


def served(lab: Lab, address: str = ENDPOINT, port: int = PORT, *, mark: int = MARK, patience: float = 3.0) -> bool:
    """Whether somebody on the client gets a connection there, by the uplink."""
    asking = lab.socket(lab.client, "tcp", "0.0.0.0", device="" if mark else "eth0", mark=mark)
    with suppress(OSError):
        connect(asking, address, port)
        return bool(connected((asking,), patience))
    return False


@pytest.mark.parametrize("stage", STAGES)
async def test_only_the_mark_gets_there_and_nowhere_else(lab, nft, stage):
    for address, port in ((ENDPOINT, PORT), (ENDPOINT, PORT + 1), (WEB, PORT)):
        lab.listen(lab.router, "tcp", port, address)
    wanted = policy(stage, services=SERVICES)
    assert (await nft.apply(wanted, 0.0)).intact
    watch = lab.watch(lab.router, "lan0")
    assert served(lab)
    assert watch.seen()
    assert not served(lab, mark=0, patience=CLOSED_FOR), "another program on this machine"
    assert not served(lab, port=PORT + 1, patience=CLOSED_FOR)
    assert not served(lab, WEB, patience=CLOSED_FOR)
    send(lab.socket(lab.client, "udp", "0.0.0.0", mark=MARK), ENDPOINT, PORT)
    assert [each for each in watch.seen() if each[2] in {PORT, PORT + 1}] == []
    assert (await nft.read()).intact
    # The control: without the rules it does not get there, although the mark is the same.
    lab.load(without(render(wanted), LABEL))
    assert not served(lab, patience=CLOSED_FOR)
    assert not (await nft.read()).intact, "and that they were taken is noticed"


async def test_a_locked_machine_does_not_let_even_that_out(lab, nft, tmp_path):
    lab.listen(lab.router, "tcp", PORT, ENDPOINT)
    locked = policy(FirewallStage.LOCKED, services=SERVICES)
    assert (await nft.apply(locked, 0.0)).intact
    assert not served(lab, patience=CLOSED_FOR)
    boot = tmp_path / "lockdown"
    wanted = policy(FirewallStage.CONNECTED, services=SERVICES)
    BootFiles(boot).keep(replace(wanted, lock=LockMode.LOCKDOWN))
    written = "".join(path.read_text() for path in boot.iterdir())
    assert "drop" in written
    assert str(PORT) not in written, "nor what is put up at boot"
    assert (await nft.apply(wanted, 0.0)).intact
    assert served(lab), "the control"


@pytest.mark.parametrize("stage", STAGES)
async def test_nobody_comes_in_from_its_port(lab, nft, stage):
    """Only answers do: not a connection that whoever is there begins."""
    waiting = lab.socket(lab.client, "tcp", CLIENT_LAN, 4000, mark=MARK)  # with what lets its answers out
    waiting.listen()
    wanted = policy(stage, services=SERVICES, lan=())
    assert (await nft.apply(wanted, 0.0)).intact

    def begins() -> bool:
        caller = lab.socket(lab.router, "tcp", ENDPOINT, PORT)
        try:
            connect(caller, CLIENT_LAN, 4000)
            return bool(received((waiting,), CLOSED_FOR))
        finally:
            caller.close()

    assert not begins()
    lab.load(with_first(render(wanted), "input", Rule(f"ip saddr {ENDPOINT} tcp sport {PORT} accept", "control")))
    assert begins()


@pytest.mark.parametrize("stage", STAGES)
async def test_without_a_service_the_mark_opens_none(lab, nft, stage):
    lab.listen(lab.router, "tcp", PORT, ENDPOINT)
    assert (await nft.apply(policy(stage), 0.0)).intact
    assert not served(lab, patience=CLOSED_FOR)
