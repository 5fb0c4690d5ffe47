"""An account at the provider: who may log in, the tokens that were given out, and everybody who tried.

account = PiaAccount()
account.fail_next(too_many(2)), account.trouble = ENDED, ...
account.attempts                      # every login, the oldest first
account.end_tokens()                  # nobody is logged in any more

A token is 128 hexadecimal digits, so that it can be split into user name and password for OpenVPN.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from mock_provider.https import Answer

USERNAME, PASSWORD = "p1234567", "hunter2 & Söhne=+%"
"""With what has to be encoded in a form."""
DAY = 86400.0

DENIED = Answer(401, "HTTP Token: Access denied.\n")
ENDED = Answer(402, {"status": "error", "code": "subscription_expired", "message": "Your subscription has expired."})


def too_many(retry_after: int | None = None) -> Answer:
    """Too many attempts; with or without the seconds to wait."""
    body = {"status": "error", "code": "too_many_attempts", "message": "Try again later."}
    return Answer(429, body, {} if retry_after is None else {"Retry-After": str(retry_after)})


@dataclass(frozen=True, slots=True)
class Attempt:
    """Somebody who tried to log in."""

    where: str
    """The service that he asked: host and path, or "openvpn"."""
    username: str
    status: int
    """As answered."""
    at: float = field(default_factory=time.monotonic)
    """On time.monotonic()."""


class PiaAccount:
    """One account."""

    def __init__(self, *, username: str = USERNAME, password: str = PASSWORD, token_lifetime: float = DAY) -> None:
        self.username = username
        self.password = password
        self.token_lifetime = token_lifetime
        """Seconds that a token given out from now on is good for."""
        self.tokens: dict[str, float] = {}
        """Tokens and when they end, on time.monotonic()."""
        self.attempts: list[Attempt] = []
        self.trouble: Answer | None = None
        """What every login is answered; None: what it deserves."""
        self._next: list[Answer] = []
        self.changed: list[Callable[[], None]] = []
        """Called after each change of the tokens or the password."""

    def fail_next(self, *answers: Answer) -> None:
        """Answer the next logins with these, one each."""
        self._next += answers

    def login(self, where: str, username: str, password: str, *, legacy: bool = False) -> Answer:
        """One attempt. The older services say what went wrong with a status of 200."""
        answer = self._next.pop(0) if self._next else self.trouble
        if answer is None and (username, password) == (self.username, self.password):
            token = self.grant()
            answer = Answer(200, {"status": "OK", "token": token} if legacy else {"token": token})
        elif answer is None:
            answer = Answer(200, {"status": "ERROR", "message": "authentication failed"}) if legacy else DENIED
        refused = legacy and answer.status == 200 and "token" not in str(answer.body)
        self.attempts.append(Attempt(where, username, 401 if refused else answer.status))
        return answer

    def grant(self) -> str:
        """A new token."""
        token = secrets.token_hex(64)
        self.tokens[token] = time.monotonic() + self.token_lifetime
        self._tell()
        return token

    def valid(self, token: str) -> bool:
        """Whether somebody is logged in with this token."""
        return self.tokens.get(token, 0.0) > time.monotonic()

    def end(self, token: str) -> Answer:
        """Log one out."""
        if not self.valid(token):
            return DENIED
        del self.tokens[token]
        self._tell()
        return Answer(200, {"status": "success"})

    def end_tokens(self) -> None:
        """Log everybody out, and say nothing."""
        self.tokens.clear()
        self._tell()

    def change_password(self, password: str) -> None:
        """From now on it is this."""
        self.password = password
        self._tell()

    def _tell(self) -> None:
        for each in self.changed:
            each()
