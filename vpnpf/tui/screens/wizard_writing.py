"""What was agreed to, done: the configuration is written, all of it or nothing, and the account is logged in to."""

from __future__ import annotations

import asyncio

from vpnpf.printable import printable
from vpnpf.setup import account, placing
from vpnpf.setup.placing import Written
from vpnpf.setup.service import give_to_service
from vpnpf.tui.screens.wizard_course import Course


async def write(course: Course) -> tuple[Written, list[str]]:
    """What was written, and what did not work and can be done later. Raises VpnpfError; then everything is as before."""
    found, answers = course.found, course.answers
    written = await asyncio.to_thread(placing.write, found, answers)
    notes = [await give_to_service(found.directory)]
    if account.wanted(answers):
        trial = await account.log_in(found, answers)
        if not trial.good:
            notes.append(f"{trial.said}. The profile is written; {trial.hint}")
    return written, [printable(note) for note in notes if note]
