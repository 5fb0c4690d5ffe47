"""What a WireGuard tunnel's plan becomes by the configuration that a provider gave for it. Pure."""

from __future__ import annotations

from msgspec.structs import replace

from vpnpf.errors import ConfigError
from vpnpf.model import TunnelPlan
from vpnpf.protocol.wireguard_config import WireGuardConfig, parse
from vpnpf.tunnels.addresses import beside, gateway_of
from vpnpf.tunnels.supplied import NAME, elsewhere, unreadable


def read(text: str) -> WireGuardConfig:
    """Read the text as strictly as a file. Raises Transient: another server may give a better one."""
    try:
        return parse(text, NAME)
    except ConfigError as error:
        raise unreadable(error) from None


def completed(plan: TunnelPlan, config: WireGuardConfig, gateway: str) -> TunnelPlan:
    """The plan with the addresses of the configuration; `gateway` is empty if the provider did not say it.

    Raises Transient if the configuration leads elsewhere.
    """
    if (config.host, config.port) != (plan.endpoint.address, plan.endpoint.port):
        raise elsewhere(plan.endpoint)
    gateway = gateway or gateway_of(config.addresses[0], config.dns)
    return replace(
        plan,
        addresses=config.addresses,
        dns=config.dns,
        mtu=config.mtu,
        gateway=gateway,
        lan=beside((*config.addresses, *config.dns, gateway), plan.lan),
        notes=config.notes,
    )
