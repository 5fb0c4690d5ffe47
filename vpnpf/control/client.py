"""Asking a profile that runs: HTTP over its Unix socket."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, cast

from vpnpf.control.messages import LARGEST, Json, encode, parse_answer
from vpnpf.control.place import name_of, short
from vpnpf.errors import PermissionDenied, Transient, Unavailable
from vpnpf.store import runtime_directory

if TYPE_CHECKING:
    from http.client import HTTPResponse

SYSTEM = Path("/run/vpnpf")
"""Where a run as root, or of the system's service, has its socket."""
PATIENCE = 30.0
"""Seconds for an answer, and between two lines of events; the far side has less for it."""
_DOING = "asking vpnpf"
_OTHER = "is another version of vpnpf running? restart it"


class NotRunning(Unavailable):
    """The profile does not run."""


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

    def events(self, opened: Callable[[socket.socket], None] | None = None) -> Iterator[Json]:
        """The state, then what is new, until the run ends. `opened` is told the socket, for another thread to shut down."""
        with self._answer("GET", "/v1/events", None, opened) as answer:
            if answer.status != HTTPStatus.OK:
                parse_answer(answer.status, answer.read(LARGEST + 1))
            while line := answer.readline(LARGEST + 1):
                if not line.strip():
                    continue
                try:
                    found = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise Unavailable(_DOING, f"its answer cannot be read: {error}", _OTHER) from error
                if not isinstance(found, dict):
                    raise Unavailable(_DOING, "its answer cannot be read: it is no object", _OTHER)
                yield cast("Json", found)

    def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> tuple[int, bytes]:
        with self._answer(method, path, body) as answer:
            data = answer.read(LARGEST + 1)
            if len(data) > LARGEST:
                raise Unavailable(_DOING, f"its answer is longer than {LARGEST} bytes", _OTHER)
            if answer.length:  # some of it is missing
                raise Unavailable(_DOING, "it ended without an answer", "look at `vpnpf status`")
            return answer.status, data

    @contextlib.contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None,
        opened: Callable[[socket.socket], None] | None = None,
    ) -> Iterator[HTTPResponse]:
        connected = self._connected()
        if opened is not None:
            opened(connected)
        import http.client  # noqa: PLC0415 - it takes longer than all else here, and is not needed where nobody runs

        connection = http.client.HTTPConnection("vpnpf", timeout=self._patience)
        connection.sock = connected
        try:
            sent = None if body is None else encode(body)
            headers = {} if sent is None else {"Content-Type": "application/json"}
            with contextlib.suppress(BrokenPipeError):  # refused before all of it was read: the answer is there
                connection.request(method, path, sent, headers)
            yield connection.getresponse()
        except TimeoutError:
            raise self._silent() from None
        except (ConnectionResetError, http.client.IncompleteRead) as error:  # also RemoteDisconnected
            raise Unavailable(_DOING, "it ended without an answer", "look at `vpnpf status`") from error
        except http.client.HTTPException as error:
            raise Unavailable(_DOING, f"its answer cannot be read: {error!r:.100}", _OTHER) from error
        except OSError as error:
            raise self._broken(error) from error
        finally:
            connection.close()

    def _connected(self) -> socket.socket:
        barred: OSError | None = None
        for place in self._directories or tuple(dict.fromkeys((runtime_directory(), SYSTEM))):
            try:
                return self._connect(place)
            except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
                continue
            except PermissionError as error:
                barred = error
            except (TimeoutError, BlockingIOError):  # so many wait already (unix(7): EAGAIN)
                raise self._silent() from None
            except OSError as error:
                raise self._broken(error) from error
        if barred is not None:
            hint = "do it as root, or as the user that runs vpnpf"
            raise PermissionDenied(_DOING, barred.strerror or str(barred), hint)
        raise NotRunning(_DOING, f"profile {self._profile} is not running", f"start it with: vpnpf run {self._profile}")

    def _silent(self) -> Transient:
        return Transient(_DOING, f"no answer within {self._patience:g} s", "look at `vpnpf status`")

    def _broken(self, error: OSError) -> Unavailable:
        hint = f"is it ending? start it: vpnpf run {self._profile}"
        return Unavailable(_DOING, error.strerror or str(error), hint)

    def _connect(self, directory: Path) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(self._patience)
            with short(directory) as near:
                connection.connect(f"{near}/{name_of(self._profile)}")
        except BaseException:
            connection.close()
            raise
        return connection
