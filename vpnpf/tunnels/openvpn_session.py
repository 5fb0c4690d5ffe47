"""The conversation with a running openvpn: it is let go, given its password, and listened to.

What its server is worth is told by when something arrived last, looked at each second: servers ping, and say how often
when they push. One ping may be lost, so two that are missing mean silence.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable

from msgspec import Struct

from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer, Transient, VpnpfError
from vpnpf.interfaces import Clock
from vpnpf.model import Endpoint, Stirring, TunnelHealth
from vpnpf.protocol import openvpn_management as said
from vpnpf.protocol.openvpn_push import Pushed
from vpnpf.tunnels.openvpn_process import Connection, OpenVpn

LOOK = 1
"""Seconds between two counts of bytes."""
_ANSWER = 5.0
"""Seconds that openvpn has to answer a command."""
_LONGEST_HOLD = 10
"""Seconds between two tries to connect; the server's address is the same each time."""
_FRESH = 5.0
"""Seconds for which an error may be why openvpn ends."""
_LOUD = frozenset("FN")
"""Flags of a line of the log that says what is wrong (management-notes.txt)."""

_WORDS = {
    "server_poll": "no answer",
    "connection-reset": "the connection was closed at once",
    "tls-error": "the TLS handshake failed",
    "ping-restart": "the server fell silent",
    "SIGUSR1": "asked to",
    "init_instance": "no connection",
}
"""What OpenVPN's short reasons mean."""


class Login(Struct, frozen=True):
    """User name and password; neither is shown by `repr`."""

    username: str
    password: str

    def __repr__(self) -> str:
        # The user name may be one half of a token.
        return "Login(...)"


class Session:
    """One run of openvpn, from its first word to its end."""

    def __init__(
        self,
        program: OpenVpn,
        connection: Connection,
        endpoint: Endpoint,
        login: Callable[[], Awaitable[Login]],
        clock: Clock,
    ) -> None:
        self._program = program
        self._reader, self._writer = connection
        self._endpoint = endpoint
        self._login = login
        self._clock = clock
        self._management = said.Management()
        self._changed = asyncio.Event()
        self._answers: list[asyncio.Future[said.Reply]] = []
        """Of those who wait for the counters."""
        self._stage = said.Stage.CONNECTING
        self._connections = 0
        """How often the server was reached."""
        self._tries = 0
        """How often a connection was lost or could not be made."""
        self._detail = ""
        self._pushed: Pushed | None = None
        self._complaint = ""
        """What went wrong last since the server was there."""
        self._complained = -math.inf
        self._failure: VpnpfError | None = None
        """Why it will not go on."""
        self._heard = clock.now()
        self._received = 0
        self._hurry = False
        """Whether it shall connect anew at once."""
        self._holding = False
        """Whether it waits to be let go."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._listening = asyncio.create_task(self._listen())
        for command in (said.state_on(), said.log_on(), said.bytecount(LOOK)):
            self._send(command)

    # -- asked from outside ------------------------------------------------------------------------

    @property
    def is_connected(self) -> bool:
        """Whether the server is there, as far as openvpn knows."""
        return self._stage is said.Stage.CONNECTED and not self.is_over

    @property
    def is_over(self) -> bool:
        """Whether openvpn has ended, is about to, or cannot be spoken to."""
        return self._failure is not None or self._listening.done() or self._program.ended

    async def connected(self, patience: float) -> Pushed:
        """Wait for the first connection. Raises Failure; within `patience` seconds it is NoAnswer."""
        return await self._reach(1, self._tries, patience)

    async def connect_anew(self, patience: float) -> Pushed:
        """Let it shake hands anew. Raises as `connected`; openvpn goes on trying then."""
        wanted, self._hurry = self._connections + 1, True
        try:
            if self._holding:
                self._changed.set()
            elif self._stage is not said.Stage.TCP_CONNECT:
                # In the middle of that a signal would take the whole configuration down with it.
                self._send(said.signal("SIGUSR1"))
            return await self._reach(wanted, None, patience)
        finally:
            self._hurry = False

    async def health(self) -> TunnelHealth:
        """One look. Raises LeaseLost if it has ended, Transient if it does not answer."""
        if self.is_over:
            raise LeaseLost(self._doing, await self._end())
        received, sent = await self._counters()
        self._count(received)
        if not self.is_connected:
            return TunnelHealth(None, received, sent)
        # Of a server that does not ping nothing is known while nobody sends.
        pings = bool(self._pushed and self._pushed.ping)
        return TunnelHealth(self._age, received, sent, self._age if self.is_silent else 0.0, pings)

    async def trouble(self) -> Stirring:
        """Wait until openvpn ends, connects anew or hears nothing of the server."""
        connections = self._connections
        while True:
            if self.is_over:
                return Stirring(await self._end())
            if not self.is_connected or self._connections != connections:
                because = _WORDS.get(self._detail, self._detail) or self._complaint or "the connection was lost"
                return Stirring(f"openvpn connects anew: {because}", max(self._age, 0.001))
            if self.is_silent:
                return Stirring(f"the server has not pinged for {self._age:.0f} s", self._age)
            await self._change(LOOK)

    @property
    def is_silent(self) -> bool:
        """Whether more than two of the server's pings are missing."""
        ping = self._pushed.ping if self._pushed else None
        return bool(ping) and self._age > 2 * (ping or 0) + 1

    async def close(self) -> None:
        """End openvpn, and everything here."""
        await self._program.stop()
        for task in (self._listening, *self._tasks):
            task.cancel()
        await asyncio.gather(self._listening, *self._tasks, return_exceptions=True)
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()

    @property
    def _age(self) -> float:
        """Seconds since something arrived."""
        return self._clock.now() - self._heard

    # -- waiting -------------------------------------------------------------------------------------

    @property
    def _doing(self) -> str:
        return f"looking at openvpn to {self._endpoint}"

    async def _reach(self, connections: int, tries: int | None, patience: float) -> Pushed:
        """Wait until the server was reached so often; `tries`: give up at the next that fails."""
        doing = f"connecting to {self._endpoint}"
        until = self._clock.now() + patience
        while self._connections < connections or not self.is_connected:
            if self._failure is not None:
                raise self._failure
            if self.is_over:
                raise Transient(doing, await self._end())
            if tries is not None and self._tries > tries:
                what = _WORDS.get(self._detail, self._detail)
                raise Transient(doing, self._complaint or what, "is the server up, and this machine online?")
            left = until - self._clock.now()
            if left <= 0:
                because = f"; openvpn says: {self._complaint}" if self._complaint else ""
                raise NoAnswer(
                    doing,
                    f"no answer in {patience:g} s{because}",
                    "is this machine online, is its clock right, and is the file still valid at the provider?",
                )
            await self._change(left)
        if self._pushed is None:
            raise Transient(doing, "the server pushed nothing that can be read", "choose another server")
        return self._pushed

    async def _change(self, seconds: float) -> None:
        """Wait for the next message, so long at most."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    async def _end(self) -> str:
        if self._failure is not None:
            return f"{self._failure.doing}: {self._failure.cause}"
        fresh = self._complaint if self._clock.now() - self._complained < _FRESH else ""
        return f"openvpn ended: {fresh or await self._program.why()}"

    async def _counters(self) -> tuple[int, int]:
        """Bytes received and sent since openvpn runs."""
        answer: asyncio.Future[said.Reply] = asyncio.get_running_loop().create_future()
        self._answers.append(answer)
        self._send(said.load_stats())
        try:
            async with asyncio.timeout(_ANSWER):
                counts = said.counts(await answer)
        except EOFError:
            raise LeaseLost(self._doing, await self._end()) from None
        except TimeoutError:
            raise Transient(self._doing, f"it does not answer within {_ANSWER:g} s") from None
        if counts is None:
            raise Transient(self._doing, "its counters cannot be read")
        return counts

    # -- what it says ----------------------------------------------------------------------------------

    def _send(self, command: said.Command) -> None:
        if not self._writer.is_closing():
            self._writer.write(self._management.send(command))

    async def _listen(self) -> None:
        try:
            with contextlib.suppress(OSError):
                while data := await self._reader.read(65536):
                    for message in self._management.receive(data):
                        self._take(message)
                    self._changed.set()
        finally:
            for answer in self._answers:
                if not answer.done():
                    answer.set_exception(EOFError())
            self._changed.set()

    def _take(self, message: said.Message) -> None:  # noqa: C901 - one flat table of messages
        match message:
            case said.Hold(seconds=seconds):
                self._later(self._release(0 if self._hurry else min(seconds, _LONGEST_HOLD)))
            case said.NeedPassword(kind="Auth", username=True, challenge=""):
                self._later(self._give_login())
            case said.NeedPassword(kind=kind):
                what = "asks for more than a user name and a password" if kind == "Auth" else "has an encrypted key"
                self._give_up(f"the tunnel {what}", "get a file from your provider that needs no answers of a person")
            case said.StateChange(stage=stage, detail=detail):
                self._state(stage, detail)
            case said.PushReply(pushed=pushed):
                self._pushed = pushed
            case said.VerificationFailed(reason=reason) | said.AuthFailed(reason=reason):
                self._refused(reason)
            case said.ByteCount(received=received):
                self._count(received)
            case said.Fatal(text=text):
                self._complain(text)
            case said.Log(flags=flags, text=text) if _LOUD & set(flags):
                self._complain(text)
            case said.Reply(command="load-stats"):
                if self._answers and not (answer := self._answers.pop(0)).done():
                    answer.set_result(message)
            case _:
                pass

    def _state(self, stage: said.Stage, detail: str) -> None:
        if stage is said.Stage.CONNECTED:
            self._connections += 1
            self._heard, self._complaint = self._clock.now(), ""
        elif stage in {said.Stage.RECONNECTING, said.Stage.EXITING}:
            self._tries += 1
            self._detail = detail
        self._stage = stage

    def _complain(self, text: str) -> None:
        """Keep the first of several in a row: what comes after it follows from it."""
        if not self._complaint or self._clock.now() - self._complained > _FRESH:
            self._complaint, self._complained = text, self._clock.now()

    def _count(self, received: int) -> None:
        if received != self._received:
            self._received, self._heard = received, self._clock.now()

    def _refused(self, reason: str) -> None:
        if self._failure is None or reason:
            because = f"the server refused the user name or the password{f': {reason}' if reason else ''}"
            self._give_up(
                because, "OpenVPN's user name and password are often others than the account's: see the provider's site"
            )

    def _give_up(self, cause: str, hint: str) -> None:
        self._failure = Misconfigured(f"logging in at {self._endpoint}", cause, hint)

    def _later(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _release(self, seconds: float) -> None:
        self._holding = True
        until = self._clock.now() + seconds
        while not self._hurry and (left := until - self._clock.now()) > 0:
            await self._change(left)
        self._holding = False
        self._send(said.hold_release())

    async def _give_login(self) -> None:
        try:
            login = await self._login()
            commands = said.username("Auth", login.username), said.password("Auth", login.password)
        except VpnpfError as error:
            self._failure = error
        except ValueError as error:
            self._give_up(str(error), "set tunnel.username and tunnel.password")
        else:
            for command in commands:
                self._send(command)
        self._changed.set()
