"""The question before more of this machine can be reached from the internet."""

from __future__ import annotations

from vpnpf.model import PortPolicy
from vpnpf.settings import ProfileSettings


def agreed(settings: ProfileSettings | None, old: PortPolicy, new: PortPolicy, *, yes: bool) -> bool:
    """Say what the internet would reach with `new`, and ask where that is dangerous; `yes`: the answer was given before.

    `settings` is None where the configuration cannot be read. Raises UsageError if nobody is there to be asked.
    """
    # Only where something may be asked: it looks at every socket of the machine.
    from vpnpf.cli import exposure  # noqa: PLC0415

    return exposure.agreed(exposure.before(settings, old, new), yes=yes)
