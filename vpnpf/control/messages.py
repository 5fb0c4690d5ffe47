"""What is said over the control socket: JSON bodies, and errors with the status of HTTP that fits. Pure.

{"error": {"doing": "...", "cause": "...", "hint": "...", "exit": 64}}

A broken configuration has "mistakes" beside them, each with "where", "what" and "hint".
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
from msgspec import Struct

from vpnpf.control.told import unreadable
from vpnpf.errors import (
    EX_CONFIG,
    EX_NOPERM,
    EX_SOFTWARE,
    EX_TEMPFAIL,
    EX_UNAVAILABLE,
    EX_USAGE,
    ConfigError,
    Mistake,
    PermissionDenied,
    Transient,
    Unavailable,
    UsageError,
    VpnpfError,
)

API = 1
"""The version; each path begins with it."""
PREFIX = f"/v{API}"
LARGEST = 4 * 1024 * 1024
"""Bytes of a body: a policy of 10,000 entries with sources has about two million."""

Json = dict[str, Any]

_DOING = "asking vpnpf"


class NotNow(Transient):
    """It cannot be while things are as they are: 409."""


class Error(Struct, frozen=True):
    """Why there is no answer."""

    doing: str
    cause: str
    hint: str = ""
    exit: int = EX_SOFTWARE
    mistakes: tuple[Mistake, ...] = ()
    """Of a configuration."""


class _Refusal(Struct, frozen=True):
    error: Error


def encode(value: Mapping[str, object]) -> bytes:
    """A body as it is sent."""
    return msgspec.json.encode(value)


def refusal(error: VpnpfError) -> bytes:
    """A body that says why not."""
    said = {"doing": error.doing, "cause": error.cause, "hint": error.hint, "exit": error.exit_code}
    return encode({"error": {**said, "mistakes": error.mistakes} if isinstance(error, ConfigError) else said})


def status_of(error: VpnpfError) -> HTTPStatus:
    """The status that goes with an error."""
    if isinstance(error, NotNow):
        return HTTPStatus.CONFLICT
    return _STATUS.get(error.exit_code, HTTPStatus.INTERNAL_SERVER_ERROR)


def parse_request(body: bytes) -> Json:
    """What was sent along; nothing is an empty object. Raises UsageError for what is no JSON object."""
    if not body:
        return {}
    try:
        return msgspec.json.decode(body, type=Json)
    except (msgspec.DecodeError, RecursionError, ValueError) as error:  # also bytes that are not UTF-8
        cause = f"it is no JSON object: {error}"
        raise UsageError("reading a request", cause, "use the vpnpf of the same version") from error


def parse_answer(status: int, body: bytes) -> Json:
    """The object in an answer. Raises the error that it says, and Unavailable for what is no answer."""
    good = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    try:
        if good:
            return msgspec.json.decode(body, type=Json)
        said = msgspec.json.decode(body, type=_Refusal).error
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise unreadable(error) from error
    if said.mistakes:
        raise ConfigError(said.mistakes)
    # By its exit status it would be any other failure that may pass.
    kind = NotNow if status == HTTPStatus.CONFLICT else _KINDS.get(said.exit, VpnpfError)
    found = kind(said.doing, said.cause, said.hint)
    found.exit_code = said.exit
    raise found


_STATUS = {
    EX_USAGE: HTTPStatus.BAD_REQUEST,
    EX_CONFIG: HTTPStatus.UNPROCESSABLE_ENTITY,
    EX_NOPERM: HTTPStatus.FORBIDDEN,
    EX_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    EX_TEMPFAIL: HTTPStatus.SERVICE_UNAVAILABLE,
}
_KINDS: dict[int, type[VpnpfError]] = {
    EX_USAGE: UsageError,
    EX_UNAVAILABLE: Unavailable,
    EX_TEMPFAIL: Transient,
    EX_NOPERM: PermissionDenied,
}
"""By exit status, so that the asker ends as it would have without the socket in between."""
