"""What OpenVPN says on its management socket (doc/management-notes.txt of 2.6), as values; see `openvpn_management`."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from vpnpf.protocol.openvpn_push import Pushed


class Stage(StrEnum):
    """The states of OpenVPN."""

    CONNECTING = "CONNECTING"
    RESOLVE = "RESOLVE"
    TCP_CONNECT = "TCP_CONNECT"
    WAIT = "WAIT"
    AUTH = "AUTH"
    AUTH_PENDING = "AUTH_PENDING"
    GET_CONFIG = "GET_CONFIG"
    ASSIGN_IP = "ASSIGN_IP"
    ADD_ROUTES = "ADD_ROUTES"
    CONNECTED = "CONNECTED"
    RECONNECTING = "RECONNECTING"
    EXITING = "EXITING"


class Greeting(Struct, frozen=True):
    """The first line, and other information."""

    text: str


class Hold(Struct, frozen=True):
    """It waits for `hold release`."""

    seconds: int = 0
    """How long it would have waited by itself."""


class StateChange(Struct, frozen=True):
    """It is in another state."""

    at: int
    """Unix time, seconds."""
    stage: Stage
    detail: str = ""
    """Why: "SUCCESS", "ping-restart", "tls-error", "auth-failure", ..."""
    address: str | None = None
    """Own address in the tunnel."""
    remote: str | None = None
    """Address of the server."""
    remote_port: int | None = None
    address6: str | None = None


class NeedPassword(Struct, frozen=True):
    """It needs a password, and perhaps a user name."""

    kind: str
    """Auth, or Private Key."""
    username: bool
    challenge: str = ""
    """What a person would have to answer; empty: nothing."""


class VerificationFailed(Struct, frozen=True):
    """A password was refused."""

    kind: str
    reason: str = ""
    """The server's words."""


class AuthFailed(Struct, frozen=True):
    """The log's line of AUTH_FAILED, with the server's words."""

    reason: str = ""


class AuthToken(Struct, frozen=True):
    """The server gave a token instead of the password; it is not kept."""


class ByteCount(Struct, frozen=True):
    """Bytes since the connection was made."""

    received: int
    sent: int


class Log(Struct, frozen=True):
    """A line of the log."""

    at: int
    flags: str
    """Of I, F, N, W, D (management-notes.txt, "log")."""
    text: str


class PushReply(Struct, frozen=True):
    """What the server pushed, complete."""

    pushed: Pushed


class UpDown(Struct, frozen=True):
    """The tunnel was set up or is being taken down (`--management-up-down`), with what OpenVPN took over."""

    up: bool
    pushed: Pushed


class Fatal(Struct, frozen=True):
    """It exits."""

    text: str


class Reply(Struct, frozen=True):
    """The answer to a command."""

    command: str
    """Its name; empty: to none of ours."""
    ok: bool
    text: str


class Other(Struct, frozen=True):
    """A notification that is not needed."""

    source: str


class Unreadable(Struct, frozen=True):
    """A line that OpenVPN does not say."""

    why: str


Message = (
    Greeting
    | Hold
    | StateChange
    | NeedPassword
    | VerificationFailed
    | AuthFailed
    | AuthToken
    | ByteCount
    | Log
    | PushReply
    | UpDown
    | Fatal
    | Reply
    | Other
    | Unreadable
)
