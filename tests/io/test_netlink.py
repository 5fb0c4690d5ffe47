"""Listening to the kernel's changes."""

import asyncio
import contextlib
import socket

from vpnpf.errors import Unavailable
from vpnpf.io.netlink import LINKS, ROUTE, Changes


async def test_closed_while_it_is_waited_for_it_leaves_nothing_in_the_loop():
    """The loop goes by numbers: who opens a file next gets this one, and would never be told of anything."""
    loop = asyncio.get_running_loop()
    changes = Changes(ROUTE, (LINKS,), lambda _told: False)
    waiting = asyncio.create_task(changes.wait())
    await asyncio.sleep(0)
    number = changes._socket.fileno()
    changes.close()
    near, far = socket.socketpair()
    with near, far:
        assert near.fileno() == number
        near.setblocking(False)
        receiving = asyncio.create_task(loop.sock_recv(near, 1))
        await asyncio.sleep(0)
        far.send(b"x")
        assert await asyncio.wait_for(receiving, 2) == b"x"
    waiting.cancel()
    with contextlib.suppress(asyncio.CancelledError, Unavailable):
        await waiting
