"""`vpnpf server`: where the tunnel of a profile goes."""

from __future__ import annotations

import json

import click
from msgspec import Struct

from vpnpf.control.client import Connection
from vpnpf.control.dialing import chosen
from vpnpf.control.messages import Json
from vpnpf.control.seen import SeenServer
from vpnpf.control.told import told
from vpnpf.errors import UsageError
from vpnpf.printable import printable

_NEXT = "next"


class _Servers(Struct, frozen=True):
    servers: tuple[SeenServer, ...]


@click.command()
@click.argument("words", nargs=-1, metavar="[PROFILE] [NUMBER|next]")
@click.option("--json", "as_json", is_flag=True, help="The list as JSON, for scripts.")
def server(words: tuple[str, ...], *, as_json: bool) -> None:
    """List the servers a profile can go to, or send it to another one.

    The tunnel and the port change; nothing leaves beside the tunnel meanwhile. `vpnpf servers` lists a provider's regions.
    """
    profile, wanted = _arguments(words)
    name = chosen(profile)
    if wanted is not None:
        Connection(name).post("/v1/server", {"number": wanted or None})
        which = f"server {wanted}" if wanted else "the next server"
        click.echo(f"{name} goes to {which}; `vpnpf watch {name}` shows how it gets on", err=True)
        return
    answer = Connection(name).get("/v1/servers")
    if as_json:
        click.echo(json.dumps(answer, ensure_ascii=False))
        return
    for line in _lines(answer):
        click.echo(printable(line))


def _arguments(words: tuple[str, ...]) -> tuple[str | None, int | None]:
    """The profile, and which server: None none, 0 the next one."""
    doing = "choosing a server"
    if len(words) > 2:  # noqa: PLR2004 - a profile and a server
        raise UsageError(doing, "there are too many words", "vpnpf server [PROFILE] [NUMBER|next]")
    if not words:
        return None, None
    if words[-1] == _NEXT:
        return (words[0] if len(words) > 1 else None), 0
    if words[-1].isdecimal() and words[-1].isascii():
        if int(words[-1]) == 0:
            raise UsageError(doing, "servers are counted from 1", "see the list: vpnpf server")
        return (words[0] if len(words) > 1 else None), int(words[-1])
    if len(words) > 1:
        raise UsageError(doing, f"{words[-1]!r} is no number", "take one from the list, or: next")
    return words[0], None


def _lines(answer: Json) -> list[str]:
    found = told(answer, _Servers, doing="listing the servers").servers
    rows = [("*" if each.current else " ", str(each.number), each.place or "", each.endpoint or "") for each in found]
    wide = [max((len(row[column]) for row in rows), default=0) for column in range(4)]
    return [f"{mark} {number:>{wide[1]}}  {place:<{wide[2]}}  {to}".rstrip() for mark, number, place, to in rows]
