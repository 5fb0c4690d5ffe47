"""One question without the library for HTTP: that takes longer to load than all else `vpnpf status` does.

Only a GET, only over the control socket, and only an answer as our own far side gives it: with its length.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from vpnpf.control.dialing import dial, ended, silent
from vpnpf.control.told import unreadable

LONGEST = 4 * 1024 * 1024 + 65536
"""Bytes of an answer with its headers."""
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9}) *\r\n", re.IGNORECASE)
_GOOD = 200


def ask(profile: str, path: str, places: Sequence[Path], patience: float) -> dict[str, object]:
    """The object that is at `path`, within `patience` seconds. Raises what `client.Connection.get` raises."""
    ends = time.monotonic() + patience
    data = bytearray()
    with dial(profile, places, patience) as connected:
        try:
            connected.sendall(f"GET {path} HTTP/1.1\r\nhost: vpnpf\r\nconnection: close\r\n\r\n".encode("ascii"))
            while len(data) <= LONGEST:
                connected.settimeout(max(0.001, ends - time.monotonic()))
                if not (more := connected.recv(65536)):
                    break
                data += more
        except TimeoutError:
            raise silent(patience) from None
        except OSError as error:
            raise ended() from error
    return _answer(bytes(data))


def _answer(data: bytes) -> dict[str, object]:
    head, _, body = data.partition(b"\r\n\r\n")
    if not data:
        raise ended()
    status, length = _STATUS.match(head), _LENGTH.search(head + b"\r\n")
    if status is None or length is None:
        raise unreadable("it is no answer of HTTP with a length")
    if len(body) < int(length[1]):
        raise ended()
    if int(status[1]) != _GOOD:
        from vpnpf.control.messages import parse_answer  # noqa: PLC0415 - only for what is refused

        return parse_answer(int(status[1]), body)
    try:
        return msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, RecursionError, ValueError) as error:
        raise unreadable(error) from error
