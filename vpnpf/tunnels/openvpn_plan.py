"""What an OpenVPN tunnel's plan becomes once the server has said its part. Pure.

The server may choose our addresses, its gateway and its resolvers within the tunnel. It may not choose what belongs to
a LAN of this machine: else it could draw that LAN's traffic into the tunnel.
"""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from vpnpf.errors import ConfigError, Misconfigured, Transient
from vpnpf.model import Endpoint, TunnelPlan
from vpnpf.protocol.openvpn_config import OpenVpnConfig, Remote, parse
from vpnpf.protocol.openvpn_push import Pushed
from vpnpf.tunnels.addresses import gateway_of
from vpnpf.tunnels.supplied import NAME, elsewhere, unreadable

MTU = 1500
"""OpenVPN's own default; it cuts packets to what the way carries (mssfix)."""
_LEAST_MTU6 = 1280
"""RFC 8200 section 5."""


def read(text: str, endpoint: Endpoint) -> OpenVpnConfig:
    """Read a provider's text as strictly as a file. Raises Transient, also if it does not lead to this endpoint."""
    try:
        config = parse(text.encode(), NAME)
    except ConfigError as error:
        raise unreadable(error) from None
    if Remote(endpoint.address, endpoint.port, endpoint.protocol) not in config.remotes:
        raise elsewhere(endpoint)
    return config


def completed(plan: TunnelPlan, pushed: Pushed, gateway: str = "") -> TunnelPlan:
    """The plan with what was pushed; `gateway` is that which the provider said beside it, if he did.

    Raises Transient if that is too little for a tunnel, Misconfigured if it reaches into a LAN of this machine.
    """
    doing = f"taking over what {plan.endpoint} gives"
    if pushed.address is None:
        wrong = f"; not to be read: {', '.join(pushed.wrong)}" if pushed.wrong else ""
        raise Transient(doing, f"it gives no IPv4 address{wrong}", "choose another server")
    # Nothing is directly connected in a tunnel: a wide netmask would only take addresses of others.
    own = tuple(ipaddress.ip_interface(each) for each in (pushed.address, pushed.address6) if each)
    gateway = gateway or pushed.gateway or gateway_of(pushed.address, pushed.dns)
    for address in (*(str(each.ip) for each in own), gateway, *pushed.dns):
        for lan in plan.lan:
            if ipaddress.ip_address(address) in ipaddress.ip_network(lan.prefix):
                raise Misconfigured(
                    doing,
                    f"it gives {address}, which belongs to the LAN {lan.prefix} of {lan.interface}",
                    "choose another server, or give the LAN up for the tunnel with lock.lan = false",
                )
    mtu = min(plan.mtu, pushed.mtu or plan.mtu)
    return replace(
        plan,
        addresses=tuple(f"{each.ip}/{each.max_prefixlen}" for each in own),
        dns=pushed.dns,
        gateway=gateway,
        mtu=max(mtu, _LEAST_MTU6) if pushed.address6 else mtu,
    )
