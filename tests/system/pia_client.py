"""A client of the mock of Private Internet Access that is none of ours: curl, wg, openssl."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from urllib.parse import quote

from mock_provider.pia_forward import PORT as API_PORT
from mock_provider.pia_pki import servers_authority, web_authority
from mock_provider.wireguard import Client
from vpnpf.io import process

HTTP_REFUSED, HTTP_TIMED_OUT, HTTP_CUT_OFF, HTTP_CERTIFICATE = 7, 28, 18, 60
"""curl's exit codes."""


@dataclass(frozen=True)
class Said:
    """What curl got."""

    exit: int
    status: int
    body: str

    @property
    def json(self):
        return json.loads(self.body)


class Curl:
    """Asks from a host of the lab, as PIA's own scripts do."""

    def __init__(self, host, directory):
        self.host = host
        self.ca = servers_authority().write(directory / "ca.pem")
        self.web_ca = web_authority().write(directory / "web.pem")

    async def ask(self, url, *arguments, ca=None):
        argv = ("curl", "-sS", "-m", "2", "--cacert", str(ca or self.web_ca), "-w", "\n%{http_code}", *arguments, url)
        done = await self.host.run(argv)
        body, _, status = done.stdout.rpartition("\n")
        return Said(done.status, int(status or 0), body)

    async def machine(self, cn, address, port, path, *arguments):
        """A server by its address, with the name in its certificate."""
        to = ("--connect-to", f"{cn}::{address}:")
        return await self.ask(f"https://{cn}:{port}{path}", *to, *arguments, ca=self.ca)

    async def token(self, pia):
        form = ("-d", f"username={pia.account.username}", "--data-urlencode", f"password={pia.account.password}")
        said = await self.ask("https://www.privateinternetaccess.com/api/client/v2/token", *form)
        return said.json["token"]

    async def add_key(self, site, token, key):
        path = f"/addKey?pt={token}&pubkey={quote(key, safe='')}"
        return await self.machine(site.cn, site.place.address, 1337, path)

    async def api(self, site, path, *, address="", arguments=()):
        return await self.machine(site.cn, address or site.place.gateway, API_PORT, path, *arguments)

    async def signature(self, site, token):
        said = await self.api(site, f"/getSignature?token={token}")
        return said.json["payload"], said.json["signature"]

    async def bind(self, site, payload, signature):
        return await self.api(
            site, f"/bindPort?payload={quote(payload, safe='')}&signature={quote(signature, safe='')}"
        )


async def key_pair():
    private = (await process.must(("wg", "genkey"), doing="making a key")).strip()
    public = (await process.must(("wg", "pubkey"), doing="making a key", stdin=private + "\n")).strip()
    return private, public


async def connect(pia, curl, site, token, pair=None):
    """Register a key and bring a tunnel up; returns the device and what the server said."""
    private, public = pair or await key_pair()
    reply = (await curl.add_key(site, token, public)).json
    endpoint = f"{reply['server_ip']}:{reply['server_port']}"
    customer = Client(private, public, reply["server_key"], reply["peer_ip"], endpoint=endpoint, place=site.place)
    return await site.server.bring_up(customer, pia.lab.client), reply


def signed(directory, body, key):
    """Whether the list's signature is right, by openssl."""
    text, _, signature = body.partition("\n")
    (directory / "list").write_text(text)
    (directory / "key.pem").write_text(key)
    wrapped = f"base64 -d > {directory}/signature"
    subprocess.run(["sh", "-c", wrapped], input=signature, text=True, check=True)
    argv = ["openssl", "dgst", "-sha256", "-verify", directory / "key.pem", "-signature", directory / "signature"]
    return subprocess.run([*argv, directory / "list"], capture_output=True, check=False).returncode == 0
