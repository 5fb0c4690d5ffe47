"""OpenVPN's management protocol (doc/management-notes.txt of 2.6), without I/O: bytes in, messages out.

OpenVPN passes on what servers say, so no line is trusted: what cannot be read becomes `Unreadable`, texts are
stripped of control characters and cut, and nothing raises. No message and no command shows a secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections import deque
from collections.abc import Callable

from msgspec import Struct

from vpnpf.protocol.openvpn_messages import (
    AuthFailed,
    AuthToken,
    ByteCount,
    Fatal,
    Greeting,
    Hold,
    Log,
    Message,
    NeedPassword,
    Other,
    PushReply,
    Reply,
    Stage,
    StateChange,
    Unreadable,
    UpDown,
    VerificationFailed,
)
from vpnpf.protocol.openvpn_push import Pushed, merged, parse_reply, read_environment

__all__ = [
    "LONGEST_LINE",
    "LONGEST_TEXT",
    "AuthFailed",
    "AuthToken",
    "ByteCount",
    "Command",
    "Fatal",
    "Greeting",
    "Hold",
    "Log",
    "Management",
    "Message",
    "NeedPassword",
    "Other",
    "PushReply",
    "Reply",
    "Stage",
    "StateChange",
    "Unreadable",
    "UpDown",
    "VerificationFailed",
    "bytecount",
    "counts",
    "hold_release",
    "load_stats",
    "log_on",
    "password",
    "signal",
    "state_on",
    "username",
]

LONGEST_LINE = 65_536
"""Bytes of a line from OpenVPN; its own buffer holds 10,240."""
LONGEST_TEXT = 500
"""Characters of a text that is shown."""
LONGEST_WORD = 255
"""Bytes of a user name or password that OpenVPN's parser takes in one word."""
_MOST_VARIABLES = 1000
_REPLY = re.compile(r"(?:PUSH: Received control message: )'(PUSH_REPLY.*)'", re.DOTALL)
_FAILED = re.compile(r"AUTH: Received control message: AUTH_FAILED(?:,(.*))?", re.DOTALL)


# -- what OpenVPN is told ----------------------------------------------------------------------------


class Command(Struct, frozen=True):
    """A line to OpenVPN; may hold a secret, which is not shown."""

    name: str
    data: bytes

    def __repr__(self) -> str:
        """Without what follows the name."""
        return f"Command({self.name!r})"


def hold_release() -> Command:
    """Let it begin."""
    return _command("hold", "release")


def state_on() -> Command:
    """Be told of states."""
    return _command("state", "on")


def log_on() -> Command:
    """Be told of the log's lines, among them what the server pushes."""
    return _command("log", "on")


def bytecount(seconds: int) -> Command:
    """Be told of bytes so often; 0: no more."""
    return _command("bytecount", str(seconds))


def load_stats() -> Command:
    """Ask for the bytes since openvpn runs; `counts` reads the answer."""
    return _command("load-stats")


def counts(reply: Reply) -> tuple[int, int] | None:
    """Bytes received and sent, as `load_stats` was answered; None: not to be read."""
    found = re.search(r"\bbytesin=([0-9]{1,19}),bytesout=([0-9]{1,19})\b", reply.text, re.ASCII) if reply.ok else None
    return (int(found[1]), int(found[2])) if found else None


def signal(name: str) -> Command:
    """Send it SIGTERM, SIGHUP, SIGUSR1 or SIGUSR2. Raises ValueError."""
    if name not in {"SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2"}:
        raise ValueError("not a signal that OpenVPN takes")
    return _command("signal", name)


def username(kind: str, text: str) -> Command:
    """Answer NeedPassword. Raises ValueError, which does not hold the text, if OpenVPN could not take it."""
    return _command("username", _quoted(kind), _quoted(text))


def password(kind: str, secret: str) -> Command:
    """Answer NeedPassword. Raises ValueError, which does not hold the secret, if OpenVPN could not take it."""
    return _command("password", _quoted(kind), _quoted(secret))


def _command(name: str, *words: str) -> Command:
    return Command(name, (" ".join((name, *words)) + "\n").encode())


def _quoted(text: str) -> str:
    """A word for OpenVPN's parser (management-notes.txt, "Command Parsing"), which drops control characters."""
    if any(ord(character) < ord(" ") or ord(character) == 0x7F for character in text):  # noqa: PLR2004 - DEL
        raise ValueError("it holds a control character, which OpenVPN cannot take")
    try:
        length = len(text.encode())
    except UnicodeEncodeError:
        raise ValueError("it is not plain text") from None
    if length > LONGEST_WORD:
        raise ValueError(f"it is longer than {LONGEST_WORD} bytes, which OpenVPN cannot take")
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


# -- the conversation --------------------------------------------------------------------------------


class Management:
    """One connection to OpenVPN's management socket."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._skipping = False
        """Whether the rest of a line is dropped that was too long."""
        self._asked: deque[str] = deque()
        """Names of commands without an answer yet; OpenVPN answers in their order."""
        self._pushed: Pushed | None = None
        self._environment: tuple[bool, dict[str, str]] | None = None

    def send(self, command: Command) -> bytes:
        """The bytes of a command, whose answer is expected from now on."""
        self._asked.append(command.name)
        return command.data

    def receive(self, data: bytes) -> tuple[Message, ...]:
        """What these bytes say. Never raises."""
        messages: list[Message] = []
        self._buffer += data
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).removesuffix(b"\r")
            del self._buffer[: end + 1]
            if self._skipping:
                self._skipping = False
            elif len(line) > LONGEST_LINE:
                messages.append(Unreadable(f"a line of more than {LONGEST_LINE} bytes"))
            elif line:
                messages += self._line(line.decode("utf-8", "replace"))
        if len(self._buffer) > LONGEST_LINE:
            self._buffer.clear()
            if not self._skipping:
                messages.append(Unreadable(f"a line of more than {LONGEST_LINE} bytes"))
            self._skipping = True
        return tuple(messages)

    def _line(self, line: str) -> list[Message]:
        if line.startswith(">"):
            source, colon, text = line[1:].partition(":")
            read = _SOURCES.get(source)
            if not colon:
                return [Unreadable("a notification without a source")]
            if source == "LOG":
                return self._log(text)
            if source == "UPDOWN":
                return self._updown(text)
            return [_shown(source, read(text))] if read else [Other(_clean(source)[:40])]
        for word, ok in (("SUCCESS:", True), ("ERROR:", False)):
            if line.startswith(word):
                name = self._asked.popleft() if self._asked else ""
                return [Reply(name, ok, _clean(line.removeprefix(word)))]
        return [Unreadable("neither a notification nor an answer")]

    def _log(self, text: str) -> list[Message]:
        at, flags, said = _fields(text, 3)
        if _whole(at) is None or not re.fullmatch(r"[IFNWD]*", flags):
            return [Unreadable("a line of the log without time and flags")]
        if said.startswith("MANAGEMENT: "):
            # What was said here, once more: our commands with the user name, and its notifications.
            return []
        if found := _REPLY.fullmatch(said):
            return self._reply(found[1])
        if failed := _FAILED.fullmatch(said):
            return [AuthFailed(_clean(failed[1] or ""))]
        if "PUSH_REPLY" in said[:60]:
            return [Unreadable("a PUSH_REPLY that was cut")]
        return [Log(int(at), flags, _clean(said))]

    def _reply(self, text: str) -> list[Message]:
        pushed = parse_reply(text)
        if pushed is None:
            return [Unreadable("a PUSH_REPLY without options")]
        if self._pushed is not None:
            pushed = merged(self._pushed, pushed)
        self._pushed = pushed if pushed.continues else None
        return [] if pushed.continues else [PushReply(pushed)]

    def _updown(self, text: str) -> list[Message]:
        if text in {"UP", "DOWN"}:
            self._environment = (text == "UP", {})
            return []
        kind, _, variable = text.partition(",")
        if kind != "ENV" or self._environment is None:
            return [Unreadable("variables of no change")]
        up, variables = self._environment
        if variable == "END":
            self._environment = None
            return [UpDown(up, read_environment(variables))]
        name, _, value = variable.partition("=")
        if len(variables) < _MOST_VARIABLES and len(value) <= LONGEST_TEXT:
            variables[name] = value
        return []


def _state(text: str) -> Message | None:
    at, name, detail, address, remote, port, _, _, address6 = _fields(text, 9)
    if _whole(at) is None or name not in Stage.__members__:
        return None
    return StateChange(
        int(at), Stage(name), _clean(detail), _address(address), _address(remote), _port(port), _address(address6)
    )


def _password(text: str) -> Message | None:
    if text.startswith("Auth-Token:"):
        return AuthToken()
    if need := re.fullmatch(r"Need '([^']{1,100})' (username/)?password(?: SC:[0-9]+,(.*))?", text, re.DOTALL):
        return NeedPassword(_clean(need[1]), username=need[2] is not None, challenge=_clean(need[3] or ""))
    if failed := re.fullmatch(r"Verification Failed: '(.*?)'(?: \['(.*)'\])?", text, re.DOTALL):
        return VerificationFailed(_clean(failed[1]), _clean(failed[2] or ""))
    return None


def _hold(text: str) -> Message:
    return Hold(_whole(text.rpartition(":")[2]) or 0)


def _bytecount(text: str) -> Message | None:
    received, sent = (_whole(each) for each in _fields(text, 2))
    return None if received is None or sent is None else ByteCount(received, sent)


_SOURCES: dict[str, Callable[[str], Message | None]] = {
    "INFO": lambda text: Greeting(_clean(text)),
    "HOLD": _hold,
    "STATE": _state,
    "PASSWORD": _password,
    "BYTECOUNT": _bytecount,
    "FATAL": lambda text: Fatal(_clean(text)),
    "LOG": lambda _: None,
    "UPDOWN": lambda _: None,
}


def _shown(source: str, message: Message | None) -> Message:
    return Unreadable(f"a notification of {source} in another form") if message is None else message


def _fields(text: str, count: int) -> list[str]:
    """So many fields; the last takes what is left, and what is missing is empty."""
    found = text.split(",", count - 1)
    return found + [""] * (count - len(found))


def _whole(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) else None


def _port(text: str) -> int | None:
    found = _whole(text)
    return found if found is not None and 0 < found < 65_536 else None  # noqa: PLR2004


def _address(text: str) -> str | None:
    try:
        return str(ipaddress.ip_address(text)) if "%" not in text else None
    except ValueError:
        return None


def _clean(text: str) -> str:
    """Without what could move a terminal's cursor, and not too long."""
    shown = "".join(character if character.isprintable() else "?" for character in text.strip()[: 2 * LONGEST_TEXT])
    return shown[:LONGEST_TEXT]
