"""Transmission by its RPC (3.00 and later; docs/rpc-spec.md of its source).

Two dialects. Up to 4.0: `{"method": "session-set", "arguments": {"peer-port": …}}`. Since 4.1: JSON-RPC 2.0 with names
in snake_case; the old one goes on until 5.0. Which one is told by X-Transmission-Rpc-Version in the answer 409, which is
new in 4.1 too. Only the old one was proven against a real daemon, 3.00; of 4.0 and 4.1 against models of what their
source says.

What a status means (rpc-server.c of 3.00, rpc-server.cc of 4.0 and 4.1):

    409    the session id is missing or old; the right one comes with it
    401    a wrong user name or password, or none; each counts as a failed login, but for OPTIONS, which is not looked at
    403    too many failed logins (3.00: after 100; later: if it is set so), or an address that is not on its whitelist
    421    a host name that is not on its whitelist; only asked for where it wants no login
    301    a path outside of its own

It cannot be told a device: it listens on any, or on the address `bind-address-ipv4` in its settings.json, which its RPC
neither tells nor sets. It announces a changed port to the trackers by itself.

3.00 binds the UDP socket at the start, and never again when the port changes, but also whenever DHT is switched on or off.
So that is switched to and fro.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

from vpnpf.api import (
    ClientOptions,
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

OK, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, MISDIRECTED = 200, 401, 403, 404, 409, 421
REDIRECTS = range(300, 400)
DEFAULT_PORT = 9091
SESSION, RPC_VERSION = "x-transmission-session-id", "x-transmission-rpc-version"
JSON_RPC = 6
"""Major version of the RPC from which on it is JSON-RPC 2.0."""
UDP_FOLLOWS = 17
"""`rpc-version` from which on the UDP socket follows the port: that of 4.0."""
PORT, RANDOM, MAPPING, DHT = "peer-port", "peer-port-random-on-start", "port-forwarding-enabled", "dht-enabled"
_VERSION = re.compile(r"(\d+\.\d+[\w.+-]*)( \([^()]*\))?")
_SESSION_ID = re.compile(r"[!-~]{1,200}")


class Transmission:
    """`type = "transmission"`."""

    manifest: ClassVar[Manifest] = Manifest(
        id="transmission",
        name="Transmission",
        summary="by its RPC, 3.00 or later; it listens on any device",
        verified="real daemon",
        verified_with="Transmission 3.00",
        help="Switch remote access on in its preferences (transmission-daemon has it on), and write its address "
        "(http://127.0.0.1:9091 if not changed) in [clients.NAME]; user name and password if it asks for them. It has to run in "
        "the network namespace that the tunnel is in.",
        sets_device=False,
        tests_port=True,
    )

    def __init__(self, http: Http, options: ClientOptions) -> None:
        self._http = http
        self._options = options
        self._url = rpc_url(options.url)
        self._session = ""
        self._json_rpc = False
        self._password: str | None = None
        """In use; None: it was not read yet."""
        self._refused: str | None = None
        """The password that was refused last."""
        self._dht: bool | None = None
        """What DHT is to be set back to; None: it is as it was."""

    async def probe(self) -> str:
        """Name and version. Raises Failure."""
        doing = f"asking {self._options.url} for its version"
        version = _VERSION.fullmatch(_field(await self._get("version", doing=doing), "version", str, doing)[:64])
        if version is None:
            raise Unsupported(doing, "it answers, but not with a version", _HINT_URL)
        return f"Transmission {version[1]}"

    async def get_listen(self) -> ListenSettings:
        """The settings in force. Raises Failure."""
        said = await self._get(PORT, RANDOM, MAPPING, doing=_READING)
        return _settings(said)

    async def set_listen(self, wanted: ListenSettings) -> None:
        """Change the settings, and make it bind anew even if they are the same. Raises Failure.

        It keeps the sockets it has while the port stays, also those that it failed to open; so it is sent to another port
        and back.
        """
        if wanted.interface:
            cause = "it cannot be told a device: it listens on any"
            raise Unsupported(f"making Transmission listen on {wanted.interface}", cause, "leave the device out")
        said = await self._get(PORT, RANDOM, MAPPING, DHT, "rpc-version", doing=_READING)
        if _settings(said).port == wanted.port:
            await self._set({PORT: wanted.port ^ 1 or 2})
        values = {PORT: wanted.port, RANDOM: wanted.random_port, MAPPING: wanted.port_mapping}
        if self._json_rpc or _field(said, "rpc-version", int, _READING) >= UDP_FOLLOWS:
            await self._set(values)
            return
        if self._dht is None:
            self._dht = _field(said, DHT, bool, _READING)
        try:
            await self._set({**values, DHT: not self._dht})
        finally:  # also when it is told to end here: DHT is the person's
            await self._set({DHT: self._dht})
            self._dht = None

    async def test_port(self) -> bool:
        """Have portcheck.transmissionbt.com knock on the port; whether it got in. Raises Failure."""
        doing = "testing the port by Transmission"
        return bool(_field(await self._call("port-test", {}, doing), "port-is-open", bool, doing))

    async def _get(self, *names: str, doing: str) -> Mapping[str, Any]:
        return await self._call("session-get", {"fields": names}, doing)

    async def _set(self, values: Mapping[str, object]) -> None:
        await self._call("session-set", values, "setting Transmission's listen port")

    # -- the two dialects -----------------------------------------------------------------------

    async def _call(self, method: str, arguments: Mapping[str, object], doing: str) -> Mapping[str, Any]:
        """One call; what it returns has the names of the old dialect."""
        answer = await self._ask(method, arguments, doing)
        said = decoded(answer.body, doing, _HINT_URL)
        if not isinstance(said, dict):
            raise Unsupported(doing, "the answer is not one of its RPC", _HINT_URL)
        found, failed = _outcome(said) if self._json_rpc else (said.get("arguments"), said.get("result"))
        if isinstance(failed, str) and failed != "success":
            raise Transient(doing, f"it says: {printable(failed)}")
        if failed != "success" or not isinstance(found, dict):
            raise Unsupported(doing, "the answer is not one of its RPC", _HINT_URL)
        return {str(name).replace("_", "-"): value for name, value in found.items()}

    def _body(self, method: str, arguments: Mapping[str, object]) -> bytes:
        said = {self._spelt(name): value for name, value in arguments.items()}
        if isinstance(fields := arguments.get("fields"), tuple):
            said["fields"] = [self._spelt(name) for name in fields]
        if self._json_rpc:
            return json.dumps({"jsonrpc": "2.0", "method": self._spelt(method), "params": said, "id": 1}).encode()
        return json.dumps({"method": method, "arguments": said}).encode()

    def _spelt(self, name: str) -> str:
        return name.replace("-", "_") if self._json_rpc else name

    # -- the session ----------------------------------------------------------------------------

    async def _ask(self, method: str, arguments: Mapping[str, object], doing: str) -> HttpResponse:
        answer = await self._request(method, arguments)
        if answer.status == CONFLICT and self._learn(answer):
            answer = await self._request(method, arguments)
        if answer.status == CONFLICT:
            raise Transient(doing, "it gave us a session id and did not take it", _HINT_URL)
        if answer.status == UNAUTHORIZED:
            raise self._refuse()
        if answer.status == FORBIDDEN:
            raise _forbidden(answer.body, self._logging_in)
        if answer.status == MISDIRECTED:
            cause = f"it does not answer to {self._options.url}"
            raise Misconfigured(
                doing, cause, "give it a login, or add the host name to rpc-host-whitelist in its settings.json"
            )
        if answer.status == NOT_FOUND:
            raise Unsupported(doing, "there is no such thing at this address", _HINT_URL)
        if answer.status in REDIRECTS:
            hint = "set url to http://HOST:9091, or to all of it if rpc-url is another: http://HOST:9091/torrents/rpc"
            raise Misconfigured(doing, "it sends us to another address", hint)
        if answer.status != OK:
            raise Transient(doing, f"HTTP {answer.status}")
        return answer

    async def _request(self, method: str, arguments: Mapping[str, object]) -> HttpResponse:
        headers = {"content-type": "application/json"}
        password = await self._secret()
        if password:
            pair = f"{self._options.username}:{password}".encode()
            headers["authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        if self._session:
            headers[SESSION] = self._session
        return await self._http.request("POST", self._url, content=self._body(method, arguments), headers=headers)

    async def _secret(self) -> str:
        """The password; read once, and again after it was refused. Raises Misconfigured for the one that was."""
        if self._password is None:
            # In a thread: a keyring may ask a person first.
            self._password = await asyncio.to_thread(self._options.password)
        if self._password == self._refused:
            try:
                # Looks at no login, and counts none as failed.
                await self._http.request("OPTIONS", self._url)
            except Refused:
                # It is down, and counts failures from none when it is back: the password may be tried again.
                self._refused = None
                raise
            raise self._refuse()
        return self._password

    def _learn(self, answer: HttpResponse) -> bool:
        """Take the session id and the dialect from an answer 409; whether there was an id."""
        given = answer.headers.get(SESSION, "")
        self._session = given if _SESSION_ID.fullmatch(given) else ""
        major = answer.headers.get(RPC_VERSION, "").partition(".")[0]
        self._json_rpc = major.isascii() and major.isdigit() and len(major) < len("9999") and int(major) >= JSON_RPC
        return bool(self._session)

    def _refuse(self) -> Misconfigured:
        """Remember that it was refused. The same words each time: it is one problem, not a new one a minute."""
        self._refused, self._password = self._password, None
        if not self._refused:
            hint = "add username and password to its table under [clients]"
            return Misconfigured(self._logging_in, "it wants a login, and the configuration has no password", hint)
        return LoginRefused(self._logging_in, "wrong user name or password", _HINT_LOGIN)

    @property
    def _logging_in(self) -> str:
        return f"logging in to Transmission at {self._options.url}"


def rpc_url(url: str) -> str:
    """Where the RPC is, from what a person may take for its address: the machine, the web interface, or all of it."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if not path and parts.scheme == "http" and ":" not in parts.netloc.rpartition("]")[2]:
        parts = parts._replace(netloc=f"{parts.netloc}:{DEFAULT_PORT}")
    if path.endswith("/web"):
        path = path.removesuffix("/web") + "/rpc"
    elif path.endswith("/transmission"):
        path += "/rpc"
    elif not path.endswith("/rpc"):
        path += "/transmission/rpc"
    return urlunsplit(parts._replace(path=path, query="", fragment=""))


_READING = "reading Transmission's settings"
_HINT_LOGIN = (
    "mend the password that the configuration points to, and it is tried again; if you mended it in Transmission, start "
    "Transmission or vpnpf anew (a wrong one is not repeated, since too many shut everybody out)"
)
_HINT_URL = "is this the address of the RPC of Transmission 3.00 or later?"


def _forbidden(body: bytes, doing: str) -> Misconfigured:
    """403. Only 3.00 says which of the two it is."""
    if b"login attempts" in body:
        hint = "restart transmission-daemon; then mend username and password"
        return Misconfigured(doing, "it lets nobody in after too many failed logins", hint, 600.0)
    whitelist = "add this machine's address to rpc-whitelist in its settings.json"
    if b"Unauthorized IP Address" in body:
        return Misconfigured(doing, "this machine's address is not on its whitelist", whitelist, 600.0)
    cause = "it lets us in neither with nor without a password: its whitelist, or too many failed logins"
    return Misconfigured(doing, cause, f"{whitelist}; if it is there, restart Transmission", 600.0)


def _outcome(said: Mapping[str, Any]) -> tuple[object, object]:
    """What a JSON-RPC answer holds, and "success" or what failed."""
    error = said.get("error")
    if not isinstance(error, dict):
        return said.get("result"), "success"
    data = error.get("data")
    more = data.get("error_string") if isinstance(data, dict) else None
    return None, str(more or error.get("message") or "an error without a text")


def _settings(said: Mapping[str, Any]) -> ListenSettings:
    return ListenSettings(
        port=_field(said, PORT, int, _READING),
        interface="",
        random_port=_field(said, RANDOM, bool, _READING),
        port_mapping=_field(said, MAPPING, bool, _READING),
    )


def _field(said: Mapping[str, Any], name: str, kind: type[Any], doing: str) -> Any:  # noqa: ANN401 - of that kind
    return field(said, name, kind, doing, _HINT_URL)
