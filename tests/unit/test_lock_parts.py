"""The lock's parts against each other: what one of them cannot do keeps no other from its part."""

import pytest

from vpnpf.errors import Transient, Unavailable
from vpnpf.firewall.lock import Lock

PARTS = ("boot", "hold", "nft")


class Part:
    """Any of the three; `fails` raises."""

    def __init__(self, name, done, fails):
        self.name, self.done, self.fails = name, done, fails

    def forget(self):
        self.done.append(self.name)
        if self.fails:
            raise Unavailable(f"removing {self.name}", "Read-only file system")

    async def clear(self):
        self.done.append(self.name)
        if self.fails:
            raise Transient(f"removing {self.name}", "not done after 10 s")

    remove = clear


@pytest.mark.parametrize("failing", [(), *((part,) for part in PARTS), PARTS])
async def test_what_cannot_be_taken_away_is_said_and_the_rest_is_taken_away(tmp_path, failing):
    lock, done = Lock(tmp_path), []
    for name in PARTS:
        setattr(lock, f"_{name}", Part(name, done, name in failing))
    if failing:
        with pytest.raises((Unavailable, Transient), match=f"removing {failing[0]}"):
            await lock.remove()
    else:
        await lock.remove()
    assert done == list(PARTS), "the packet filter goes last"
