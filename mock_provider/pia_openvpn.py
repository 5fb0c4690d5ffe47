"""An OpenVPN server of the provider: logs in by a token that was cut in two, and pushes what the real ones do.

What is pushed was read in a client's log of August 2025: compression that is none (a byte more before each
packet, on both sides), and a route for an IPv6 that there is not, too.
"""

from __future__ import annotations

import contextlib

from mock_provider.openvpn import OpenVpnServer
from mock_provider.pia_account import Attempt, PiaAccount
from mock_provider.pia_pki import Authority
from mock_provider.topology import Lab
from mock_provider.wireguard import Client, Place
from vpnpf.model import Protocol

CHECK = """\
#!/bin/sh
# $1: a file with user name and password, a line each (--auth-user-pass-verify, via-file).
{{ IFS= read -r name; IFS= read -r word; }} < "$1"
said=refused
grep -qxF -e "$name$word" {directory}/tokens && said=welcome
[ "$name" = "$(sed -n 1p {directory}/account)" ] && [ "$word" = "$(sed -n 2p {directory}/account)" ] && said=welcome
[ -e {directory}/refuse ] && said=refused
printf '%s %s\\n' "$said" "$name" >> {directory}/logins
[ "$said" = welcome ]
"""


class PiaOpenVpnServer(OpenVpnServer):
    """The server's end of all tunnels, by `openvpn`; an async context manager."""

    more = ("comp-lzo no",)
    check = CHECK

    def __init__(
        self,
        lab: Lab,
        *,
        place: Place,
        transport: Protocol,
        account: PiaAccount,
        authority: Authority,
        cn: str,
        dns: str,
    ) -> None:
        super().__init__(lab, place=place, transport=transport)
        self._account = account
        self._authority = authority
        self.cn = cn
        self._dns = dns
        account.changed.append(self._write_account)

    @property
    def attempts(self) -> list[Attempt]:
        """Who came so far, the oldest first; a name is the first half of a token, or the account's."""
        return [Attempt("openvpn", name, 200 if welcome else 401, 0.0) for name, welcome in self.logins]

    def present(self, cn: str) -> None:
        """Be another machine of the provider, from the next start on."""
        self.cn = cn
        self._write_files()

    async def admit(self, client: Client) -> None:
        """Let nobody in but by the account."""
        del client

    def _keys(self) -> dict[str, str]:
        certificate, key = self._authority.certificate(self.cn)
        return {"ca": self._authority.pem, "cert": certificate, "key": key}

    def _write_files(self, **instead: str) -> None:
        super()._write_files(**instead)
        self._write_account()

    def _write_account(self) -> None:
        with contextlib.suppress(FileNotFoundError):  # it is gone
            tokens = [token for token in self._account.tokens if self._account.valid(token)]
            (self._directory / "tokens").write_text("".join(f"{token}\n" for token in tokens))
            (self._directory / "account").write_text(f"{self._account.username}\n{self._account.password}\n")

    def _pushed(self) -> list[str]:
        return [
            "comp-lzo no",
            "redirect-gateway def1",
            "route-ipv6 2000::/3",
            f"dhcp-option DNS {self._dns}",
            f"route-gateway {self.place.gateway}",
            "topology subnet",
        ]
