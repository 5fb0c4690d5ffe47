"""Every exception vpnpf raises on purpose.

    VpnpfError                 "doing x: cause", with a hint that names the next step
    |-- UsageError             exit 64: the command line was wrong
    |-- ConfigError            exit 78: every mistake of a configuration at once
    |-- Unavailable            exit 69: a program, device, file or kernel feature is missing
    |-- PermissionDenied       exit 77: a privilege is missing
    `-- Failure                a plug-in could not do its work; the type says what to do next
        |-- Transient          back off, keep what is held
        |   |-- NoAnswer       nothing came back in time
        |   |   `-- Offline    nothing could: this machine has no way out now
        |   |-- Refused        the far side said, by ICMP or reset, that nothing listens
        |   `-- WishRefused    what was wished for is not to be had; something else may be
        |-- LeaseLost          what was held is gone: acquire again from nothing
        |-- Misconfigured      trying again cannot help; stop and show the hint
        |   `-- Untrusted      who answers has no certificate that is to be trusted
        `-- Unsupported        the far side or this machine cannot do it at all
            `-- OtherVersion   the far side speaks another version: fall back to that

Texts never contain secrets. Exit codes follow sysexits.h.
"""

from __future__ import annotations

from msgspec import Struct

EX_OK = 0
EX_USAGE = 64
EX_UNAVAILABLE = 69
EX_SOFTWARE = 70
EX_TEMPFAIL = 75
EX_NOPERM = 77
EX_CONFIG = 78
AGAIN = 60.0
"""Seconds until an account that lets nobody in is looked at again: refused credentials are not handed out, so nothing is
sent before they change."""


class VpnpfError(Exception):
    """Base of all: reads "doing: cause"; `hint`, if any, names the next step."""

    exit_code = EX_SOFTWARE

    def __init__(self, doing: str, cause: str, hint: str = "") -> None:
        super().__init__(doing, cause, hint)
        self.doing = doing
        """What was being done, as a gerund: "reading /etc/vpnpf/config.toml"."""
        self.cause = cause
        """Why it did not work, without the trailing full stop."""
        self.hint = hint
        """What the person can do next; empty if nothing is known."""

    def __str__(self) -> str:
        return f"{self.doing}: {self.cause}"


class UsageError(VpnpfError):
    """The command line was wrong."""

    exit_code = EX_USAGE


class Unavailable(VpnpfError):
    """A program, device, file or kernel feature is missing on this machine."""

    exit_code = EX_UNAVAILABLE


class PermissionDenied(VpnpfError):
    """A privilege is missing."""

    exit_code = EX_NOPERM


class Mistake(Struct, frozen=True):
    """One mistake of a configuration."""

    where: str
    """File and key or file and line: "config.toml: profiles.home.policy.mode"."""
    what: str
    """What is wrong there."""
    hint: str = ""
    """The next step, or the nearest known name; may be empty."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(VpnpfError):
    """All mistakes of a configuration in one go."""

    exit_code = EX_CONFIG

    def __init__(self, mistakes: tuple[Mistake, ...]) -> None:
        super().__init__("reading the configuration", "\n".join(map(str, mistakes)))
        self.mistakes = mistakes
        """In the order of the file; never empty."""

    def __str__(self) -> str:
        return self.cause


class Failure(VpnpfError):
    """A plug-in could not do its work; the subclass says what happens next."""

    exit_code = EX_UNAVAILABLE

    def __init__(self, doing: str, cause: str, hint: str = "", retry_after: float | None = None) -> None:
        super().__init__(doing, cause, hint)
        self.retry_after = retry_after
        """Seconds that must pass before the next try; None: the engine decides (Misconfigured: never)."""
        self.anywhere = False
        """Whether another server would be no better: it is about the account, say."""


class Transient(Failure):
    """It may work later: back off and keep what is held."""

    exit_code = EX_TEMPFAIL


class NoAnswer(Transient):
    """Nothing came back in time."""


class Offline(NoAnswer):
    """Nothing could come back: this machine itself has no way out now, so the far side is not to be blamed."""


class Refused(Transient):
    """The far side answered that nothing listens there (ICMP port unreachable, TCP reset)."""


class WishRefused(Transient):
    """What was wished for cannot be had; `retry_after` holds for the same wish, and another may go out at once."""


class LeaseLost(Failure):
    """What was held is gone: acquire again from nothing."""


class Misconfigured(Failure):
    """Trying again cannot help: stop and show the hint."""

    exit_code = EX_CONFIG


class Untrusted(Misconfigured):
    """Who answers has no certificate that is to be trusted for that name: nothing was said to it."""


class LoginRefused(Misconfigured):
    """The user name or the password is wrong. The hint is for who keeps them; who types them is told to type them again."""


class Unsupported(Failure):
    """The far side or this machine cannot do it at all."""


class OtherVersion(Unsupported):
    """The far side speaks another version of the protocol: fall back at once, or not at all."""

    def __init__(
        self, doing: str, cause: str, hint: str = "", retry_after: float | None = None, *, version: int
    ) -> None:
        super().__init__(doing, cause, hint, retry_after)
        self.version = version
        """What it speaks; 0 where PCP was asked for: NAT-PMP (RFC 6887 section 9)."""


def of_the_account(error: Failure) -> Failure:
    """The same failure, said to be no server's; what only the person can mend is looked at again now and then."""
    error.anywhere = True
    if isinstance(error, Misconfigured) and error.retry_after is None:
        error.retry_after = AGAIN
    return error
