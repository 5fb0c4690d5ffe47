"""What was agreed to, done: the configuration is written, all of it or nothing, and the account is logged in to."""

from __future__ import annotations

import asyncio

from vpnpf.errors import VpnpfError
from vpnpf.logins.provider import ProviderSubject
from vpnpf.printable import printable
from vpnpf.setup import placing
from vpnpf.setup.placing import Written
from vpnpf.setup.service import give_to_service
from vpnpf.tui.screens.wizard_course import Course

_TRYING = 60.0
"""Seconds that a login at a provider may take as a whole."""


async def write(course: Course) -> tuple[Written, list[str]]:
    """What was written, and what did not work and can be done later. Raises VpnpfError; then everything is as before."""
    written = await asyncio.to_thread(placing.write, course.found, course.answers)
    notes = [await give_to_service(course.found.directory), await _log_in(course)]
    return written, [printable(note) for note in notes if note]


async def _log_in(course: Course) -> str:
    """Log in at the provider, and keep that where vpnpf looks for it. What did not work, as a sentence."""
    found, answers = course.found, course.answers
    if not (answers.provider and answers.account_user and answers.account_secret):
        return ""
    kind = "keyring" if found.keyring else "file"
    subject = ProviderSubject(found.provider(answers.provider), ())
    secret = f"{answers.account_user}\n{answers.account_secret}"
    later = f"The profile is written. Log in later (l), or with: vpnpf login {answers.provider}"
    try:
        async with asyncio.timeout(_TRYING):
            await subject.log_in(secret)
        await subject.place(kind).put(secret)
        await subject.keep()
    except TimeoutError:
        return f"{subject.title} did not answer in {_TRYING:g} s. {later}"
    except VpnpfError as error:
        return f"{error}. {later}"
    return ""
