"""Listening to the kernel's changes."""

import asyncio
import contextlib
import errno
import gc
import socket

import pytest

from vpnpf.errors import Unavailable
from vpnpf.firewall.stir import Stirred
from vpnpf.io import netlink
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


async def test_without_netlink_it_says_so_once_and_in_words(monkeypatch):
    """A sandbox that knows no AF_NETLINK refuses the socket itself, and of both at once."""
    complaints = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context["message"]))

    def refuse(*_arguments):
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(netlink.socket, "socket", refuse)
    with pytest.raises(Unavailable, match="listening to the kernel's changes: Address family not supported"):
        await Stirred().wait()
    monkeypatch.undo()
    gc.collect()
    assert complaints == []


async def test_a_group_that_is_refused_leaves_no_socket_open():
    listening = netlink.Changes(netlink.ROUTE, (1 << 20,), bool)
    with pytest.raises(Unavailable):
        listening.listen()
