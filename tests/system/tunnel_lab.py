"""The firewall lab with a real WireGuard tunnel: wireguard-go at the client and, for the far end, at the router."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from subprocess import Popen
from typing import Any

from tests.system.firewall_lab import ENDPOINT, GATEWAY, MARK, TUNNEL, Lab, boottime, inside
from vpnpf.io.process import find

COUNT = itertools.count()


def wg(*arguments: str, text: str = "") -> str:
    return subprocess.run(("wg", *arguments), input=text, text=True, capture_output=True, check=True).stdout.strip()


class RealTunnel:
    """Both ends, made and not yet spoken through: the far end is the router, the lab's pretended tunnel is gone."""

    def __init__(self, lab: Lab, near: str, daemons: dict[str, Popen[bytes]]) -> None:
        self._lab = lab
        self.near = near
        self.daemon = daemons[near]

    def handshake(self) -> None:
        """Wait for it; the keepalive asks for it."""
        deadline = boottime() + 5
        while boottime() < deadline:
            with inside(self._lab.client):
                if wg("show", self.near, "latest-handshakes").split()[-1] != "0":
                    return
        raise AssertionError("no handshake")


def device_name() -> str:
    """One that no other test has: the control sockets of wireguard-go are the whole machine's."""
    return f"fwc{os.getpid() % 100000}x{next(COUNT)}"


def plan_of(near: str) -> dict[str, Any]:
    """How the plan of a tunnel by this device differs from the lab's."""
    return {"interface": near, "addresses": (f"{TUNNEL}/32",), "dns": (GATEWAY,)}


@contextmanager
def real_tunnel(lab: Lab, near: str) -> Iterator[RealTunnel]:
    """10.2.0.2 at the client, by a device of this name; 10.2.0.1 at the router."""
    far = near.replace("fwc", "fws")
    lab.ip("-n", lab.client, "link", "del", "tun0")
    with ExitStack() as stack:
        daemons = {}
        for namespace, device in ((lab.client, near), (lab.router, far)):
            daemons[device] = _start(namespace, device)
            stack.callback(Path(f"/var/run/wireguard/{device}.sock").unlink, missing_ok=True)
            stack.callback(daemons[device].wait)
            stack.callback(daemons[device].kill)
        _configure(lab, near, far)
        yield RealTunnel(lab, near, daemons)


def _start(namespace: str, device: str) -> Popen[bytes]:
    environment = {"WG_PROCESS_FOREGROUND": "1", "LOG_LEVEL": "error", "PATH": os.environ["PATH"]}
    with inside(namespace):
        return Popen((find("wireguard-go"), device), env=environment)


def _configure(lab: Lab, near: str, far: str) -> None:
    keys = {name: wg("genkey") for name in (near, far)}
    public = {name: wg("pubkey", text=key) for name, key in keys.items()}
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
