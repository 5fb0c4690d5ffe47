"""Each piece of work by the interface it belongs to, once, and its answer; what was read back decides."""

from __future__ import annotations

import asyncio
import typing
from dataclasses import dataclass, field

import pytest

from tests.unit.engine_world import FORWARD, PLAN, TUNNEL
from vpnpf.errors import Transient, Unavailable
from vpnpf.events import (
    Acquire,
    Announced,
    ApplyFirewall,
    CheckExit,
    CheckPort,
    CheckTunnel,
    ClientSeen,
    ExitSeen,
    FirewallApplied,
    FirewallRead,
    FirewallRemoved,
    FirewallStirred,
    FitMtu,
    LeaseGranted,
    LeaseReleased,
    LeasesSaved,
    Listen,
    MtuFitted,
    Order,
    PlanTunnel,
    PortTested,
    ReadClient,
    ReadFirewall,
    ReadSockets,
    ReadSwitch,
    Rekey,
    Release,
    RemoveFirewall,
    SaveLeases,
    SaveUses,
    SetClient,
    SetSwitch,
    SocketsSeen,
    StartTunnel,
    StopTunnel,
    SwitchRead,
    TunnelCameUp,
    TunnelPlanned,
    TunnelRekeyed,
    TunnelSeen,
    TunnelStirred,
    TunnelStopped,
    UsesSaved,
    WatchFirewall,
    WatchTunnel,
    Work,
)
from vpnpf.model import (
    BOTH,
    Connection,
    EpochRule,
    FirewallPolicy,
    FirewallReading,
    FirewallStage,
    Lease,
    ListeningSocket,
    ListenSettings,
    MappingRequest,
    PolicyMode,
    PortPolicy,
    Protocol,
    ProviderPolicy,
    Rekeyed,
    Stirring,
    TunnelHealth,
    Use,
)
from vpnpf.protocol.announcement import Announcement
from vpnpf.workers import Workers

POLICY = FirewallPolicy(FirewallStage.CONNECTED, PLAN, PortPolicy())
READING = FirewallReading(intact=True, evidence="31 rules read back")
HEALTH = TunnelHealth(3.0)
LEASE = Lease(40000, 40000, BOTH, 1000.0, 60.0, token="t")
REQUEST = MappingRequest(FORWARD)
SETTINGS = ListenSettings(40000, "vpf-home")
SWITCH, OTHER_SWITCH = ProviderPolicy(PolicyMode.BLOCK_ALL), ProviderPolicy(PolicyMode.OPEN_ALL)
CONNECTIONS = (Connection("10.2.0.2", 40000, "192.0.2.9", 50000, came_in=True),)
SOCKETS = (ListeningSocket(Protocol.TCP, "10.2.0.2", 40000),)


@dataclass
class Everything:
    """All interfaces in one, which writes down what it was asked."""

    reading: FirewallReading = READING
    settings: ListenSettings = SETTINGS
    asked: list[tuple] = field(default_factory=list)
    unseen: bool = False
    """Whether the kernel does not tell of connections."""

    def now(self):
        return 1000.0

    def wall(self):
        return 5000.0

    async def apply(self, policy, now):
        self.asked.append(("apply", policy, now))
        return self.reading

    async def read(self):
        self.asked.append(("read",))
        return self.reading

    async def remove(self):
        self.asked.append(("remove",))

    async def plan(self, server):
        self.asked.append(("plan", server))
        return PLAN

    async def up(self, plan):
        self.asked.append(("up", plan))
        return TUNNEL

    async def check(self, tunnel):
        self.asked.append(("check", tunnel))
        return HEALTH

    async def rekey(self, tunnel):
        self.asked.append(("rekey", tunnel))
        return Rekeyed(HEALTH, TUNNEL)

    async def watch(self, *tunnel):
        self.asked.append(("watch", *tunnel))
        return STIRRING

    async def fit_mtu(self, tunnel):
        self.asked.append(("fit", tunnel))
        return 1380

    async def address(self, tunnel):
        self.asked.append(("address", tunnel))
        return "198.51.100.11"

    async def listen(self, io, tunnel):
        self.asked.append(("listen", io, tunnel))
        return Announcement(2, 77)

    async def down(self):
        self.asked.append(("down",))

    def io(self, tunnel):
        self.asked.append(("io", tunnel))
        return "io"

    async def acquire(self, io, tunnel, request):
        self.asked.append(("acquire", io, tunnel, request))
        return LEASE

    async def release(self, io, tunnel, lease):
        self.asked.append(("release", io, tunnel, lease))

    async def get_switch(self, io, tunnel):
        self.asked.append(("get switch", io, tunnel))
        return SWITCH

    async def set_switch(self, io, tunnel, wanted):
        self.asked.append(("set switch", io, tunnel, wanted))

    async def get_listen(self):
        self.asked.append(("get",))
        return self.settings

    async def set_listen(self, wanted):
        self.asked.append(("set", wanted))

    async def test_port(self):
        self.asked.append(("test port",))
        return True

    async def listening(self, port):
        self.asked.append(("listening", port))
        return SOCKETS

    async def connected(self, port):
        if self.unseen:
            raise Unavailable("looking for connections", "not here")
        return CONNECTIONS

    def save(self, name, value):
        kept = value["leases"]["here"]["torrent"]["external_port"] if "leases" in value else value["uses"]
        self.asked.append(("save", name, kept))

    def load(self, name):
        return None

    class manifest:  # noqa: N801 - as plug-ins have it
        name = "qBittorrent"


def workers(world):
    return Workers(
        world, world, world, world.io, {"torrent": world}, world, world, world, world, "leases-home", world, "uses-home"
    )


STIRRING = Stirring("its device is gone")
TABLE = [
    (ApplyFirewall(POLICY), FirewallApplied(7, POLICY, READING), [("apply", POLICY, 1000.0)]),
    (ReadFirewall(), FirewallRead(7, READING), [("read",)]),
    (RemoveFirewall(), FirewallRemoved(7), [("remove",)]),
    (PlanTunnel(3), TunnelPlanned(7, PLAN), [("plan", 3)]),
    (StartTunnel(PLAN), TunnelCameUp(7, TUNNEL, TunnelHealth(0.0)), [("up", PLAN)]),
    (CheckTunnel(TUNNEL), TunnelSeen(7, HEALTH), [("check", TUNNEL)]),
    (Rekey(TUNNEL), TunnelRekeyed(7, HEALTH, TUNNEL), [("rekey", TUNNEL)]),
    (Listen(TUNNEL), Announced(7, 77, 1000.0, EpochRule.PCP), [("io", TUNNEL), ("listen", "io", TUNNEL)]),
    (CheckExit(TUNNEL), ExitSeen(7, "198.51.100.11"), [("address", TUNNEL)]),
    (WatchTunnel(TUNNEL), TunnelStirred(7, STIRRING), [("watch", TUNNEL)]),
    (FitMtu(TUNNEL), MtuFitted(7, 1380), [("fit", TUNNEL)]),
    (WatchFirewall(), FirewallStirred(7), [("watch",)]),
    (StopTunnel(), TunnelStopped(7), [("down",)]),
    (
        Acquire("torrent", TUNNEL, REQUEST),
        LeaseGranted(7, "lease:torrent", "torrent", LEASE),
        [("io", TUNNEL), ("acquire", "io", TUNNEL, REQUEST)],
    ),
    (
        Release("torrent", TUNNEL, LEASE),
        LeaseReleased(7, "lease:torrent", "torrent"),
        [("io", TUNNEL), ("release", "io", TUNNEL, LEASE)],
    ),
    (
        SetClient("torrent", SETTINGS),
        ClientSeen(7, "client:torrent", "torrent", SETTINGS, set=True),
        [("set", SETTINGS), ("get",)],
    ),
    (ReadSwitch(TUNNEL), SwitchRead(7, SWITCH), [("io", TUNNEL), ("get switch", "io", TUNNEL)]),
    (
        SetSwitch(TUNNEL, OTHER_SWITCH),
        SwitchRead(7, SWITCH, told=OTHER_SWITCH),
        [("io", TUNNEL), ("set switch", "io", TUNNEL, OTHER_SWITCH), ("get switch", "io", TUNNEL)],
    ),
    (ReadClient("torrent"), ClientSeen(7, "client:torrent", "torrent", SETTINGS), [("get",)]),
    (
        ReadSockets("torrent", 40000),
        SocketsSeen(7, "listening:torrent", "torrent", SOCKETS, CONNECTIONS),
        [("listening", 40000)],
    ),
    (
        CheckPort("torrent", 40000),
        PortTested(7, "port-test:torrent", "torrent", 40000, open=True),
        [("test port",)],
    ),
    (
        SaveLeases("here", (("torrent", LEASE),)),
        LeasesSaved(7, (("torrent", LEASE),)),
        [("save", "leases-home", 40000)],
    ),
    (
        SaveUses((Use("22/tcp", 900.0, idle=60.0),)),
        UsesSaved(7, (Use("22/tcp", 900.0, idle=60.0),)),
        [
            (
                "save",
                "uses-home",
                {"22/tcp": {"since": 4900.0, "last": None, "idle": 60.0, "reported": False, "closed": False}},
            )
        ],
    ),
]


@pytest.mark.parametrize(("work", "answer", "asked"), TABLE, ids=lambda value: type(value).__name__)
async def test_each_work_has_its_answer(work, answer, asked):
    world = Everything()
    assert await workers(world).carry_out(Order(work, 7)) == answer
    assert world.asked == asked


def test_every_work_is_in_this_table():
    assert {type(work) for work, _, _ in TABLE} == set(typing.get_args(Work))


async def test_rules_that_read_back_otherwise_were_not_applied():
    world = Everything(reading=FirewallReading(intact=False, evidence="chain input is gone"))
    with pytest.raises(Transient, match="chain input is gone"):
        await workers(world).carry_out(Order(ApplyFirewall(POLICY), 1))
    assert not (await workers(world).carry_out(Order(ReadFirewall(), 2))).reading.intact


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (ListenSettings(6881, "vpf-home"), "port 6881 instead of 40000"),
        (ListenSettings(40000, "vpf-home", random_port=True), "a random port at each start"),
    ],
)
async def test_a_client_that_says_otherwise_was_not_set(settings, said):
    with pytest.raises(Transient, match=said):
        await workers(Everything(settings=settings)).carry_out(Order(SetClient("torrent", SETTINGS), 1))


async def test_connections_that_cannot_be_seen_fail_no_look():
    done = await workers(Everything(unseen=True)).carry_out(Order(ReadSockets("torrent", 40000), 7))
    assert done == SocketsSeen(7, "listening:torrent", "torrent", SOCKETS, None)


async def test_saving_does_not_hold_up_the_loop():
    world = Everything()
    loop = asyncio.get_running_loop()
    ticked = asyncio.Event()

    def save(name, value):
        assert asyncio.run_coroutine_threadsafe(ticked.wait(), loop).result(5)
        raise Unavailable("saving", "disk full")

    world.save = save
    saving = asyncio.ensure_future(workers(world).carry_out(Order(SaveLeases("here", (("torrent", LEASE),)), 1)))
    await asyncio.sleep(0)
    ticked.set()
    with pytest.raises(Unavailable):
        await saving
