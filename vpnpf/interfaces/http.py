"""HTTP, as plug-ins see it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct, field

from vpnpf.hidden import without

ANSWER_LIMIT = 64 * 1024
"""Bytes of one answer, headers included, if nothing else is asked for."""


class HttpResponse(Struct, frozen=True):
    """A whole answer, at most 64 KiB of it."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; of a repeated header the last."""
    body: bytes
    cookies: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        return without(self, "headers", "body", "cookies")


class Http(Protocol):
    """HTTP/1.1 with a body cap and a total deadline; no redirects, no proxies, no cookie jar."""

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
        """Make one request, with a form or `content` as it stands; an HTTP error status is an answer, not an exception.

        `connect_to` is the IP address to connect to in place of the URL's host, whose name the certificate has to
        have all the same. `ca` is PEM: certificates that are trusted, and no others are. `limit` is in bytes of the whole
        answer, headers included.

        Raises Refused, NoAnswer, Transient, or Misconfigured for a URL that cannot be asked, Untrusted for a
        certificate that is not trusted.
        """
        ...
