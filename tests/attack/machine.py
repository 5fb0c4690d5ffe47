"""T8, T9 and T10: what programs on the machine itself may send."""

from __future__ import annotations

from msgspec.structs import replace

from mock_provider.capture import Capture
from mock_provider.topology import SERVER
from mock_provider.wireguard import PORT
from tests.attack.attack import Attack
from tests.attack.lan import site_answers
from tests.attack.probes import (
    DNS_LAN,
    DNS_LAN6,
    DNS_LAN_TCP,
    DNS_THIRD,
    DNS_UPLINK,
    DOT_LAN,
    DOT_THIRD,
    NOBODY,
    TCP6,
    UDP6,
    Probe,
    bound,
    probing,
)
from tests.attack.world import (
    Score,
    Side,
    by_address,
    half_routes,
    ipv4_only,
    named,
    product,
    rule_mark,
    switched,
    under_probes,
    wg_quick,
)

FINGERPRINT = Probe("fingerprint", "udp", SERVER, PORT, "eth0")
MULTICAST = (
    Probe("mdns", "udp", "224.0.0.251", 5353, "eth0"),
    Probe("llmnr", "udp", "224.0.0.252", 5355, "eth0"),
    Probe("mdns6", "udp", "ff02::fb", 5353, "eth0"),
)


# -- T8: a payload to the server's port ------------------------------------------------------------


async def to_the_servers_port(made: Side) -> Score:
    """Any user can write to the server in the clear, and so tell a watcher on the cable who he is (MUL-02-002)."""
    return await under_probes(made, (FINGERPRINT,), wrap=NOBODY)


async def with_the_mark(made: Side) -> Score:
    """The same with the tunnel's mark on it, which the kernel gives to CAP_NET_ADMIN alone."""
    mark = rule_mark(await made.client.must(("ip", "-j", "rule")))
    wrap = NOBODY if made.guarded else ()
    return await under_probes(made, (replace(FINGERPRINT, mark=mark),), wrap=wrap)


# -- T9, T10: IPv6 and names -----------------------------------------------------------------------


async def ipv6(made: Side) -> Score:
    return await under_probes(made, (UDP6, TCP6, bound(UDP6), bound(TCP6)))


async def dns_beside(made: Side) -> Score:
    return await under_probes(made, (DNS_LAN, DNS_LAN6, DNS_LAN_TCP, DOT_LAN, DNS_UPLINK))


async def dns_of_a_third_party(made: Side) -> Score:
    """Through the tunnel, but not to the tunnel's resolver: seen where it would arrive."""
    probes = (DNS_THIRD, DOT_THIRD)
    lab = made.provider.lab
    far = Capture(
        lab.internet.socket,
        "eth0",
        lab.router.socket,
        "wan-internet",
        lambda packet: packet.outbound and any(probe.seen_in(packet) for probe in probes),
    )
    async with far:
        async with probing(made.client, probes) as tally:
            await tally.more(300)
        assert await site_answers(made), "the tunnel carries nothing: this proves nothing"
        leaked = await far.count()
    return Score(tally.sent, leaked, named(far.packets, probes))


async def multicast(made: Side) -> Score:
    return await under_probes(made, MULTICAST)


ATTACKS = (
    Attack(
        "T8a",
        "any user to the server's port",
        "kill switch by address",
        to_the_servers_port,
        switched(half_routes, by_address),
    ),
    Attack("T8b", "the same with the tunnel's mark", "with CAP_NET_ADMIN", with_the_mark, product),
    Attack("T9a", "IPv6, tunnel without it", "kill switch in table ip", ipv6, switched(half_routes, ipv4_only)),
    Attack("T10a", "DNS and DoT to the LAN, by uplink", "wg-quick", dns_beside, wg_quick),
    Attack("T10b", "DNS, DoT of a third party in tunnel", "wg-quick", dns_of_a_third_party, wg_quick),
    Attack("T10c", "mDNS and LLMNR multicast", "wg-quick", multicast, wg_quick),
)
