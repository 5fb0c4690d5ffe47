"""HTTP with answers from a function."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from vpnpf.errors import Failure
from vpnpf.interfaces import ANSWER_LIMIT, HttpResponse


class Asked(Struct, frozen=True):
    """An HTTP request that was made."""

    method: str
    url: str
    form: Mapping[str, str] | None
    headers: Mapping[str, str]
    content: bytes | None = None
    connect_to: str = ""
    ca: str = ""
    limit: int = ANSWER_LIMIT


HttpReply = HttpResponse | Failure


class FakeHttp:
    """HTTP with answers from a function (`interfaces.Http`): it gets the request, and returns an answer or a Failure."""

    def __init__(self, answer: Callable[[Asked], HttpReply]) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        """Every request, in order."""

    async def request(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connect_to: str = "",
        ca: str = "",
        limit: int = ANSWER_LIMIT,
    ) -> HttpResponse:
        """Ask the function. Raises the Failure that it returns; header names of its answer are put in lower case."""
        asked = Asked(method, url, form, headers or {}, content, connect_to, ca, limit)
        self.asked.append(asked)
        await asyncio.sleep(0)
        reply = self.answer(asked)
        if isinstance(reply, Failure):
            raise reply
        return replace(reply, headers={name.lower(): value for name, value in reply.headers.items()})
