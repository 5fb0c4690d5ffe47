"""What is said over the control socket: a JSON object on a line each way. Pure.

{"version": 1, "verb": "policy", "arguments": {}}
{"version": 1, "ok": true, "result": {...}}
{"version": 1, "ok": false, "error": {"doing": "...", "cause": "...", "hint": "...", "exit": 64}}
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, field

from vpnpf.errors import (
    EX_NOPERM,
    EX_SOFTWARE,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    EX_USAGE,
    PermissionDenied,
    Transient,
    Unavailable,
    UsageError,
    VpnpfError,
)

VERSION = 1
LARGEST = 4 * 1024 * 1024
"""Bytes of a message: a policy of 10,000 entries with sources has about two million."""

Json = dict[str, Any]


class Request(Struct, frozen=True):
    """A question."""

    version: int
    verb: str
    arguments: Json = field(default_factory=dict)


class Error(Struct, frozen=True):
    """Why there is no result."""

    doing: str
    cause: str
    hint: str = ""
    exit: int = EX_SOFTWARE


class Answer(Struct, frozen=True, omit_defaults=True):
    """The answer to a question."""

    version: int
    ok: bool
    result: Json | None = None
    error: Error | None = None


def request(verb: str, arguments: Mapping[str, object]) -> bytes:
    """A question as it is sent."""
    return _line({"version": VERSION, "verb": verb, "arguments": dict(arguments)})


def result(value: Mapping[str, object]) -> bytes:
    """A good answer as it is sent."""
    return _line({"version": VERSION, "ok": True, "result": dict(value)})


def refusal(error: VpnpfError) -> bytes:
    """An answer that says why not."""
    said = {"doing": error.doing, "cause": error.cause, "hint": error.hint, "exit": error.exit_code}
    return _line({"version": VERSION, "ok": False, "error": said})


def parse_request(line: bytes) -> Request:
    """A question that came. Raises UsageError for what is none, or is of another version."""
    doing = "reading a request"
    try:
        found = msgspec.json.decode(line, type=Request)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:  # also bytes that are not UTF-8
        raise UsageError(doing, f"it is not one: {error}", "use the vpnpf of the same version") from error
    if found.version != VERSION:
        cause = f"it is of version {found.version}, this vpnpf speaks {VERSION}"
        raise UsageError(doing, cause, "use the vpnpf that runs, or restart it")
    return found


def parse_answer(line: bytes) -> Json:
    """The result in an answer. Raises the error that it says, and Unavailable for what is no answer."""
    doing = "asking vpnpf"
    try:
        found = msgspec.json.decode(line, type=Answer)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        hint = "is another version of vpnpf running? restart it"
        raise Unavailable(doing, f"its answer cannot be read: {error}", hint) from error
    if found.error is not None:
        said = found.error
        raise _KINDS.get(said.exit, VpnpfError)(said.doing, said.cause, said.hint)
    if not found.ok or found.result is None:
        raise Unavailable(doing, "its answer says nothing", "is another version of vpnpf running? restart it")
    return found.result


_KINDS: dict[int, type[VpnpfError]] = {
    EX_USAGE: UsageError,
    EX_UNAVAILABLE: Unavailable,
    EX_TEMPFAIL: Transient,
    EX_NOPERM: PermissionDenied,
}
"""By exit status, so that the asker ends as it would have without the socket in between."""


def _line(value: Mapping[str, object]) -> bytes:
    return msgspec.json.encode(value) + b"\n"
