"""The rules under a real WireGuard tunnel: it comes up through them, carries traffic, and its death leaks nothing."""

from __future__ import annotations

import os
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.system.firewall_lab import (
    ENDPOINT,
    GATEWAY,
    MARK,
    TUNNEL,
    Lab,
    boottime,
    connect,
    connected,
    forward,
    inside,
    policy,
    received,
    send,
)
from vpnpf.firewall.nft import Nft
from vpnpf.io.process import find
from vpnpf.model import FirewallStage

pytestmark = pytest.mark.system


@pytest.fixture
def lab():
    made = Lab()
    yield made
    made.close()


def wg(*arguments: str, text: str = "") -> str:
    return subprocess.run(("wg", *arguments), input=text, text=True, capture_output=True, check=True).stdout.strip()


async def test_a_real_tunnel_comes_up_while_connecting_and_its_death_leaks_nothing(lab):
    near, far = f"fwc{os.getpid() % 100000}", f"fws{os.getpid() % 100000}"
    keys = {name: wg("genkey") for name in (near, far)}
    public = {name: wg("pubkey", text=key) for name, key in keys.items()}
    # The far end of the real tunnel is the router; the pretended tunnel of the lab is taken away.
    lab.ip("-n", lab.client, "link", "del", "tun0")
    wanted = policy(FirewallStage.CONNECTING, interface=near, addresses=(f"{TUNNEL}/32",), dns=(GATEWAY,))
    nft = Nft(prefix=lab.prefix)
    assert (await nft.apply(wanted, boottime())).intact

    with ExitStack() as stack:
        daemons = {}
        for namespace, device in ((lab.client, near), (lab.router, far)):
            daemons[device] = _start(namespace, device)
            stack.callback(Path(f"/var/run/wireguard/{device}.sock").unlink, missing_ok=True)
            stack.callback(daemons[device].wait)
            stack.callback(daemons[device].kill)
        _configure(lab, near, far, keys, public)
        # While connecting only the tunnel's own packets pass, so the keepalive is what makes the handshake.
        await _handshake(lab, near)
        await nft.apply(policy(FirewallStage.CONNECTED, forward(40000), **_differs(near)), boottime())

        web = lab.listen(lab.router, "tcp", 80, GATEWAY)
        caller = lab.socket(lab.client, "tcp", TUNNEL)
        connect(caller, GATEWAY, 80)
        assert connected([caller]) == [caller]
        assert received([web])
        torrent = lab.listen(lab.client, "udp", 40000)
        send(lab.socket(lab.router, "udp", GATEWAY), TUNNEL, 40000)
        assert received([torrent]) == [torrent]
        hits = {str(protocol): hits.packets for _, protocol, hits in (await nft.read()).hits}
        assert hits == {"tcp": 0, "udp": 1}

        watch = lab.watch(lab.router, "lan0")
        everything = lab.socket(lab.client, "udp", "0.0.0.0")
        send(everything, "203.0.113.80", 443)
        assert {each[1:] for each in watch.seen()} <= {(ENDPOINT, 51820)}
        daemons[near].kill()
        daemons[near].wait()
        for _ in range(50):
            send(everything, "203.0.113.80", 443)
        assert {each[1:] for each in watch.seen()} <= {(ENDPOINT, 51820)}
        await nft.remove()
        send(everything, "203.0.113.80", 443)
        assert ("udp", "203.0.113.80", 443) in watch.seen(), "control: without the rules it takes the uplink"


def _start(namespace: str, device: str) -> subprocess.Popen[bytes]:
    environment = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error", "PATH": os.environ["PATH"]}
    with inside(namespace):
        return subprocess.Popen((find("wireguard-go"), device), env=environment)


def _differs(device: str) -> dict[str, object]:
    return {"interface": device, "addresses": (f"{TUNNEL}/32",), "dns": (GATEWAY,)}


def _configure(lab: Lab, near: str, far: str, keys: dict[str, str], public: dict[str, str]) -> None:
    for namespace, device in ((lab.client, near), (lab.router, far)):
        with inside(namespace):
            _until_exists(device)
    configuration = f"[Interface]\nPrivateKey={keys[far]}\nListenPort=51820\n[Peer]\nPublicKey={public[near]}\n"
    with inside(lab.router):
        wg("setconf", far, "/dev/stdin", text=f"{configuration}AllowedIPs={TUNNEL}/32\n")
    lab.ip("-n", lab.router, "route", "del", f"{TUNNEL}/32")
    lab.ip("-n", lab.router, "addr", "add", f"{GATEWAY}/24", "dev", far)
    lab.ip("-n", lab.router, "link", "set", far, "up")
    lab.ip("-n", lab.client, "addr", "add", f"{TUNNEL}/32", "dev", near)
    lab.ip("-n", lab.client, "link", "set", near, "up")
    lab.ip("-n", lab.client, "route", "add", "default", "dev", near, "table", "51820")
    configuration = f"[Interface]\nPrivateKey={keys[near]}\nFwMark={MARK:#x}\n[Peer]\nPublicKey={public[far]}\n"
    more = f"AllowedIPs=0.0.0.0/0\nEndpoint={ENDPOINT}:51820\nPersistentKeepalive=25\n"
    with inside(lab.client):
        wg("setconf", near, "/dev/stdin", text=configuration + more)


def _until_exists(device: str) -> None:
    """wireguard-go makes the device and then its control socket; wg can speak to it from then on."""
    deadline = boottime() + 5
    while boottime() < deadline:
        if subprocess.run(("wg", "show", device), capture_output=True, check=False).returncode == 0:
            return
    raise AssertionError(f"{device} never came up")


async def _handshake(lab: Lab, device: str) -> None:
    deadline = boottime() + 5
    while boottime() < deadline:
        with inside(lab.client):
            if wg("show", device, "latest-handshakes").split()[-1] != "0":
                return
    raise AssertionError("no handshake under the rules of stage connecting")
