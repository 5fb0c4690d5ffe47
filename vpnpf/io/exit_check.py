"""Asking somebody on the internet which address he sees (`interfaces.ExitCheck`). Only where the person named one."""

from __future__ import annotations

import ipaddress
import json

from vpnpf.errors import Transient
from vpnpf.interfaces import Http
from vpnpf.io.http import HttpClient
from vpnpf.model import Tunnel

_OK = 200
_KEYS = ("ip", "address", "query", "origin", "ip_addr")


class HttpExitCheck:
    """One URL that answers with the address of whoever asks, as text or in JSON."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def address(self, tunnel: Tunnel) -> str:
        """Ask through the tunnel. Raises Failure."""
        http: Http = HttpClient(device=tunnel.interface, local_address=tunnel.address)
        answer = await http.request("GET", self._url)
        doing = "asking which address the internet sees"
        if answer.status != _OK:
            raise Transient(doing, f"HTTP {answer.status}")
        found = address_in(answer.body)
        if found is None:
            raise Transient(doing, "the answer is no address", "exit_check needs a URL that answers with an address")
        return found


def address_in(body: bytes) -> str | None:
    """The address in an answer: the whole of it, or of a JSON object a member with a usual name. Pure."""
    text = body.decode(errors="replace").strip()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError):
        said = text
    if isinstance(said, dict):
        said = next((said[key] for key in _KEYS if key in said), "")
    try:
        return str(ipaddress.ip_address(str(said).strip()))
    except ValueError:
        return None
