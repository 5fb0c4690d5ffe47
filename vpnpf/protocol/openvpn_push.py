"""What an OpenVPN server pushes (openvpn(8), "CLIENT OPTIONS"; doc/management-notes.txt), as typed values.

The server is not trusted: each value is read strictly, and what cannot be read is left out and named.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.protocol import values
from vpnpf.protocol.openvpn_lexer import Unlexable, lex

REPLY = "PUSH_REPLY"
_MOST_RESOLVERS = 8
_LEAST_MTU, _MOST_MTU = 576, 9000
_LEAST_LENGTH = {4: 8, 6: 16}
"""By IP version: a link that claims more is no link."""


class Pushed(Struct, frozen=True):
    """The settings of a tunnel; what was not pushed is None or empty."""

    gateway: str | None = None
    """The server's address inside the tunnel: where a NAT-PMP gateway is expected."""
    address: str | None = None
    """Own IPv4 address with prefix length."""
    address6: str | None = None
    """Own IPv6 address with prefix length."""
    dns: tuple[str, ...] = ()
    topology: str = "net30"
    """OpenVPN's own default where nothing is pushed."""
    mtu: int | None = None
    ping: int | None = None
    """Seconds."""
    ping_restart: int | None = None
    """Seconds."""
    continues: bool = False
    """Whether a further part follows (push-continuation 2)."""
    wrong: tuple[str, ...] = ()
    """Names of known options whose values were not to be read."""


def parse_reply(text: str) -> Pushed | None:
    """Read "PUSH_REPLY,option,option"; None: it is none. Never raises."""
    name, _, rest = text.partition(",")
    return read_options(rest.split(",")) if name == REPLY else None


def read_options(texts: list[str]) -> Pushed:
    """Read options as they stand in a reply. Never raises."""
    found, wrong, ifconfig = Pushed(), [], None
    for text in texts:
        try:
            words = lex(text).words
        except Unlexable:
            continue
        read = _READERS.get(words[0]) if words else None
        if words and words[0] == "ifconfig":
            ifconfig = words[1:]
        elif read is not None:
            try:
                found = read(found, words[1:])
            except ValueError:
                wrong.append(words[0])
    if ifconfig is not None:
        # Last, since its second word means what the topology says.
        try:
            found = _ifconfig(found, ifconfig)
        except ValueError:
            wrong.append("ifconfig")
    return replace(found, wrong=tuple(dict.fromkeys(wrong)))


def read_environment(variables: Mapping[str, str]) -> Pushed:
    """Read what OpenVPN tells scripts and `--management-up-down` (openvpn(8), "ENVIRONMENTAL VARIABLES").

    Unlike a reply it holds only what OpenVPN took over. Never raises.
    """
    texts = []
    if local := variables.get("ifconfig_local"):
        netmask, peer = variables.get("ifconfig_netmask"), variables.get("ifconfig_remote")
        texts += ["topology subnet" if netmask else "topology p2p", f"ifconfig {local} {netmask or peer or ''}"]
    if local6 := variables.get("ifconfig_ipv6_local"):
        texts.append(f"ifconfig-ipv6 {local6}/{variables.get('ifconfig_ipv6_netbits', '')}")
    if gateway := variables.get("route_vpn_gateway"):
        texts.append(f"route-gateway {gateway}")
    if mtu := variables.get("tun_mtu"):
        texts.append(f"tun-mtu {mtu}")
    foreign = (variables.get(f"foreign_option_{number}") for number in range(1, 65))
    texts += [each for each in foreign if each]
    servers = (variables.get(f"dns_server_{number}_address_1") for number in range(1, 9))
    texts += [f"dns server 1 address {each}" for each in servers if each]
    return read_options(texts)


def merged(first: Pushed, second: Pushed) -> Pushed:
    """Two parts of one reply, in the order in which they came."""
    default = Pushed()
    new = {
        name: value
        for name in ("gateway", "address", "address6", "topology", "mtu", "ping", "ping_restart")
        if (value := getattr(second, name)) != getattr(default, name)
    }
    dns = tuple(dict.fromkeys((*first.dns, *second.dns)))[:_MOST_RESOLVERS]
    wrong = tuple(dict.fromkeys((*first.wrong, *second.wrong)))
    return replace(first, **new, dns=dns, wrong=wrong, continues=second.continues)


Read = Callable[[Pushed, tuple[str, ...]], Pushed]


def _single(words: tuple[str, ...]) -> str:
    if len(words) != 1:
        raise ValueError("not one word")
    return words[0]


def _gateway(found: Pushed, words: tuple[str, ...]) -> Pushed:
    return replace(found, gateway=str(_unicast(ipaddress.IPv4Address(_single(words)))))


def _topology(found: Pushed, words: tuple[str, ...]) -> Pushed:
    if _single(words) not in {"subnet", "net30", "p2p"}:
        raise ValueError("no topology")
    return replace(found, topology=words[0])


def _ifconfig(found: Pushed, words: tuple[str, ...]) -> Pushed:
    """(address, netmask) in topology subnet, else (address, the far end's)."""
    local, second = words if len(words) == 2 else ("", "")  # noqa: PLR2004 - as said
    address = _unicast(ipaddress.IPv4Address(local))
    if found.topology == "subnet":
        return replace(found, address=f"{address}/{_length(second)}")
    peer = str(_unicast(ipaddress.IPv4Address(second)))
    return replace(found, address=f"{address}/32", gateway=found.gateway or peer)


def _length(netmask: str) -> int:
    """The prefix length of a netmask; a wildcard mask is none."""
    zeros = int(ipaddress.IPv4Address(netmask)) ^ 0xFFFFFFFF
    length = 32 - zeros.bit_length()
    if zeros & (zeros + 1) or length < _LEAST_LENGTH[4]:
        raise ValueError("no netmask")
    return length


def _ifconfig6(found: Pushed, words: tuple[str, ...]) -> Pushed:
    if not 1 <= len(words) <= 2 or "%" in words[0]:  # noqa: PLR2004 - the second is the far end
        raise ValueError("not ADDRESS/LENGTH [GATEWAY]")
    address = ipaddress.IPv6Interface(words[0])
    _unicast(address.ip)
    if address.network.prefixlen < _LEAST_LENGTH[6]:
        raise ValueError("too short a prefix")
    return replace(found, address6=str(address))


def _dhcp(found: Pushed, words: tuple[str, ...]) -> Pushed:
    if not words or words[0] not in {"DNS", "DNS6"}:
        return found
    return _resolver(found, _single(words[1:]))


def _dns(found: Pushed, words: tuple[str, ...]) -> Pushed:
    """Take in "dns server N address ADDRESS[:PORT] ..."; resolvers at other ports are left out."""
    if words[:1] != ("server",) or words[2:3] != ("address",):
        return found
    for word in words[3:]:
        plain = word.removeprefix("[").removesuffix("]") if word.startswith("[") else word
        found = _resolver(found, plain.removesuffix(":53") if plain.count(":") == 1 else plain)
    return found


def _resolver(found: Pushed, word: str) -> Pushed:
    if "%" in word:
        raise ValueError("a zone")
    address = str(_unicast(ipaddress.ip_address(word)))
    return replace(found, dns=tuple(dict.fromkeys((*found.dns, address)))[:_MOST_RESOLVERS])


def _number(name: str, least: int, most: int) -> Read:
    def read(found: Pushed, words: tuple[str, ...]) -> Pushed:
        return replace(found, **{name: values.number(least, most)(_single(words))})

    return read


def _continuation(found: Pushed, words: tuple[str, ...]) -> Pushed:
    return replace(found, continues=_single(words) == "2")


def _unicast(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    reserved = address.is_unspecified or address.is_multicast or address.is_loopback
    if mapped or reserved or address == ipaddress.IPv4Address("255.255.255.255"):
        raise ValueError("nobody's address")
    return address


_READERS: dict[str, Read] = {
    "route-gateway": _gateway,
    "topology": _topology,
    "ifconfig-ipv6": _ifconfig6,
    "dhcp-option": _dhcp,
    "dns": _dns,
    "tun-mtu": _number("mtu", _LEAST_MTU, _MOST_MTU),
    "ping": _number("ping", 0, 3600),
    "ping-restart": _number("ping_restart", 0, 86_400),
    "push-continuation": _continuation,
}
