"""A forwarded port of PIA: a signature that says which one, and for two months, and bound at the server again and again.

Asked over https at the tunnel's gateway, port 19999, by the server's name. What was signed is sent byte by byte as it came.

Sources: port_forwarding.sh of PIA's manual-connections; PIA's desktop client (daemon/src/portforwarder.cpp); the errors as
its users report them.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime
from typing import NamedTuple
from urllib.parse import quote

from vpnpf.api import AccountIO, HttpResponse, NoAnswer, Offline, Refused, Transient, Untrusted
from vpnpf_providers.pia_answer import (
    UNAUTHORIZED,
    distrusted,
    fields_of,
    is_good,
    message_of,
    number,
    port,
    said,
    unexpected,
)
from vpnpf_providers.pia_token import TokenRefused

PORT = 19999
RENEW_BEFORE = 7 * 86400.0
"""Seconds before the end of a signature when a new one is fetched."""
_LEAST = 60.0
"""Seconds of a lease that a server has just bound, whatever this machine's clock says of the signature."""
_BASE64 = re.compile(r"[A-Za-z0-9+/]{4,4092}={0,2}", re.ASCII)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_CONFLICT = 409
_PASSING = {404, 408, 425, 429}
"""Refusals that are not about what was sent."""
_TROUBLE = 500
"""The first status that is the server's own trouble."""
_RETRY = 300.0


class Signed(NamedTuple):
    """A port, as PIA signed it."""

    payload: str
    signature: str
    port: int
    ends: float
    """On the wall clock."""
    since: float = 0.0
    """On the wall clock, when it was fetched; 0: not known."""

    def __repr__(self) -> str:
        return f"Signed(port={self.port}, ends={self.ends})"

    def ending(self, wall: float) -> bool:
        """Whether a new one should be fetched. A clock that is wrong must not make that every few minutes."""
        span = self.ends - self.since if self.since else 8 * RENEW_BEFORE
        return self.ends - wall < min(RENEW_BEFORE, max(0.0, span / 8)) and (span > 0 or not self.since)

    def lifetime(self, longest: float, wall: float) -> float:
        """Seconds that a port is bound for which was bound now."""
        left = self.ends - wall
        return min(longest, max(_LEAST, left)) if left > 0 else longest

    def as_token(self) -> str:
        """What is kept of it."""
        return json.dumps({"payload": self.payload, "signature": self.signature, "since": self.since})


class NotBound(Transient):
    """A server does not take this signature; another one may do."""


class NotTaken(Transient):
    """A server refuses this signature in words that nothing is known of: it may pass, or not."""


class Unheard(Exception):
    """Nobody answers where ports are forwarded; what that means is known further up."""

    def __init__(self, failure: Refused | NoAnswer) -> None:
        super().__init__(str(failure))
        self.failure = failure


def read_token(token: str) -> Signed | None:
    """The signature that was kept; None: it is none."""
    try:
        kept = json.loads(token)
    except (ValueError, RecursionError):
        return None
    if not isinstance(kept, dict):
        return None
    return signed(kept.get("payload"), kept.get("signature"), max(0.0, number(kept.get("since")) or 0.0))


def signed(payload: object, signature: object, since: float) -> Signed | None:
    """A port out of what is signed; None: there is none in it."""
    if not (isinstance(payload, str) and isinstance(signature, str)):
        return None
    if not (_BASE64.fullmatch(payload) and _BASE64.fullmatch(signature)):
        return None
    try:
        fields = json.loads(base64.b64decode(payload, validate=True))
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict):
        return None
    given, ends = port(fields.get("port")), moment(fields.get("expires_at"))
    return Signed(payload, signature, given, ends, since) if given is not None and ends is not None else None


def moment(text: object) -> float | None:
    """Seconds since 1970 of a time of RFC 3339, in nanoseconds if need be; None: it is none."""
    found = _TIME.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        return None
    day, clock, fraction, zone = found.groups()
    try:
        at = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        seconds = (at.astimezone(UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
    except (ValueError, OverflowError):
        return None
    return seconds + float(f"0.{fraction or 0}")


class Gateway(NamedTuple):
    """The service in the tunnel that forwards ports."""

    address: str
    name: str
    """In the server's certificate."""
    authority: str

    async def sign(self, io: AccountIO, token: str) -> Signed:
        """A new port, not bound yet. Raises TokenRefused, Unheard, Untrusted, Transient, and Failure of the request."""
        doing = f"asking {self.name} for a port"
        response = await self._get(io, doing, "getSignature", token=token)
        if response.status == UNAUTHORIZED:
            hint = (
                "the login may have ended, the request may not have gone through this tunnel, or this is another server "
                "than its name says; vpnpf login pia tries the login anew"
            )
            raise TokenRefused(doing, f"it takes no login by a new token: {said(response, token)}", hint, _RETRY)
        if not is_good(response):
            raise unexpected(doing, response, token)
        fields = fields_of(response)
        found = signed(fields.get("payload"), fields.get("signature"), io.wall())
        if found is None:
            raise Transient(doing, "there is no port in what it signed", "it is tried again")
        return found

    async def bind(self, io: AccountIO, what: Signed) -> None:
        """Have packets to the port sent here, for a quarter of an hour. Raises NotBound, Unheard, Untrusted, Transient, Failure."""
        doing = f"binding port {what.port} at {self.name}"
        response = await self._get(io, doing, "bindPort", payload=what.payload, signature=what.signature)
        if is_good(response):
            return
        message = message_of(response)
        if response.status == _CONFLICT or "busy" in message:
            hint = "somebody else has it at this server: another port, or another server, will do"
            raise NotBound(doing, "the port is busy there", hint)
        if "expired" in message:
            raise NotBound(doing, "its signature has ended", "a new one is fetched")
        if response.status == UNAUTHORIZED or "bad signature" in message:
            cause = f"its signature is not taken: {said(response, what.payload, what.signature)}"
            raise NotBound(doing, cause, "a new one is fetched")
        told = unexpected(doing, response, what.payload, what.signature)
        if response.status not in _PASSING and response.status < _TROUBLE:
            raise NotTaken(told.doing, told.cause, told.hint)
        raise told

    async def _get(self, io: AccountIO, doing: str, what: str, **query: str) -> HttpResponse:
        pairs = "&".join(f"{key}={quote(value, safe='')}" for key, value in query.items())
        url = f"https://{self.name}:{PORT}/{what}?{pairs}"
        try:
            return await io.http.request("GET", url, connect_to=self.address, ca=self.authority)
        except Untrusted as error:
            raise distrusted(doing, error) from None
        except Offline:
            raise
        except (Refused, NoAnswer) as failure:
            raise Unheard(failure) from None
