"""Logging in to PIA: a token for a day, from whichever of its services answers.

After a refusal nobody else is asked with the same user name and password: PIA locks whoever tries again and again.

Sources: the scripts of PIA's manual-connections (get_token.sh) and PIA's desktop client (daemon/src/apiclient.cpp); statuses 401,
402 and 429 as its users report them.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from hashlib import blake2s
from typing import NamedTuple, TypeVar

from vpnpf.api import (
    AccountIO,
    Credentials,
    Failure,
    HttpResponse,
    Misconfigured,
    NoAnswer,
    Offline,
    Transient,
    Unavailable,
    Untrusted,
)
from vpnpf_providers.pia_answer import NOTHING_TOLD, OK, UNAUTHORIZED, fields_of, message_of, number, said
from vpnpf_providers.pia_list import LOGINS, Server
from vpnpf_providers.pia_pauses import Found, Pauses

T = TypeVar("T")

LIFETIME = 23 * 3600.0 + 55 * 60.0
"""Seconds that a token is used for; it is good for a day."""
PATIENCE = 20.0
"""Seconds after which no other service is tried any more: one may take ten, and the tunnel waits."""
SILENT = 600.0
"""Seconds for which a service that did not answer is tried after the others."""
USELESS = 900.0
"""Seconds until the next login because of a refused token, after one that did not help."""
LOCKED, LONGEST_LOCK = 59.0, 6 * 3600.0
"""Seconds of a lock: if PIA does not say, and at most."""
UNDER_WAY = 2.0
"""Seconds until it is looked whether another login, at the same time, is over."""
LOOK_AGAIN = 60.0
"""Seconds until it is looked whether there is another login than the one that was refused."""
EXPIRED = 600.0
"""Seconds until the login to an expired account is tried again: somebody may have paid."""
V2 = (
    "https://www.privateinternetaccess.com/api/client/v2/token",
    "https://apiv2.privateinternetaccess.com/api/client/v2/token",
    "https://apiv2.piaproxy.net/api/client/v2/token",
)
OLDEST = "https://www.privateinternetaccess.com/gtoken/generateToken"
END = "https://www.privateinternetaccess.com/api/client/v2/expire_token"
_DOING = "logging in to PIA"
_KEPT = "token"
_TOKEN = re.compile(r"[!-~]{8,1024}", re.ASCII)
_PAYMENT, _TOO_MANY = 402, 429
_NOTHING, _SOMETHING, _MUCH = 0, 1, 2
"""How much it tells: that nothing came, an answer without a token, somebody else's certificate."""
_ONLINE = "is this machine online, and is the tunnel up, if there is one?"


class TokenRefused(Misconfigured):
    """A server takes no login by this token."""


class _Refused(Misconfigured):
    """User name or password are wrong."""


class _Expired(Misconfigured):
    """They are good, and the subscription is over."""


class _Locked(Transient):
    """Too many have tried; `retry_after` is set."""


class _Desk(NamedTuple):
    """A service that gives tokens."""

    url: str
    server: Server | None = None
    """The machine that is asked by its address, and trusted by PIA's authority."""
    older: bool = False
    """Whether it takes user name and password as a header, and says OK."""


class Tokens:
    """The token of an account. `doubt` is called when a machine of the list is not who it should be."""

    def __init__(self, authority: str, doubt: Callable[[], None] = lambda: None) -> None:
        self._authority = authority
        """Certificates, in PEM, that PIA's own servers are known by."""
        self._doubt = doubt
        self._pauses = Pauses()
        self._silent: dict[str, float] = {}
        """By URL: when a service did not answer."""
        self._useless_at: float | None = None
        self._asking = False
        """Whether a login with the account's credentials is under way."""
        self._unsaved: Mapping[str, object] | None = None
        """A token that the disk did not take."""

    async def use(
        self, io: AccountIO, metas: Sequence[Server], ask: Callable[[str], Awaitable[T]], *, names_first: bool
    ) -> T:
        """Ask with the token; once more with a new one if it is refused. Raises TokenRefused, and Failure of the login."""
        token = await self.get(io, metas, names_first=names_first)
        try:
            return await ask(token)
        except TokenRefused:
            if self._useless_at is not None and io.now() - self._useless_at < USELESS:
                raise
            fresh = await self.get(io, metas, names_first=names_first, refused=token)
        try:
            return await ask(fresh)
        except TokenRefused:
            self._useless_at = io.now()
            raise

    async def get(self, io: AccountIO, metas: Sequence[Server], *, names_first: bool, refused: str = "") -> str:
        """The kept token, or a new one; never the one that was refused. Raises Failure."""
        kept = self._kept(io)
        token = self._good(io, kept)
        if token and token != refused:
            with contextlib.suppress(Failure):
                # Who cannot be asked for now has not changed either.
                if kept.get("account") != _digest(await io.credentials()):
                    token = ""
            if token:
                return token
        credentials = await io.credentials()
        if self._asking:
            # A tunnel that is told its key anew and a port that is asked for: one wrong password is tried once.
            raise Transient(_DOING, "another login is under way", "its token is used as soon as it is there", UNDER_WAY)
        self._asking = True
        try:
            return await self.log_in(io, credentials, metas, names_first=names_first)
        except _Refused as error:
            await io.refused(credentials, error.cause)
            raise _of_the_account(error) from None
        except _Expired as error:
            await io.refused(credentials, error.cause, io.wall() + EXPIRED)
            raise _of_the_account(error) from None
        except _Locked as error:
            await io.refused(credentials, error.cause, io.wall() + (error.retry_after or LOCKED))
            raise _of_the_account(error) from None
        finally:
            self._asking = False

    async def instead_of(self, io: AccountIO, metas: Sequence[Server], token: str) -> str:
        """A new token for one that a server did not take; the same again if that was tried lately. Raises Failure."""
        if self._useless_at is not None and io.now() - self._useless_at < USELESS:
            return token
        self._useless_at = io.now()
        return await self.get(io, metas, names_first=False, refused=token)

    async def log_in(
        self, io: AccountIO, credentials: Credentials, metas: Sequence[Server], *, names_first: bool
    ) -> str:
        """Get a new token, and keep it. Raises Misconfigured if it is refused, Transient if nobody gives one now.

        Whoever gave none is not asked for a while; while there is nobody else that is told without asking, and
        the engine comes again by itself within a minute.
        """
        self._pauses.begin(credentials)
        began, came = io.now(), []
        for desk in self._in_order(io, metas, names_first=names_first):
            key = (desk.url, names_first)
            if (last := self._pauses.resting(key, began)) is not None:
                came.append(last)
            elif io.now() - began < PATIENCE:
                found = await self._try(io, desk, credentials)
                if isinstance(found, str):
                    self._pauses.clear()
                    self._keep(io, {"token": found, "given": io.wall(), "account": _digest(credentials)})
                    return found
                self._pauses.rest(key, found, io.now())
                came.append(found)
        most = max(came, key=lambda each: each.tells)
        kind = NoAnswer if all(each.silent for each in came) else Transient
        raise kind(_DOING, f"none of its services gives a token: {most.why}", most.hint or _ONLINE)

    async def _try(self, io: AccountIO, desk: _Desk, credentials: Credentials) -> str | Found:
        """Ask one. Raises Offline, and _Refused, _Expired, _Locked for what others would answer too."""
        try:
            response = await self._ask(io, desk, credentials)
        except Offline:
            raise
        except (Transient, Misconfigured) as error:
            if desk.server and isinstance(error, Untrusted):
                self._doubt()
            hint = error.hint if isinstance(error, Misconfigured) else ""
            # A certificate that is somebody else's tells more than a name that is not found while all is blocked.
            found = Found(
                error.cause,
                _MUCH if isinstance(error, Misconfigured) else _NOTHING,
                NOTHING_TOLD if isinstance(error, Untrusted) else hint,
                silent=isinstance(error, NoAnswer),
            )
        else:
            token = _token_of(response, credentials)
            if token:
                self._silent.pop(desk.url, None)
                return token
            cause = f"PIA answered {said(response, credentials.password, credentials.username)}"
            found = Found(cause, _SOMETHING, heard=True)
        self._silent[desk.url] = io.now()
        return found

    async def log_out(self, io: AccountIO) -> None:
        """End the kept token; whether PIA hears of it or not."""
        token = self._good(io, self._kept(io))
        self._unsaved = None
        io.store.forget(_KEPT)
        if token:
            headers = {"Authorization": f"Token {token}", "Content-Type": "application/json"}
            with contextlib.suppress(Failure):
                await io.http.request("POST", END, content=b"{}", headers=headers)

    async def _ask(self, io: AccountIO, desk: _Desk, credentials: Credentials) -> HttpResponse:
        where = desk.server.address if desk.server else ""
        authority = self._authority if desk.server else ""
        if not desk.older:
            form = {"username": credentials.username, "password": credentials.password}
            return await io.http.request("POST", desk.url, form=form, connect_to=where, ca=authority)
        pair = f"{credentials.username}:{credentials.password}".encode()
        headers = {"Authorization": f"Basic {base64.b64encode(pair).decode()}"}
        return await io.http.request("GET", desk.url, headers=headers, connect_to=where, ca=authority)

    def _in_order(self, io: AccountIO, metas: Sequence[Server], *, names_first: bool) -> list[_Desk]:
        """All services: what did not answer lately is last."""
        names = [_Desk(url) for url in V2]
        by_address = list(_by_address(metas))
        desks = [*(names + by_address if names_first else by_address + names), _Desk(OLDEST, older=True)]

        def silent(desk: _Desk) -> bool:
            at = self._silent.get(desk.url)
            return at is not None and io.now() - at < SILENT

        return sorted(desks, key=silent)

    def _kept(self, io: AccountIO) -> Mapping[str, object]:
        return self._unsaved or io.store.load(_KEPT) or {}

    def _good(self, io: AccountIO, kept: Mapping[str, object]) -> str:
        """The token, if it is one and not too old; by a clock that went back nobody knows."""
        token, given = kept.get("token"), number(kept.get("given"))
        young = given is not None and 0 <= io.wall() - given < LIFETIME
        return token if young and isinstance(token, str) and _TOKEN.fullmatch(token) else ""

    def _keep(self, io: AccountIO, value: Mapping[str, object]) -> None:
        try:
            io.store.save(_KEPT, value)
        except Unavailable:
            # Else each try would be a login, until PIA locks the account.
            self._unsaved = value
        else:
            self._unsaved = None


def _of_the_account(error: Failure) -> Failure:
    """The same failure, said to be no server's; it is looked at again, which sends nothing before the login changes."""
    error.anywhere = True
    if error.retry_after is None:
        error.retry_after = LOOK_AGAIN
    return error


def _by_address(metas: Sequence[Server]) -> Iterator[_Desk]:
    yield from (_Desk(f"https://{each.name}:{LOGINS}/api/client/v2/token", each) for each in metas)
    yield from (_Desk(f"https://{each.name}:{LOGINS}/authv3/generateToken", each, older=True) for each in metas)


def _token_of(response: HttpResponse, credentials: Credentials) -> str:
    """The token that was answered; empty: none. Raises _Refused, _Expired, _Locked for what others would answer too."""
    fields = fields_of(response)
    if response.status == UNAUTHORIZED or "authentication failed" in message_of(response):
        hint = "it is p and seven digits, not the e-mail address; `vpnpf login pia` asks for both anew"
        raise _Refused(_DOING, "PIA does not know this user name with this password", hint)
    if response.status == _PAYMENT:
        hint = "renew it on PIA's site, and then start vpnpf anew"
        raise _Expired(_DOING, "the subscription of this account has expired", hint)
    if response.status == _TOO_MANY or fields.get("code") == "too_many_attempts":
        wait = _seconds(response.headers.get("retry-after", ""))
        hint = "wait: each try makes it longer. Nobody asks PIA with this login until then"
        raise _Locked(_DOING, f"too many have tried to log in: PIA takes no login for {_in_words(wait)}", hint, wait)
    token = fields.get("token")
    if response.status != OK or not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return ""
    return "" if token in {credentials.password, credentials.username} else token


def _seconds(text: str) -> float:
    """What Retry-After says (RFC 9110 section 10.2.3), in seconds; of a date nothing is taken."""
    plain = text.strip()
    good = plain.isascii() and plain.isdigit() and len(plain) < 10  # noqa: PLR2004 - a number that can be one
    return min(max(float(plain), 1.0), LONGEST_LOCK) if good else LOCKED


def _in_words(seconds: float) -> str:
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.0f} second" + "s" * (seconds > 1)
    return f"{seconds / 60:.0f} minutes"


def _digest(credentials: Credentials) -> str:
    """Whose a token is, without telling who that is."""
    return blake2s(credentials.username.encode(), digest_size=8).hexdigest()
