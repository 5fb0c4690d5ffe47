"""OpenVPN with real packets, over UDP and TCP: the suite of all back ends."""

from __future__ import annotations

import pytest

from mock_provider.product import traces
from mock_provider.topology import EXIT, SERVER
from tests.contract.tunnel_rekey import RekeySuite
from tests.contract.tunnels import TunnelSuite, source_seen
from tests.system.openvpn_world import Fixtures
from vpnpf.model import Protocol

pytestmark = pytest.mark.system


class Common(Fixtures, TunnelSuite):
    transport = Protocol.UDP

    async def test_the_plan_is_enough_for_the_firewall_to_go_first(self, host, tunnel):
        """Its addresses, resolver and gateway come from the server: what `up` returns has them."""
        before = await traces(host)
        await tunnel.check_config()
        await tunnel.check_machine()
        plan = await tunnel.plan()
        assert await traces(host) == before
        assert (plan.endpoint.address, plan.endpoint.port, plan.endpoint.protocol) == (SERVER, 51820, self.transport)
        assert (plan.addresses, plan.dns, plan.gateway) == ((), (), None)
        assert 0 < len(plan.interface) <= 15
        assert plan.mark
        assert plan.table
        whole = (await tunnel.up(plan)).plan
        assert (whole.addresses, whole.dns, whole.gateway) == (("10.2.0.2/32",), ("10.2.0.1",), "10.2.0.1")
        for name in ("interface", "endpoint", "mark", "table", "identity", "server", "lan"):
            assert getattr(whole, name) == getattr(plan, name)


class TestUdp(Common):
    pass


class TestTcp(Common):
    far_side = "openvpn-tcp"
    transport = Protocol.TCP

    # What the routes do is alike for both transports, and proven with the other one.
    test_the_device_has_the_mtu_of_the_plan = None
    test_the_main_table_stays_as_it_is = None
    test_the_lan_stays_reachable_only_if_wanted = None
    test_a_look_puts_back_what_somebody_took = None
    test_the_lan_is_answered_for_its_own_addresses_alone = None
    test_what_belongs_to_others_stays = None

    async def test_a_strict_reverse_path_filter_is_loosened_and_put_back(self, provider, host, tunnel):
        """Only until the connection stands: the kernel filters no packets of one that does (tcp_early_demux)."""
        for name, value in (("all", 0), ("default", 1), ("eth0", 1)):
            host.sysctl(f"net.ipv4.conf.{name}.rp_filter", value)
        before = await traces(host)
        await tunnel.come_up()
        assert await source_seen(provider) == EXIT
        await tunnel.down()
        assert await traces(host) == before


class TestRekeyUdp(Fixtures, RekeySuite):
    rekey_patience = "vpnpf.tunnels.openvpn:REKEY_PATIENCE"


class TestRekeyTcp(Fixtures, RekeySuite):
    far_side = "openvpn-tcp"
    brief = 2.5
    counts_tries = False
    rekey_patience = "vpnpf.tunnels.openvpn:REKEY_PATIENCE"
