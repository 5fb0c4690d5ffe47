"""qBittorrent by its Web API (v2; qBittorrent 4.1 and later).

Port, device, random port and UPnP go out in one request, so there is no moment in which it listens elsewhere. A login
is only tried when it is asked for, and a password that was refused is not tried again: qBittorrent bans
an address after five.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from vpnpf.api import (
    ClientOptions,
    Http,
    HttpResponse,
    ListenSettings,
    Manifest,
    Misconfigured,
    Transient,
    Unsupported,
)

OK, NO_CONTENT, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 204, 401, 403, 404
ELSEWHERE = "lo"
"""A device that is always there and from which nothing leaves."""


class QBittorrent:
    """`type = "qbittorrent"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="qbittorrent",
        name="qBittorrent",
        summary="by its Web API, 4.1 or later",
        verified="real daemon (4.5.2)",
    )

    def __init__(self, http: Http, options: ClientOptions) -> None:
        self._http = http
        self._options = options
        self._cookies: dict[str, str] = {}
        self._refused: str | None = None
        """The password that was refused last."""

    async def probe(self) -> str:
        """Name and version. Raises Failure."""
        answer = await self._call("GET", "app/version")
        return f"qBittorrent {answer.body.decode(errors='replace').strip().removeprefix('v')[:32]}"

    async def get_listen(self) -> ListenSettings:
        """The settings in force. Raises Failure."""
        doing = "reading qBittorrent's settings"
        answer = await self._call("GET", "app/preferences")
        try:
            said = json.loads(answer.body)
        except ValueError:
            raise Transient(doing, "the answer is not JSON") from None
        if not isinstance(said, dict):
            raise Transient(doing, "the answer is not what the API says")
        return ListenSettings(
            port=_field(said, "listen_port", int, doing),
            interface=_field(said, "current_network_interface", str, doing),
            random_port=_field(said, "random_port", bool, doing),
            port_mapping=_field(said, "upnp", bool, doing),
        )

    async def set_listen(self, wanted: ListenSettings) -> None:
        """Change the settings, and make it bind anew even if they are the same. Raises Failure.

        It keeps the sockets it has while its settings stay, also when their device was made anew and they are
        dead; so it is sent to another device and back.
        """
        if await self.get_listen() == wanted:
            await self._set({"current_network_interface": ELSEWHERE})
        await self._set(
            {
                "listen_port": wanted.port,
                "current_network_interface": wanted.interface,
                "current_interface_address": "",
                "random_port": wanted.random_port,
                "upnp": wanted.port_mapping,
            }
        )

    async def _set(self, values: Mapping[str, object]) -> None:
        await self._call("POST", "app/setPreferences", {"json": json.dumps(values)})

    # -- the session ----------------------------------------------------------------------------

    async def _call(self, method: str, path: str, form: Mapping[str, str] | None = None) -> HttpResponse:
        """One call; logs in if that is asked for, once."""
        answer = await self._request(method, path, form)
        if answer.status in {UNAUTHORIZED, FORBIDDEN}:
            await self._log_in()
            answer = await self._request(method, path, form)
        doing = f"asking qBittorrent for {path}"
        if answer.status in {UNAUTHORIZED, FORBIDDEN}:
            raise Misconfigured(doing, f"it let us in and then said HTTP {answer.status}", _HINT_HOST)
        if answer.status == NOT_FOUND:
            raise Unsupported(doing, "it does not know this call", "qBittorrent 4.1 or later is needed at this URL")
        if answer.status not in {OK, NO_CONTENT}:
            raise Transient(doing, f"HTTP {answer.status}")
        return answer

    async def _log_in(self) -> None:
        doing = f"logging in to qBittorrent at {self._options.url}"
        password = self._options.password()
        if password == self._refused:
            raise Misconfigured(doing, "it refused this password before", _HINT_PASSWORD)
        self._cookies = {}
        answer = await self._request("POST", "auth/login", {"username": self._options.username, "password": password})
        if answer.status == FORBIDDEN:
            hint = "restart qBittorrent or wait an hour; then mend username and password"
            raise Misconfigured(doing, "it has banned this address after too many failures", hint, 600.0)
        if answer.status == UNAUTHORIZED or (answer.status == OK and answer.body.strip() == b"Fails."):
            self._refused = password
            raise Misconfigured(doing, "wrong username or password", _HINT_PASSWORD)
        if answer.status not in {OK, NO_CONTENT}:
            raise Transient(doing, f"HTTP {answer.status}")
        self._refused = None
        self._cookies = dict(answer.cookies)

    async def _request(self, method: str, path: str, form: Mapping[str, str] | None) -> HttpResponse:
        # It compares Referer with Host against cross-site requests.
        headers = {"referer": self._options.url}
        if self._cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        return await self._http.request(method, f"{self._options.url}/api/v2/{path}", form=form, headers=headers)


_HINT_PASSWORD = "set username and password as in its settings under Web UI, then it is tried again"  # noqa: S105
_HINT_HOST = "use the address that its Web UI is reached by; it checks the Host header"


def _field(said: Mapping[str, Any], name: str, kind: type[Any], doing: str) -> Any:  # noqa: ANN401 - of that kind
    value = said.get(name)
    if type(value) is not kind:
        raise Unsupported(doing, f'it says nothing usable of "{name}"', "is it qBittorrent 4.1 or later?")
    return value
