"""The text of a report: gathered, then redacted as a whole."""

from __future__ import annotations

import contextlib
import os
import platform
import pwd
import socket
from collections.abc import Iterable, Iterator, Sequence

from msgspec import Struct

from vpnpf import __version__
from vpnpf.core.redaction import HOST, SECRET, USER, redacted
from vpnpf.describing import describe
from vpnpf.errors import VpnpfError
from vpnpf.firewall.ruleset import FAMILY_TABLE
from vpnpf.io.process import run
from vpnpf.printable import printable
from vpnpf.secret_places import account_file
from vpnpf.secrets import Source, reader
from vpnpf.settings import ProfileSettings

_EVERYBODYS = {"root", "localhost", "nobody"}
_NOBODYS = {"", "/", "/root", "/nonexistent"}
"""Home directories that name nobody."""
_HOME = "<home>"
_CANNOT_ASK = {"keyring"}
"""Places of secrets that may ask a person, so that they are not read only to be hidden."""


class Told(Struct, frozen=True):
    """Where profiles stand, a line each."""

    state: Sequence[str] = ()
    timeline: Sequence[str] = ()


async def gather(
    profiles: Sequence[ProfileSettings], wrong: Sequence[str], told: Told, others: Iterable[ProfileSettings] = ()
) -> str:
    """The report, ready to be shown. `wrong`: what is the matter with the configuration; `others`: whose secrets are hidden, too.

    Does not fail for what cannot be known: it says why. It takes long: call it in a thread with a loop of its own.
    """
    sections = [
        ("versions", await _versions()),
        ("settings", [*(line for each in profiles for line in [*describe(each), *_options(each)]), *wrong]),
        ("state", told.state),
        ("timeline", told.timeline),
        ("rules", await _rules()),
    ]
    text = "".join(f"== {title}\n{_body(lines)}\n" for title, lines in sections)
    return redacted(text, known([*profiles, *others]))


def known(profiles: Iterable[ProfileSettings]) -> dict[str, str]:
    """What is hidden though its form does not tell it: names of this machine and its person, and passwords."""
    names: dict[str, str] = {}
    host = socket.gethostname()
    for name in (host, host.partition(".")[0]):
        names[name] = HOST
    for number in {os.getuid(), *_sudo()}:
        with contextlib.suppress(KeyError):
            person = pwd.getpwuid(number)
            names[person.pw_name] = USER
            if person.pw_dir not in _NOBODYS:
                names[person.pw_dir] = _HOME
    for profile in profiles:
        accounts = [(client.username, client.password) for client in profile.clients.values()]
        for user, secret in (*accounts, (profile.tunnel.username, profile.tunnel.password)):
            names[user] = USER
            names[_secret(secret)] = SECRET
        stored = Source("file", str(account_file(profile.spec.provider)))
        for source in (profile.account, stored):
            user, _, password = _secret(source).partition("\n")
            names |= {user: USER, password: SECRET}
    return {name: label for name, label in names.items() if name and name not in _EVERYBODYS}


def _sudo() -> Iterator[int]:
    """Who called sudo."""
    given = os.environ.get("SUDO_UID", "")
    if given.isascii() and given.isdigit():
        yield int(given)


def _secret(source: Source | None) -> str:
    if source is None or source.kind in _CANNOT_ASK:
        return ""
    try:
        return reader(source)()
    except VpnpfError:
        return ""


def _options(settings: ProfileSettings) -> list[str]:
    """The provider's options by name only: a value may be a password or an account."""
    lines = [f"  options set: {', '.join(map(str, settings.options))}"] if settings.options else []
    return [*lines, "  exit check: on"] if settings.exit_check else lines


async def _versions() -> list[str]:
    release = ""
    with contextlib.suppress(OSError):
        release = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    return [
        f"vpnpf {__version__}",
        f"Python {platform.python_version()}",
        f"kernel {platform.system()} {platform.release()} {platform.machine()}",
        f"distribution {printable(release) or 'unknown'}",
        f"nft: {await _said('nft', '--version')}",
        f"wg: {await _said('wg', '--version')}",
        f"run by {'root' if os.geteuid() == 0 else 'a user without privileges'}",
    ]


async def _said(*command: str) -> str:
    try:
        done = await run(command)
    except VpnpfError as error:
        return printable(error.cause)
    first = (done.stdout or done.stderr).strip().splitlines() or ["it said nothing"]
    return printable(first[0])


async def _rules() -> list[str]:
    if os.geteuid() != 0:
        return ["not listed: that takes root"]
    try:
        done = await run(("nft", "list", "table", *FAMILY_TABLE.split()))
    except VpnpfError as error:
        return [printable(str(error))]
    if done.status != 0:
        why = done.stderr.strip().splitlines() or ["it said nothing"]
        return [printable(f"none here: nft says: {why[0]}")]
    return [printable(line.expandtabs(4)) for line in done.stdout.splitlines()]


def _body(lines: Sequence[str]) -> str:
    return "".join(f"{line}\n" for line in lines or ["nothing"])
