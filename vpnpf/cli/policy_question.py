"""The question before more of this machine can be reached from the internet."""

from __future__ import annotations

from collections.abc import Sequence

import click
import msgspec
from msgspec import Struct

from vpnpf.control.client import Connection
from vpnpf.errors import VpnpfError
from vpnpf.model import PortPolicy
from vpnpf.printable import printable
from vpnpf.settings import ProfileSettings


def agreed(settings: ProfileSettings | None, old: PortPolicy, new: PortPolicy, *, yes: bool) -> bool:
    """Say what the internet would reach with `new`, and ask where that is dangerous; `yes`: the answer was given before.

    `settings` is None where the configuration cannot be read. Raises UsageError if nobody is there to be asked.
    """
    # Only where something may be asked: it looks at every socket of the machine.
    from vpnpf.cli import exposure  # noqa: PLC0415

    return exposure.agreed(exposure.before(settings, old, new), yes=yes)


class _Found(Struct, frozen=True):
    severity: str
    title: str
    why: str = ""
    advice: str = ""


class _Planned(Struct, frozen=True):
    consequence: str = ""
    findings: tuple[_Found, ...] = ()


def warn(profile: str, change: str, words: Sequence[str]) -> None:
    """Say on standard error what the internet would reach after a change: the run looks, and nothing is changed.

    Where it does not tell, that is said in place of it.
    """
    try:
        told = msgspec.convert(Connection(profile).post("/v1/policy/plan", {change: list(words)}), _Planned)
    except (VpnpfError, msgspec.ValidationError) as error:
        click.echo(printable(f"what the internet would reach is not known: {error}"), err=True)
        return
    lines = [told.consequence] if told.consequence else []
    for each in told.findings:
        lines += [f"{each.severity}: {each.title}", f"  why: {each.why}", f"  do: {each.advice}"]
    for line in lines:
        click.echo(printable(line), err=True)
