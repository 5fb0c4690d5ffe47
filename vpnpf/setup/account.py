"""The account at the provider, logged in to as `vpnpf login` does: tried once, and kept where vpnpf looks for it only if it is right."""

from __future__ import annotations

import asyncio
import contextlib

from vpnpf.errors import Transient, VpnpfError
from vpnpf.logins.provider import ProviderSubject
from vpnpf.owner import acting
from vpnpf.printable import printable
from vpnpf.setup.answers import Answers
from vpnpf.setup.found import Found
from vpnpf.setup.trying import Trial

_TRYING = 60.0
"""Seconds that a login may take as a whole."""


def wanted(answers: Answers) -> bool:
    """Whether a login was answered."""
    return bool(answers.provider and answers.account_user and answers.account_secret)


async def log_in(found: Found, answers: Answers) -> Trial:
    """Log in, and keep it. Never raises a failure of it: what went wrong is said, with the command for later."""
    provider = answers.provider or ""
    subject = ProviderSubject(found.provider(provider), ())
    place = subject.place("keyring" if found.keyring else "file")
    secret = f"{answers.account_user}\n{answers.account_secret}"
    later = f"vpnpf login {provider}{'' if found.keyring else ' --store file'}"
    try:
        await _tried(subject, secret)
        # What lies in the state directory belongs to whom that does; the keyring is ours.
        with contextlib.nullcontext() if found.keyring else acting():
            await place.put(secret)
        with acting():
            await subject.keep()
    except VpnpfError as error:
        refused = False if not isinstance(error, Transient) else None
        return Trial(refused, printable(str(error)), f"later: {later}")
    return Trial(True, f"{subject.title}: logged in; kept in {place.said}")


async def _tried(subject: ProviderSubject, secret: str) -> None:
    try:
        async with asyncio.timeout(_TRYING):
            await subject.log_in(secret)
    except TimeoutError:
        raise Transient(f"logging in to {subject.title}", f"not done after {_TRYING:g} s") from None
