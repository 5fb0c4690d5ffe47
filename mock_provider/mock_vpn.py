"""A provider plug-in for the mock's panel: NAT-PMP for the port, and the account's own switch over HTTP.

Not shipped and not registered: a test does that (`panel.register`) for the run that it starts. It is also the example of a
provider with a switch: what its answers may be is checked to the last port, and the token is in no message.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import ClassVar, cast

from vpnpf.api import (
    HttpResponse,
    Manifest,
    Misconfigured,
    Opening,
    Option,
    PolicyMode,
    Protocol,
    ProviderIO,
    ProviderPolicy,
    Transient,
    Tunnel,
    Unsupported,
)
from vpnpf_providers.natpmp import NatPmp

PATH = "/v1/policy"
LONGEST_WAIT = 3600.0
"""Seconds; whatever an answer says of trying again, it is not later than that."""
LAST_PORT = 65535
_PORTS = re.compile(r"([0-9]{1,5})(?:-([0-9]{1,5}))?/(tcp|udp)")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,128}")
_SECONDS = re.compile(r"[0-9]{1,6}")
_OF_THE_ACCOUNT = (401, 403)
_NO_SUCH_THING = (404, 405, 501)
_TOO_OFTEN = 429


def _wrong_token(value: object) -> str:
    """What is wrong with a token, without repeating it."""
    return "" if _TOKEN.fullmatch(str(value)) else "letters, digits, - and _ alone, at most 128"


class MockVpn(NatPmp):
    """`provider = "mock_vpn"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="mock_vpn",
        name="Mock VPN",
        summary="the mock provider with a port switch in its account",
        verified="mock",
        options=(Option("token", str, "the account's token", _wrong_token), *NatPmp.manifest.options),
        max_forwards=NatPmp.manifest.max_forwards,
        announces=True,
        port_switch=True,
    )

    def __init__(self, options: Mapping[str, object]) -> None:
        super().__init__({name: value for name, value in options.items() if name != "token"})
        self._token = cast("str", options.get("token", ""))

    async def get_switch(self, io: ProviderIO, tunnel: Tunnel) -> ProviderPolicy:
        """What the account lets in. Raises Failure."""
        doing = "reading the provider's port switch"
        answer = await io.http.request("GET", self._url(tunnel), headers=self._headers())
        _check(answer, doing)
        try:
            return policy_from(json.loads(answer.body))
        except (ValueError, RecursionError):
            raise Transient(doing, "its answer is not a policy") from None

    async def set_switch(self, io: ProviderIO, tunnel: Tunnel, wanted: ProviderPolicy) -> None:
        """Ask for another policy of the account. Raises Failure."""
        headers = {**self._headers(), "Content-Type": "application/json"}
        content = json.dumps(policy_json(wanted)).encode()
        answer = await io.http.request("PUT", self._url(tunnel), content=content, headers=headers)
        _check(answer, "setting the provider's port switch")

    def _url(self, tunnel: Tunnel) -> str:
        return f"http://{tunnel.gateway}{PATH}"

    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"}


def policy_json(policy: ProviderPolicy) -> dict[str, object]:
    """A policy as the panel speaks of it."""
    return {"mode": str(policy.mode), "ports": list(map(str, policy.ports))}


def policy_from(said: object) -> ProviderPolicy:
    """A policy that somebody else wrote. Raises ValueError for anything that is none."""
    match said:
        case {"mode": str(mode), "ports": list(ports)}:
            return ProviderPolicy(PolicyMode(mode), tuple(map(_opening, ports)))
        case _:
            raise ValueError("no mode and list of ports")


def _opening(text: object) -> Opening:
    found = _PORTS.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise ValueError("no port")
    first, last = int(found[1]), int(found[2] or found[1])
    if not 1 <= first <= last <= LAST_PORT:
        raise ValueError("no port")
    return Opening(first, last, Protocol(found[3]))


def _check(answer: HttpResponse, doing: str) -> None:
    """Raise for everything but success; what the server wrote is not repeated."""
    if answer.status in range(200, 300):
        return
    cause = f"HTTP {answer.status}"
    if answer.status in _OF_THE_ACCOUNT:
        raise Misconfigured(doing, f"{cause}: the token is refused", "set options.token to the account's token")
    if answer.status in _NO_SUCH_THING:
        raise Unsupported(doing, f"{cause}: this server has no port switch")
    if answer.status == _TOO_OFTEN:
        after = answer.headers.get("retry-after", "")
        wait = float(after) if _SECONDS.fullmatch(after) else 60.0
        raise Transient(doing, f"{cause}: too many requests", retry_after=min(LONGEST_WAIT, wait))
    raise Transient(doing, cause)
