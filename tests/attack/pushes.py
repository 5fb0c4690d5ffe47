"""T15: a server of the provider, or whoever sits in its place, that pushes what is not his to say. Over OpenVPN."""

from __future__ import annotations

import asyncio

from mock_provider.openvpn import PASSWORD, USERNAME, OpenVpnServer
from mock_provider.product import unique_profile
from tests.attack.attack import Attack
from tests.attack.probes import TCP, UDP, UDP6, Tally
from tests.attack.world import LISTEN, Score, Side, under_probes, until

CONFIG = """\
[profiles.{profile}]
provider = "protonvpn"
tunnel = {{ type = "openvpn", config = "proton.ovpn", username = "{username}", password = {{ file = "password" }} }}
forwards.game = {{ protocols = ["tcp"], internal_port = {listen} }}
"""
PAST_THE_TUNNEL = "route 203.0.113.0 255.255.255.0 net_gateway"
END_SOON = ("ping-exit 1", "inactive 1")
"""The server pings every five seconds, so whoever obeys ends after one."""


def pushing(*options: str):
    """Before anybody comes."""

    async def before(made: Side) -> None:
        server = made.provider.server
        assert isinstance(server, OpenVpnServer)
        await server.push(*options)

    return before


async def product(made: Side) -> None:
    """vpnpf over OpenVPN."""
    profile = unique_profile()
    made.provider.client_config(made.directory / "proton.ovpn")
    secret = made.directory / "password"
    secret.touch(mode=0o600)
    secret.write_text(f"{PASSWORD}\n")
    made.config = made.directory / f"{profile}.toml"
    made.config.write_text(CONFIG.format(profile=profile, username=USERNAME, listen=LISTEN))
    await made.start()


async def openvpn(made: Side) -> None:
    """The provider's file as it is, by openvpn."""
    path = made.provider.client_config(made.directory / "plain.ovpn")
    login = f"<auth-user-pass>\n{USERNAME}\n{PASSWORD}\n</auth-user-pass>\n"
    path.write_text(path.read_text().replace("auth-user-pass\n", login))
    made.tunnel = "plain0"
    argv = ("openvpn", "--config", str(path), "--dev", made.tunnel, "--dev-type", "tun", "--disable-dco")
    made.holder = await made.client.popen(argv, stdout=asyncio.subprocess.DEVNULL, stderr=None)
    made.stack.push_async_callback(made.kill_daemon)
    await until(
        lambda: made.client.must(("ip", "route")),
        lambda routes: f"128.0.0.0/1 via 10.2.0.1 dev {made.tunnel}" in routes,
    )


async def routed_past(made: Side) -> Score:
    return await under_probes(made, (UDP, TCP))


async def ended(made: Side) -> Score:
    """The tunnel is told to end itself; what is sent after that would go in the clear."""

    async def act(tally: Tally) -> str:
        if made.guarded:
            await tally.more(3000)
            assert made.product is not None
            return f"{made.product.state['phase']} after 3 s"
        assert made.holder is not None
        await asyncio.wait_for(made.holder.wait(), 10)
        return ""

    return await under_probes(made, (UDP, TCP, UDP6), act)


ATTACKS = (
    Attack(
        "T15a",
        "server pushes a route past it",
        "openvpn",
        routed_past,
        openvpn,
        product,
        pushing(PAST_THE_TUNNEL),
        "openvpn",
    ),
    Attack("T15b", "server pushes the tunnel's end", "openvpn", ended, openvpn, product, pushing(*END_SOON), "openvpn"),
)
