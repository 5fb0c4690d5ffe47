"""`vpnpf port` and `vpnpf renew`: the number for scripts, and what can be asked for about it."""

from __future__ import annotations

from collections.abc import Iterable

import click

from vpnpf.cli.guard import show
from vpnpf.cli.options import PROFILE
from vpnpf.control.client import Connection
from vpnpf.control.dialing import chosen
from vpnpf.control.messages import Json
from vpnpf.control.seen import Seen, SeenForward, read
from vpnpf.control.told import unreadable
from vpnpf.control.waiting import until
from vpnpf.errors import EX_OK, EX_TEMPFAIL, Transient, UsageError
from vpnpf.printable import printable

_ASKING = "asking for the port"
_WITH_PORT = frozenset({"leasing", "ready"})
"""The phases in which a port that is held leads here."""

FORWARD = click.option("--forward", metavar="NAME", help="Only this forward.")


@click.command()
@PROFILE
@FORWARD
@click.option("--new", is_flag=True, help="Ask for another port, and print that.")
@click.option("--wait", type=click.FloatRange(0), metavar="SECONDS", help="Wait so long for it if there is none yet.")
@click.pass_context
def port(context: click.Context, profile: str | None, forward: str | None, *, new: bool, wait: float | None) -> None:
    """Print the port that the internet reaches you at: the number, and nothing else.

    Of several forwards each has a line, "NAME PORT"; with --forward it is the number again.

    Exit status: 0 when all that was asked for is printed, 69 when it is not running, 75 when there is no port now.
    """
    name = chosen(profile)
    if new:
        context.exit(_print(_asked(name, "/v1/new-port", forward), forward, name))
    seen = until(name, lambda newest: _complete(newest, forward), wait)[0] if wait else None
    seen = seen or read(Connection(name).get("/v1/state"))
    _known(seen, forward)
    context.exit(_print([(each.name, _port(seen, each)) for each in _of(seen, forward)], forward, name, seen))


@click.command()
@PROFILE
@FORWARD
def renew(profile: str | None, forward: str | None) -> None:
    """Have the port renewed now, and wait until the gateway confirmed it.

    What waits after a failure is tried at once, too.
    """
    for name, number in _asked(chosen(profile), "/v1/renew", forward):
        click.echo(printable(f"{name}: port {number} renewed"))


def _asked(profile: str, path: str, forward: str | None) -> list[tuple[str, int | None]]:
    answer = Connection(profile).post(path, {"forward": forward})
    return list(_pairs(answer))


def _pairs(answer: Json) -> Iterable[tuple[str, int | None]]:
    try:
        for each in answer["forwards"]:
            number = each["external_port"]
            yield str(each["name"]), None if number is None else int(number)
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable("", doing=_ASKING) from error


def _print(found: list[tuple[str, int | None]], forward: str | None, profile: str, seen: Seen | None = None) -> int:
    """Print what there is. Returns the exit status."""
    alone = forward is not None or len(found) == 1
    for name, number in found:
        if number is not None:
            click.echo(str(number) if alone else printable(f"{name} {number}"))
    without = [name for name, number in found if number is None]
    if found and not without:
        return EX_OK
    phase = f"{profile} is {seen.phase}" if seen is not None else profile
    stopped = seen is not None and seen.phase == "stopped"
    usual = (
        f"begin again with: vpnpf up {profile}"
        if stopped
        else f"see `vpnpf status {profile}`, or wait for it with --wait"
    )
    hint = (seen.phase_hint if seen is not None else "") or usual
    which = f" for {', '.join(without)}" if without and not alone else ""
    error = Transient(_ASKING, f"there is no port now{which}: {phase}", hint)
    show(error)
    return EX_TEMPFAIL


def _known(seen: Seen, forward: str | None) -> None:
    names = [each.name for each in seen.forwards]
    if forward is not None and forward not in names:
        cause = f"{seen.profile} has no forward {forward!r}"
        raise UsageError(_ASKING, cause, f"it has: {', '.join(names) or 'none'}")


def _of(seen: Seen, forward: str | None) -> list[SeenForward]:
    return [each for each in seen.forwards if forward in {None, each.name}]


def _complete(seen: Seen, forward: str | None) -> bool:
    return all(_port(seen, each) is not None for each in _of(seen, forward))


def _port(seen: Seen, forward: SeenForward) -> int | None:
    """The port, if it leads here: what is only remembered of a tunnel that is lost does not."""
    proof = forward.proofs.get("lease")
    held = seen.phase in _WITH_PORT and proof is not None and proof.ok
    return forward.external_port if held else None
