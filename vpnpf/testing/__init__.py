r"""Doubles of what vpnpf hands to its plug-ins, for the tests of those who write plug-ins, and for ours.

Time is virtual: it stands still until something waits, and then jumps to what is waited for. So a gateway that
is silent for four seconds costs a test nothing, and every run goes alike.

    clock = FakeClock()
    io = FakeIO(lambda sent: b"..." if sent.port == 5351 else Fate.SILENT, clock=clock)
    lease = await MyProvider({}).acquire(io, a_tunnel(), MappingRequest(ForwardSpec("torrent")))
    assert [sent.data for sent in io.sent] == [...]
    clock.advance(30)
    io.refuse_next(4)
    with pytest.raises(Refused): ...

The function is the far side: it gets every datagram that arrives there, and returns the answer or its `Fate`.
Answers that are known beforehand are written down instead: `FakeIO(scripted({("10.2.0.1", 5351, b"\0\0"): b"..."}))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from vpnpf.testing.account import FakeAccount, FakeOutside, MemoryStore
from vpnpf.testing.clock import FakeClock
from vpnpf.testing.datagrams import (
    FIRST_DYNAMIC_PORT,
    LAST_DYNAMIC_PORT,
    FakeIO,
    FarSide,
    Fate,
    Network,
    Reply,
    Sent,
    a_tunnel,
    scripted,
)
from vpnpf.testing.firewall import FakeFirewall
from vpnpf.testing.http import Asked, FakeHttp, HttpReply

if TYPE_CHECKING:
    from vpnpf.interfaces import Account, Clock, Firewall, Http, HttpResponse, OutsideIO, ProviderIO, Store

    _conform: tuple[Clock, ProviderIO, OutsideIO, Account, Store, Firewall, Http] = (
        FakeClock(),
        FakeIO(scripted({})),
        FakeOutside(),
        FakeAccount(),
        MemoryStore(),
        FakeFirewall(),
        FakeHttp(lambda _: HttpResponse(200, {}, b"")),
    )

__all__ = [
    "FIRST_DYNAMIC_PORT",
    "LAST_DYNAMIC_PORT",
    "Asked",
    "FakeAccount",
    "FakeClock",
    "FakeFirewall",
    "FakeHttp",
    "FakeIO",
    "FakeOutside",
    "FarSide",
    "Fate",
    "HttpReply",
    "MemoryStore",
    "Network",
    "Reply",
    "Sent",
    "a_tunnel",
    "scripted",
]
