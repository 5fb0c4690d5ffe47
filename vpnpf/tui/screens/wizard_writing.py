"""What was agreed to, done: the configuration is written, all of it or nothing, and the account is logged in to."""

from __future__ import annotations

import asyncio

from vpnpf.setup import placing
from vpnpf.setup.placing import Written
from vpnpf.setup.service import give_to_service
from vpnpf.tui.screens.wizard_course import Course


async def write(course: Course) -> tuple[Written, list[str]]:
    """What was written, and what did not work and can be done later. Raises VpnpfError; then everything is as before."""
    written = await asyncio.to_thread(placing.write, course.found, course.answers)
    notes = []
    if said := await give_to_service(course.found.directory):
        notes.append(said)
    return written, notes
