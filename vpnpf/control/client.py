"""Asking a profile that runs: HTTP over its Unix socket."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vpnpf.control import dialing
from vpnpf.control.dialing import NotRunning, broken, ended, silent
from vpnpf.control.messages import LARGEST, Json, encode, parse_answer
from vpnpf.control.told import unreadable
from vpnpf.far_end import credentials

if TYPE_CHECKING:
    from http.client import HTTPResponse

__all__ = ["PATIENCE", "Connection", "NotRunning"]

PATIENCE = 30.0
"""Seconds for an answer, and between two lines of events; the far side has less for it."""


class Connection:
    """To the run of a profile, by paths: `Connection("home").get("/v1/state")`. Each request connects anew.

    All raise NotRunning (exit 69) if there is none, PermissionDenied without the right to ask, Transient if it does not
    answer in time, and what the far side refuses as it says.
    """

    def __init__(self, profile: str, directories: Sequence[Path] = (), patience: float = PATIENCE) -> None:
        """`directories`: where to look for its socket; without any, where runs have theirs."""
        self._profile = profile
        self._directories = directories
        self._patience = patience
        self._live: socket.socket | None = None

    def get(self, path: str) -> Json:
        """What is there."""
        return parse_answer(*self._ask("GET", path))

    def text(self, path: str) -> str:
        """The same of what is no JSON."""
        status, body = self._ask("GET", path)
        if status != HTTPStatus.OK:
            parse_answer(status, body)
        return body.decode("utf-8", "replace")

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Json:
        """Have something done."""
        return parse_answer(*self._ask("POST", path, body or {}))

    def put(self, path: str, body: Mapping[str, object]) -> Json:
        """Put something in the place of what is there."""
        return parse_answer(*self._ask("PUT", path, body))

    def delete(self, path: str) -> Json:
        """Take away what is there."""
        return parse_answer(*self._ask("DELETE", path))

    def events(self) -> Iterator[Json]:
        """The state, then what is new, until the run ends or another thread calls `interrupt`."""
        with self._answer("GET", "/v1/events", None) as answer:
            if answer.status != HTTPStatus.OK:
                parse_answer(answer.status, answer.read(LARGEST + 1))
            while line := answer.readline(LARGEST + 1):
                if not line.strip():
                    continue
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise unreadable(error) from error
                if not isinstance(found, dict):
                    raise unreadable("it is no object")
                yield cast("Json", found)

    def interrupt(self) -> None:
        """Have the request that another thread waits for end as if the far side had ended."""
        if (live := self._live) is not None:
            with contextlib.suppress(OSError):
                live.shutdown(socket.SHUT_RDWR)

    def far_process(self) -> int:
        """The process that listens, as this machine numbers it (unix(7), SO_PEERCRED); 0 if it cannot be seen from here."""
        with dialing.dial(self._profile, self._directories or dialing.directories(), self._patience) as connected:
            return credentials(connected).process

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, bytes]:
        with self._answer(method, path, body) as answer:
            data = answer.read(LARGEST + 1)
            if len(data) > LARGEST:
                raise unreadable(f"it is longer than {LARGEST} bytes")
            if answer.length:  # some of it is missing
                raise ended()
            return answer.status, data

    @contextlib.contextmanager
    def _answer(self, method: str, path: str, body: Mapping[str, object] | None) -> Iterator[HTTPResponse]:
        connected = dialing.dial(self._profile, self._directories or dialing.directories(), self._patience)
        import http.client  # noqa: PLC0415 - it takes longer than all else here, and is not needed where nobody runs

        connection = http.client.HTTPConnection("vpnpf", timeout=self._patience)
        connection.sock = self._live = connected
        try:
            sent = None if body is None else encode(body)
            headers = {} if sent is None else {"Content-Type": "application/json"}
            with contextlib.suppress(BrokenPipeError):  # refused before all of it was read: the answer is there
                connection.request(method, path, sent, headers)
            yield connection.getresponse()
        except TimeoutError:
            raise silent(self._patience) from None
        except (ConnectionResetError, http.client.IncompleteRead) as error:  # also RemoteDisconnected
            raise ended() from error
        except http.client.HTTPException as error:
            raise unreadable(f"{error!r:.100}") from error
        except OSError as error:
            raise broken(self._profile, error) from error
        finally:
            self._live = None
            connection.close()
