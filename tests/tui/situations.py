"""Situations that the dashboard has to show: a fake daemon for each, by name."""

from __future__ import annotations

import math
from datetime import UTC, datetime

from msgspec.structs import replace

from tests.tui.face_world import NOON, FakeDaemon
from tests.unit.engine_world import PLAN, SPEC, START, World
from vpnpf.control.client import NotRunning
from vpnpf.core.serialise import time_of
from vpnpf.core.state import initial
from vpnpf.errors import Unavailable
from vpnpf.events import Acquire, ApplyFirewall, StartTunnel
from vpnpf.model import FailureKind, ForwardSpec, LockMode, PolicyMode, PortPolicy

PLACE = replace(PLAN, place="Amsterdam")


def world(**changes):
    """A world whose profile differs from the usual one."""
    return World(machine=initial(replace(SPEC, provider="protonvpn", **changes), PLACE, START), plan=PLACE)


def with_peers(daemon):
    """Two came in; one cannot be told."""
    state = daemon.state()
    since = time_of(daemon.world.now - 95, NOON - START)
    state["forwards"][0]["peers"] = [
        {
            "address": "203.0.113.9",
            "port": 51413,
            "protocol": "tcp",
            "since": since,
            "connected": True,
            "came_in": True,
        },
        {
            "address": "2001:db8::7",
            "port": 6881,
            "protocol": "tcp",
            "since": since,
            "connected": False,
            "came_in": False,
        },
    ]
    daemon.news.get_nowait()
    daemon.tell(state)
    return daemon


def ready(**changes):
    here = world(**changes)
    here.ready().packets = {"torrent": 12}
    here.wait(308)
    return with_peers(FakeDaemon(here))


def fresh():
    """READY, and nobody came in, and no lease's end."""
    here = world()
    here.lifetime = None
    here.ready().wait(100)
    return FakeDaemon(here)


def connecting():
    here = world()
    here.held = {StartTunnel}
    here.begin().wait(4)
    return FakeDaemon(here)


def blocked():
    here = world()
    here.ready()
    here.handshake_age = None
    here.fail(StartTunnel)
    here.until(lambda: here.phase == "blocked", 300)
    here.wait(20)
    return FakeDaemon(here)


def failed():
    here = world()
    here.fail(Acquire, FailureKind.MISCONFIGURED)
    here.begin().wait(30)
    return FakeDaemon(here)


def without_rules():
    here = world()
    here.fail(ApplyFirewall, FailureKind.UNSUPPORTED)
    here.begin().wait(3)
    return FakeDaemon(here)


def stopped(**changes):
    here = world(**changes)
    here.ready().wait(10)
    here.stop()
    here.now += 60
    return FakeDaemon(here)


def no_port():
    here = world()
    here.fail(Acquire)
    here.begin().wait(3)
    return FakeDaemon(here)


def three():
    here = world(forwards=(ForwardSpec("torrent", client="qbittorrent"), ForwardSpec("ssh", 1), ForwardSpec("web", 2)))
    here.ready().wait(8)
    return FakeDaemon(here)


def watcher():
    daemon = ready()
    daemon.answers["GET", "/v1"] = {"api": 1, "role": "watcher"}
    return daemon


def exposed():
    """Open to all, and the provider does not agree."""
    daemon = ready(policy=PortPolicy(PolicyMode.OPEN_ALL))
    state = daemon.state()
    state["disagree"] = "the provider still blocks all inbound connections"
    state["provider_policy"] = {"mode": "block-all", "ports": [], "seen": state["time"]}
    state["unused"] = [{"what": "22/tcp", "opened": None, "last": None, "idle": 90000, "closed": False}]
    daemon.tell(state)
    return daemon


def looking():
    daemon = FakeDaemon()
    daemon.answers["GET", "/v1"] = NotRunning("asking vpnpf", "nothing runs for home", "start it with: vpnpf up home")
    return daemon


def forbidden():
    daemon = FakeDaemon()
    cause = "you may not open /run/vpnpf/control-home.sock: it belongs to root and the group vpnpf"
    hint = (
        "run it with sudo, or let an administrator add you to that group with: usermod -aG vpnpf YOU, then log in anew"
    )
    daemon.answers["GET", "/v1"] = Unavailable("asking vpnpf", cause, hint)
    return daemon


def away():
    """It was there 12 seconds ago."""
    daemon = ready()
    daemon.end()
    daemon.later = 12
    return daemon


def no_vpn():
    daemon = ready(lock=LockMode.OFF)
    state = daemon.state()
    state["tunnel"]["backend"], state["tunnel"]["gateway"], state["policy"]["mode"] = (
        "no tunnel",
        "192.168.1.1",
        "open-all",
    )
    daemon.tell(state)
    return daemon


def traffic(daemon):
    """Four minutes of it, as events."""
    down = up = 0
    for number in range(120):
        down += int(2e6 * (1 + math.sin(number / 9)) + 3e5 * (number % 5))
        up += int(4e5 * (1 + math.cos(number / 13)))
        at = datetime.fromtimestamp(daemon.now - 240 + 2 * number, UTC).isoformat()
        yield {"event": "traffic", "time": at, "received": down, "sent": up}
