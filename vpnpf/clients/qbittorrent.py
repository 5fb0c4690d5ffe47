"""qBittorrent by its Web API (v2; qBittorrent 4.2 and later).

Port, device, random port and UPnP go out in one request, so there is no moment in which it listens elsewhere. A login
is only tried when it is asked for, and a password that was refused is not tried again: qBittorrent bans
an address after five.

What a status means (webapplication.cpp and authcontroller.cpp of 4.2 to 5.2):

    403 to a call         no session, or the session has ended: log in
    401 to a call         the Host header is not one that it accepts; or a proxy before it wants a login
    200 "Ok." or 204      logged in (5.2: 204); the cookie is SID or, since 5.2, QBT_SID_<port>
    200 "Fails." or 401   wrong user name or password (5.2: 401)
    403 to a login        this address is banned; it takes a session that it knows, but no login

No Referer is sent: it compares one, if there is one, with Host, and behind a proxy they differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from vpnpf.api import (
    ClientOptions,
    Failure,
    Http,
    HttpResponse,
    ListenSettings,
    LoginRefused,
    Manifest,
    Misconfigured,
    Refused,
    Transient,
    Unsupported,
)
from vpnpf.clients.answers import decoded, field, printable

OK, NO_CONTENT, UNAUTHORIZED, FORBIDDEN, NOT_FOUND = 200, 204, 401, 403, 404
REDIRECTS = range(300, 400)
ELSEWHERE = "lo"
"""A device that is always there and from which nothing leaves."""
_VERSION = re.compile(r"v?(\d+\.\d+[\w.+-]*)")
_KEY = re.compile(r"qbt_[A-Za-z0-9]+")
"""An API key (5.2 and later), instead of user name and password."""


class QBittorrent:
    """`type = "qbittorrent"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="qbittorrent",
        name="qBittorrent",
        summary="by its Web API, 4.2 or later; with a password, or an API key and no user name",
        verified="real daemon",
        verified_with="qBittorrent 4.5.2",
        help="Switch the Web User Interface on in its settings, and write its address, user name and password in "
        "[clients.NAME]. It has to run in the network namespace that the tunnel is in.",
    )

    def __init__(self, http: Http, options: ClientOptions) -> None:
        self._http = http
        self._options = options
        self._cookies: dict[str, str] = {}
        self._key = ""
        """The API key in use; it is the session."""
        self._refused: str | None = None
        """The password that was refused last."""

    async def probe(self) -> str:
        """Name and version. Raises Failure."""
        answer = await self._call("GET", "app/version")
        version = _VERSION.fullmatch(answer.body.decode(errors="replace").strip()[:32])
        if version is None:
            raise Unsupported(
                f"asking {self._options.url} for its version", "it answers, but not with a version", _HINT_URL
            )
        return f"qBittorrent {version[1]}"

    async def get_listen(self) -> ListenSettings:
        """The settings in force. Raises Failure."""
        doing = "reading qBittorrent's settings"
        said = await self._json("app/preferences", doing)
        if not isinstance(said, dict):
            raise Unsupported(doing, "the answer is not a list of settings", _HINT_URL)
        return ListenSettings(
            port=_field(said, "listen_port", int, doing),
            interface=printable(_field(said, "current_network_interface", str, doing)),
            random_port=_field(said, "random_port", bool, doing),
            port_mapping=_field(said, "upnp", bool, doing),
        )

    async def set_listen(self, wanted: ListenSettings) -> None:
        """Change the settings, and make it bind anew even if they are the same. Raises Failure.

        It keeps the sockets it has while port and device stay, also when the device was made anew and they are
        dead; so it is sent to another device and back. Then it is made to tell the trackers, which it does not by itself.
        """
        now = await self.get_listen()
        if (now.port, now.interface) == (wanted.port, wanted.interface):
            if wanted.interface:
                await self._see(wanted.interface)
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
        # Else the trackers tell the old port for as long as their interval, of half an hour and more. It is no reason to
        # set all of it again if that fails.
        with contextlib.suppress(Failure):
            await self._call("POST", "torrents/reannounce", {"hashes": "all"})

    async def _set(self, values: Mapping[str, object]) -> None:
        await self._call("POST", "app/setPreferences", {"json": json.dumps(values)})

    async def _see(self, device: str) -> None:
        """Make sure that it sees the device: it takes any name, and then listens nowhere. Raises Transient."""
        doing = f"making qBittorrent listen on {device}"
        said = await self._json("app/networkInterfaceList", doing)
        names = [str(each.get("value")) for each in said if isinstance(each, dict)] if isinstance(said, list) else []
        if device not in names:
            seen = printable(", ".join(names)) or "nothing"
            hint = "run it in this network namespace; a container needs the host's network (network_mode: host)"
            raise Transient(doing, f"it does not see that device, only {seen}", hint)

    async def _json(self, path: str, doing: str) -> object:
        answer = await self._call("GET", path)
        return decoded(answer.body, doing, _HINT_URL)

    # -- the session ----------------------------------------------------------------------------

    async def _call(self, method: str, path: str, form: Mapping[str, str] | None = None) -> HttpResponse:
        """One call; logs in if that is asked for, once."""
        doing = f"asking qBittorrent for {path}"
        answer = await self._request(method, path, form)
        if answer.status == FORBIDDEN:
            await self._log_in()
            answer = await self._request(method, path, form)
            if answer.status == FORBIDDEN and self._key:
                raise self._refuse(self._key)
            if answer.status == FORBIDDEN:
                raise Misconfigured(doing, "it let us in and then did not know us", _HINT_HOST)
        if answer.status == UNAUTHORIZED:
            raise Misconfigured(doing, f"it does not answer to {self._options.url}", _HINT_HOST)
        if answer.status == NOT_FOUND:
            raise Unsupported(doing, "there is no such thing at this address", _HINT_URL)
        if answer.status in REDIRECTS:
            raise Misconfigured(doing, "it sends us to another address", "set url to the one a browser ends up at")
        if answer.status not in {OK, NO_CONTENT}:
            raise Transient(doing, f"HTTP {answer.status}")
        self._cookies |= answer.cookies  # also where it lets us in without a login: one session, not one a call
        return answer

    async def _log_in(self) -> None:
        # In a thread: a keyring may ask a person first.
        password = await asyncio.to_thread(self._options.password)
        if not password:
            hint = "add username and password to its table under [clients]"
            raise Misconfigured(self._logging_in, "it wants a login, and the configuration has no password", hint)
        if password == self._refused:
            raise self._refuse(password)
        self._cookies, self._key = {}, ""
        if not self._options.username and _KEY.fullmatch(password):
            self._key = password
            return
        answer = await self._request("POST", "auth/login", {"username": self._options.username, "password": password})
        if answer.status == FORBIDDEN:
            hint = "restart qBittorrent or wait an hour; then mend username and password"
            raise Misconfigured(self._logging_in, "it has banned this address after too many failures", hint, 600.0)
        if answer.status == UNAUTHORIZED or (answer.status == OK and answer.body.strip() == b"Fails."):
            raise self._refuse(password)
        if answer.status not in {OK, NO_CONTENT}:
            raise Transient(self._logging_in, f"HTTP {answer.status}")
        self._refused = None
        self._cookies = dict(answer.cookies)

    @property
    def _logging_in(self) -> str:
        return f"logging in to qBittorrent at {self._options.url}"

    def _refuse(self, password: str) -> LoginRefused:
        """Remember that it was refused. The same words each time: it is one problem, not a new one a minute."""
        self._refused, self._key = password, ""
        if not self._options.username and _KEY.fullmatch(password):
            return LoginRefused(self._logging_in, "it refused the API key", _HINT_KEY)
        return LoginRefused(self._logging_in, "wrong user name or password", _HINT_LOGIN)

    async def _request(self, method: str, path: str, form: Mapping[str, str] | None) -> HttpResponse:
        headers = {}
        if self._key:
            headers["authorization"] = f"Bearer {self._key}"
        elif self._cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        try:
            return await self._http.request(method, f"{self._options.url}/api/v2/{path}", form=form, headers=headers)
        except Refused:
            # It is down, and counts failures from none when it is back: the password may be tried again.
            self._refused = None
            raise


_HINT_LOGIN = (
    "mend the password that the configuration points to, and it is tried again; if you mended it in qBittorrent, start "
    "qBittorrent or vpnpf anew (a wrong one is not repeated, since it bans after five)"
)
_HINT_KEY = "make one in the settings of qBittorrent 5.2 or later, under Web UI, and put it where the password is"
_HINT_HOST = (
    "use the address that its Web UI is reached by: it checks the Host header, and a proxy before it may interfere"
)
_HINT_URL = "is this the address of the Web UI of qBittorrent 4.2 or later?"


def _field(said: Mapping[str, Any], name: str, kind: type[Any], doing: str) -> Any:  # noqa: ANN401 - of that kind
    return field(said, name, kind, doing, _HINT_URL)
