"""What touches async-upnp-client: imported by `vpnpf.io.upnp` when a gateway is looked for, and by nobody else.

The library reads the XML (by defusedxml, which refuses entities) and writes the SOAP; what it says goes through our
HttpClient: bound to the device, 64 KiB, a deadline, no redirects. Of a description it gets to see the one connection
that is used, so that a device can neither send it elsewhere nor keep it busy with a thousand services. What the
connection's actions are, it learns from the standard and not from the device: those descriptions are often wrong
(miniupnpd 2.3.1 names another result of AddAnyPortMapping than it gives), and nothing in them is needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import urljoin
from xml.sax.saxutils import escape

import defusedxml.ElementTree as DefusedTree
from async_upnp_client.client import UpnpRequester, UpnpService
from async_upnp_client.client_factory import UpnpFactory
from async_upnp_client.const import NS, HttpRequest, HttpResponse
from async_upnp_client.exceptions import UpnpActionError, UpnpResponseError
from msgspec import Struct, structs

from vpnpf.errors import Failure, NoAnswer, Transient, Unsupported
from vpnpf.interfaces import Igd, IgdMapping
from vpnpf.io.http import HttpClient
from vpnpf.model import Protocol
from vpnpf.protocol.igd import LONGEST_LEASE, NO_SUCH_ENTRY, SERVICES, Wish, failure_of, next_wish, service_description
from vpnpf.protocol.ssdp import is_on

_DEADLINE = 10.0
"""Seconds for one question as a whole."""
_MAPPING_DEADLINE = 20.0
"""Seconds for a mapping, which may take several ports to try."""
_BLANK = " \t\r\n\0"
"""What some devices put around their XML."""
_LAST_PORT = 65535
_CODES = range(1, 1000)
_LABEL = "vpnpf"
"""What the gateway lists the mapping as."""
_DESCRIPTION = (
    f'<root xmlns="{NS["device"]}"><device><serviceList><service><serviceType>{{}}</serviceType>'
    "<SCPDURL>{}</SCPDURL><controlURL>{}</controlURL></service></serviceList></device></root>"
)
"""A device with one service: its type and URLs."""
_STANDARD = "#standard"
"""Ends the URL of the standard's description of the actions, which is never asked of a device."""
_HINT = "is that the gateway of this tunnel, and is UPnP switched on there?"


async def connect(location: str, device: str, address: str, gateway: str) -> Igd:
    """Read the description at `location` and take the best connection that it has. Raises Failure."""
    requester = _Requester(HttpClient(local_address=address, device=device), gateway)
    choose = partial(_one_connection, location=location, gateway=gateway)
    factory = UpnpFactory(requester, non_strict=True, on_post_receive_device_spec=choose)
    async with _answering(f"reading what the UPnP gateway {gateway} is", _DEADLINE):
        made = await factory.async_create_device(location)
        (service,) = made.services.values()
    return _Device(service, address, gateway)


class _Requester(UpnpRequester):
    """The library's requests, by our own client and to the gateway alone."""

    def __init__(self, http: HttpClient, gateway: str) -> None:
        self._http = http
        self._gateway = gateway

    async def async_http_request(self, http_request: HttpRequest) -> HttpResponse:
        """As the library asks for it. Raises Failure."""
        if http_request.method == "GET" and http_request.url.endswith(_STANDARD):
            return HttpResponse(200, {}, service_description())
        if not is_on(http_request.url, self._gateway):
            raise Transient("asking a UPnP gateway", "it wants to be asked at another place than its own")
        body = http_request.body
        answer = await self._http.request(
            http_request.method,
            http_request.url,
            content=None if body is None else body.encode(),
            headers={name: value for name, value in http_request.headers.items() if name.lower() != "host"},
        )
        return HttpResponse(answer.status, answer.headers, answer.body.decode("utf-8", "replace"))


def _one_connection(response: HttpResponse, location: str, gateway: str) -> HttpResponse:
    """Cut a device description down to the one connection to use, with absolute URLs. Raises Unsupported and more."""
    if response.status_code != 200:  # noqa: PLR2004 - the library says so then
        return response
    root = DefusedTree.fromstring((response.body or "").strip(_BLANK))
    base = (root.findtext("{*}URLBase") or "").strip()
    base = base if is_on(base, gateway) else location
    services = list(root.iterfind(".//{*}service"))
    for kind in SERVICES:
        for service in services:
            if (service.findtext("{*}serviceType") or "").strip() != kind:
                continue
            control = _absolute(base, service.findtext("{*}controlURL") or "")
            if is_on(control, gateway):
                return replace(response, body=_DESCRIPTION.format(kind, escape(location + _STANDARD), escape(control)))
    doing = f"reading what the UPnP gateway {gateway} is"
    raise Unsupported(doing, "it has no connection whose ports can be mapped", _HINT)


def _absolute(base: str, url: str) -> str:
    try:
        return urljoin(base, url.strip()) if url.strip() else ""
    except ValueError:
        return ""


class _Said(Struct, frozen=True):
    """The answer to an action: values, or an error code."""

    values: Mapping[str, object]
    code: int = 0
    """0: it was done."""


class _Device:
    """One connection of a gateway (`interfaces.Igd`)."""

    def __init__(self, service: UpnpService, address: str, gateway: str) -> None:
        self._service = service
        self._address = address
        self._gateway = gateway

    async def external_address(self) -> str:
        """The IPv4 address that the internet sees. Raises Failure; Transient if there is none now."""
        doing = f"asking the UPnP gateway {self._gateway} for the external address"
        async with _answering(doing, _DEADLINE):
            said = await self._call("GetExternalIPAddress", {})
        if said.code:
            raise failure_of(said.code, doing)
        address = _address(said.values.get("NewExternalIPAddress"))
        if address in {"", "0.0.0.0"}:  # noqa: S104 - told, not bound
            raise Transient(doing, "it has none", "is the gateway itself connected?")
        return address

    async def add_mapping(
        self, protocol: Protocol, external_port: int, internal_port: int, lifetime: int
    ) -> IgdMapping:
        """Map a port to our own address, or renew the mapping; see `interfaces.Igd`. Raises Failure."""
        doing = f"asking the UPnP gateway {self._gateway} for a {protocol} port"
        second = self._service.service_type == SERVICES[0]
        wish = Wish(external_port, internal_port, max(1, min(lifetime, LONGEST_LEASE)), may_any=second)
        async with _answering(doing, _MAPPING_DEADLINE):
            asked, said = await self._ask(wish, protocol)
        if said.code:
            raise failure_of(said.code, doing)
        external = _number(said.values.get("NewReservedPort"), _LAST_PORT) if asked.any_port else asked.external_port
        if not external:
            raise Transient(doing, "broken answer: it granted a port that is none")
        granted = IgdMapping(external, asked.internal_port, self._address, float(asked.lifetime) or None)
        return await self._as_held(protocol, granted, doing)

    async def delete_mapping(self, protocol: Protocol, external_port: int) -> None:
        """End a mapping; succeeds also if there was none. Raises Failure."""
        doing = f"giving a {protocol} mapping back to the UPnP gateway {self._gateway}"
        async with _answering(doing, _DEADLINE):
            said = await self._call("DeletePortMapping", _which(protocol, external_port))
        if said.code and said.code not in NO_SUCH_ENTRY:
            raise failure_of(said.code, doing)

    async def get_mapping(self, protocol: Protocol, external_port: int) -> IgdMapping | None:
        """The mapping of an external port, whoever made it, or None. Raises Failure."""
        doing = f"asking the UPnP gateway {self._gateway} who has {external_port}/{protocol}"
        async with _answering(doing, _DEADLINE):
            said = await self._call("GetSpecificPortMappingEntry", _which(protocol, external_port))
        if said.code in NO_SUCH_ENTRY:
            return None
        if said.code:
            raise failure_of(said.code, doing)
        internal = _number(said.values.get("NewInternalPort"), _LAST_PORT)
        left = _number(said.values.get("NewLeaseDuration"), 2**32 - 1)
        if not internal or left is None:
            raise Transient(doing, "broken answer: ports or seconds that are none")
        return IgdMapping(external_port, internal, _address(said.values.get("NewInternalClient")), float(left) or None)

    async def _ask(self, wish: Wish, protocol: Protocol) -> tuple[Wish, _Said]:
        """Ask until it is granted or refused for good; what was asked for last, and the answer."""
        while True:
            said = await self._add(wish, protocol)
            further = next_wish(wish, said.code) if said.code else None
            if further is None:
                return wish, said
            wish = further

    async def _as_held(self, protocol: Protocol, granted: IgdMapping, doing: str) -> IgdMapping:
        """What became of a grant, since the answer to it says nothing: some gateways have a lifetime of their own."""
        held = None
        with contextlib.suppress(Failure):  # not all can say; it was granted all the same
            held = await self.get_mapping(protocol, granted.external_port)
        if held is None:
            return granted
        if held.address not in {"", self._address}:
            raise Transient(doing, f"it granted a port that goes to {held.address}", "another machine holds it")
        # A mapping said to be permanent may be one of a gateway that does not say how long: to renew it harms neither.
        if granted.lifetime is None or held.lifetime is None:
            return granted
        return structs.replace(granted, lifetime=min(granted.lifetime, held.lifetime))

    async def _add(self, wish: Wish, protocol: Protocol) -> _Said:
        wanted = {
            "NewInternalPort": str(wish.internal_port),
            "NewInternalClient": self._address,
            "NewEnabled": "1",
            "NewPortMappingDescription": _LABEL,
            "NewLeaseDuration": str(wish.lifetime),
        }
        name = "AddAnyPortMapping" if wish.any_port else "AddPortMapping"
        return await self._call(name, _which(protocol, wish.external_port) | wanted)

    async def _call(self, name: str, arguments: dict[str, Any]) -> _Said:
        """Call an action, within `_answering`."""
        try:
            return _Said(await self._service.action(name).async_call(**arguments))
        except UpnpActionError as error:
            code = error.error_code or 0
            if code not in _CODES:
                raise
            return _Said({}, code)


def _which(protocol: Protocol, external_port: int) -> dict[str, str]:
    return {
        "NewRemoteHost": "",
        "NewExternalPort": str(external_port),
        "NewProtocol": protocol.upper(),
    }


@contextlib.asynccontextmanager
async def _answering(doing: str, seconds: float) -> AsyncIterator[None]:
    """Keep the time, and turn whatever a device's answer leads to into a Failure."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise NoAnswer(doing, f"not done in {seconds:g} s", _HINT) from None
    except Unsupported:
        raise
    except Failure as error:
        kind = type(error) if isinstance(error, Transient) else Transient
        raise kind(doing, error.cause, _HINT) from error
    except UpnpActionError:
        raise Transient(doing, "broken answer: an error without a code") from None
    except UpnpResponseError as error:
        raise Transient(doing, f"it answered with HTTP status {error.status}", _HINT) from None
    except Exception as error:
        # The device's words decide what the library trips over.
        raise Transient(doing, f"broken answer: {type(error).__name__}", _HINT) from error


def _number(value: object, most: int) -> int | None:
    """A whole number from 0 to `most`; None: it is none."""
    text = str(value)
    good = text.isascii() and text.isdigit() and len(text) <= len(str(most)) and int(text) <= most
    return int(text) if good else None


def _address(value: object) -> str:
    """An IPv4 address, or "": it is none."""
    try:
        return str(ipaddress.IPv4Address(str(value).strip()))
    except ValueError:
        return ""
