"""Whether the web interface of a torrent client lets anybody in: one question that changes nothing.

It is asked as a stranger would, without a password, and best at an address other than loopback, since clients can make
an exception for that.
"""

from __future__ import annotations

from collections.abc import Iterable

from vpnpf.errors import Failure
from vpnpf.interfaces import Http
from vpnpf.io.http import HttpClient

DEADLINE = 3.0
"""Seconds for one question."""
_OK, _UNAUTHORIZED, _FORBIDDEN, _CONFLICT = 200, 401, 403, 409
_PATHS = {"qbittorrent": "/api/v2/app/version", "transmission": "/transmission/rpc"}
_MEANS = {
    "qbittorrent": {_OK: True, _FORBIDDEN: False},
    "transmission": {_CONFLICT: True, _UNAUTHORIZED: False},
}
"""qBittorrent's 401 means another host name, not a login; Transmission's 409, that only a session id is missing."""


async def lets_in(kind: str, urls: Iterable[str]) -> bool | None:
    """Whether a client of this type answers without a login, by the first of the URLs that says so or not.

    None: none of them gave a clear answer, or it is not known how to ask such a client. Never raises.
    """
    path = _PATHS.get(kind)
    if path is None:
        return None
    http: Http = HttpClient(deadline=DEADLINE)
    for url in urls:
        try:
            answer = await http.request("GET", f"{url.rstrip('/')}{path}")
        except Failure:
            continue
        if answer.status in _MEANS[kind]:
            return _MEANS[kind][answer.status]
    return None
