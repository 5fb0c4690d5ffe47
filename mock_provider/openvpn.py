"""The VPN server as OpenVPN: a real daemon that asks for user name and password, and pushes what providers push.

    async with MockProvider(tunnel="openvpn-tcp") as provider:
        provider.client_config(tmp_path / "proton.ovpn")
        provider.customer.username, provider.customer.password
        provider.server.logins                          # who came, and whether he was let in
        await provider.server.push("route 203.0.113.0 255.255.255.0 net_gateway")   # from the next login on

Place, exit, gateway and silence are those of the WireGuard server.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from asyncio.subprocess import Process
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from mock_provider.host import end_processes
from mock_provider.openvpn_pki import pki
from mock_provider.topology import Lab
from mock_provider.wireguard import FIRST_PLACE, Client, Place, WireGuardServer
from vpnpf.errors import VpnpfError
from vpnpf.io import process
from vpnpf.model import Protocol

USERNAME = "alice"
PASSWORD = 's3cret "word\\ with all'
"""With what has to be quoted on the management interface."""
PING = 5
"""Seconds between the server's pings."""
READY = b"Initialization Sequence Completed"
CHECK = """\
#!/bin/sh
# $1: a file with user name and password, a line each (--auth-user-pass-verify, via-file).
{{ IFS= read -r name; IFS= read -r word; }} < "$1"
said=refused
[ "$word" = "$(cat {directory}/password)" ] && [ ! -e {directory}/refuse ] && said=welcome
printf '%s %s\\n' "$said" "$name" >> {directory}/logins
[ "$said" = welcome ] && exit 0
[ -s {directory}/refuse ] && cat {directory}/refuse > "$auth_failed_reason_file"
exit 1
"""


class Login(NamedTuple):
    """Somebody who came."""

    username: str
    welcome: bool


@dataclass(frozen=True, slots=True)
class Customer(Client):
    """A customer with a name and a password; his file is as providers give it out."""

    username: str = USERNAME
    password: str = field(default=PASSWORD, repr=False)
    transport: Protocol = Protocol.UDP

    @property
    def config(self) -> str:
        """The file, in the style of ProtonVPN's for Linux."""
        made = pki()
        return (
            "# ==============================================================================\n"
            "# Copyright (c) mock\n"
            "# ==============================================================================\n"
            "\n"
            "client\n"
            "dev tun\n"
            f"proto {self.transport}\n"
            f"remote {self.place.address} {self.place.port}\n"
            "remote-random\n"
            "resolv-retry infinite\n"
            "nobind\n"
            "cipher AES-256-GCM\n"
            "setenv CLIENT_CERT 0\n"
            "tun-mtu 1500\n"
            "mssfix 0\n"
            "persist-key\n"
            "persist-tun\n"
            "reneg-sec 0\n"
            "remote-cert-tls server\n"
            "auth-user-pass\n"
            f"<ca>\n{made.ca}</ca>\n"
            f"<tls-crypt>\n{made.tls_crypt}</tls-crypt>\n"
        )


class OpenVpnServer(WireGuardServer):
    """The server's end of all tunnels, by `openvpn`; an async context manager."""

    more: ClassVar[tuple[str, ...]] = ()
    """Other options of its own."""
    check = CHECK
    """The program that looks at a login; `{directory}` is where its files are."""

    def __init__(
        self, lab: Lab, *, ipv6: bool = False, place: Place = FIRST_PLACE, transport: Protocol = Protocol.UDP
    ) -> None:
        super().__init__(lab, ipv6=ipv6, place=place)
        self.transport = transport
        self.log: list[str] = []
        """What the daemon said."""
        self._process: Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._push: tuple[str, ...] = ()
        self._directory = Path()

    @property
    def logins(self) -> list[Login]:
        """Who came so far, the oldest first."""
        with contextlib.suppress(FileNotFoundError):
            lines = (self._directory / "logins").read_text().splitlines()
            return [Login(name, said == "welcome") for said, _, name in (line.partition(" ") for line in lines)]
        return []

    async def push(self, *options: str) -> None:
        """Push these to customers too; the server is started anew."""
        self._push = options
        await self.restart()

    async def pose(self) -> None:
        """Somebody else stands in its place: a customer, with his own certificate of the same authority."""
        self._write_files(cert=pki().customer, key=pki().customer_key)
        await self.restart()

    def refuse(self, reason: str = "", *, on: bool = True) -> None:
        """Refuse every login from now on, whatever the password."""
        file = self._directory / "refuse"
        if on:
            file.write_text(f"{reason}\n" if reason else "")
        else:
            file.unlink(missing_ok=True)

    async def add_client(self, *, port_forwarding: bool = True) -> Customer:
        """A customer; one at a time, since all have the same name."""
        del port_forwarding
        place = self.place
        customer = Customer(
            private_key="",
            public_key=USERNAME,
            server_key="",
            address=f"{place.gateway[:-1]}2",
            address6=f"{place.gateway6[:-1]}2" if self.ipv6 else None,
            endpoint=f"{place.address}:{place.port}",
            place=place,
            transport=self.transport,
        )
        self.clients.append(customer)
        return customer

    async def kill(self) -> None:
        """The server dies: its port answers with ICMP or a reset, its sessions are forgotten."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._ended()

    async def restart(self) -> None:
        """It comes back with its customers and no session. Kills it first if need be."""
        await self.kill()
        await self._start()

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            await asyncio.to_thread(end_processes, (self._process.pid,))
            await self._ended()
        shutil.rmtree(self._directory, ignore_errors=True)

    async def _ended(self) -> None:
        assert self._process is not None
        assert self._reader is not None
        await self._process.wait()
        await self._reader
        self._process = None

    async def _start(self) -> None:
        if self._directory == Path():
            self._directory = Path(tempfile.mkdtemp(prefix="mock-openvpn-"))
            self._write_files()
        self._ready.clear()
        self._process = await self.host.popen(self._argv(), stderr=asyncio.subprocess.STDOUT)
        self._reader = asyncio.create_task(self._read())
        await self._ready.wait()
        if self._process.returncode is not None or READY.decode() not in self.log[-1]:
            raise VpnpfError("starting openvpn", " / ".join(self.log[-3:]))

    async def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.log.append(line.decode(errors="replace").rstrip())
            if READY in line:
                self._ready.set()
        self._ready.set()

    def _write_files(self, **instead: str) -> None:
        checking = {"password": PASSWORD, "check": self.check.format(directory=self._directory)}
        for name, text in {**self._keys(), **instead, **checking}.items():
            (self._directory / name).write_text(text)
        (self._directory / "check").chmod(0o700)

    def _keys(self) -> dict[str, str]:
        """Files of its configuration, by the option that each is for."""
        made = pki()
        return {"ca": made.ca, "cert": made.certificate, "key": made.key, "tls-crypt": made.tls_crypt}

    def _pushed(self) -> list[str]:
        """What every customer is told."""
        place = self.place
        pushed = ["topology subnet", f"route-gateway {place.gateway}", "redirect-gateway def1", "block-outside-dns"]
        pushed += [f"dhcp-option DNS {place.gateway}"]
        if self.ipv6:
            pushed += [f"dhcp-option DNS6 {place.gateway6}", "redirect-gateway ipv6"]
        return pushed

    def _argv(self) -> tuple[str, ...]:
        place, here = self.place, self._directory
        options = [
            *(
                "mode server",
                "tls-server",
                "disable-dco",
                "dh none",
                "verb 3",
                "topology subnet",
                "tls-version-min 1.2",
            ),
            f"dev {self.interface}",
            "dev-type tun",
            f"proto {'tcp-server' if self.transport is Protocol.TCP else 'udp'}",
            f"local {place.address}",
            f"port {place.port}",
            f"ifconfig {place.gateway} 255.255.255.0",
            f"ifconfig-pool {place.gateway[:-1]}2 {place.gateway[:-1]}250 255.255.255.0",
            f"keepalive {PING} 30",
            *("verify-client-cert none", "username-as-common-name", "script-security 2"),
            f"auth-user-pass-verify {here}/check via-file",
            f"tmp-dir {here}",
            *(f"{name} {here}/{name}" for name in self._keys()),
            *self.more,
        ]
        if self.ipv6:
            first = f"{place.gateway6[:-1]}2"
            options += [f"ifconfig-ipv6 {place.gateway6}/112 {first}", f"ifconfig-ipv6-pool {first}/112"]
        argv = [process.find("openvpn")]
        for option in options:
            name, _, rest = option.partition(" ")
            argv += [f"--{name}", *rest.split()]
        for each in (*self._pushed(), *self._push):
            argv += ["--push", each]
        return tuple(argv)
