"""Carrying connections from one place to another, on the loopback of one machine."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from vpnpf.errors import Unavailable
from vpnpf.io import relay
from vpnpf.io.relay import Relay
from vpnpf.model import Endpoint

HOST = "127.0.0.1"


def stay():
    """There is nowhere else."""


@contextlib.asynccontextmanager
async def inside(answer):
    server = await asyncio.start_server(answer, HOST, 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def serving(port):
    with Relay(Endpoint(HOST, 0), stay, port) as made:
        task = asyncio.create_task(made.serve())
        try:
            yield made._socket.getsockname()[1]
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                async with asyncio.timeout(1):
                    await task


async def upper(reader, writer):
    """Answers when all was said."""
    writer.write((await reader.read()).upper())
    await writer.drain()
    writer.close()


async def test_all_of_it_both_ways_and_each_end_for_itself():
    async with inside(upper) as port, serving(port) as published:
        reader, writer = await asyncio.open_connection(HOST, published)
        writer.write(b"all of it" * 500_000)
        writer.write_eof()
        assert await reader.read() == b"ALL OF IT" * 500_000
        writer.close()


async def test_where_nobody_listens_the_connection_ends():
    async with inside(upper) as port:
        pass
    async with serving(port) as published:
        reader, writer = await asyncio.open_connection(HOST, published)
        assert await reader.read() == b""
        writer.close()


async def test_its_end_does_not_wait_for_those_who_are_connected():
    async def silent(reader, writer):
        await reader.read()
        writer.close()

    async with inside(silent) as port:
        async with serving(port) as published:
            _, writer = await asyncio.open_connection(HOST, published)
        writer.close()


async def test_one_too_many_is_closed_and_there_is_room_again(monkeypatch):
    monkeypatch.setattr(relay, "MOST", 1)
    async with inside(upper) as port, serving(port) as published:
        first, writer = await asyncio.open_connection(HOST, published)
        writer.write(b"first")
        other, other_writer = await asyncio.open_connection(HOST, published)
        assert await other.read() == b""
        other_writer.close()
        writer.write_eof()
        assert await first.read() == b"FIRST"
        writer.close()


async def test_a_port_that_is_taken_is_told():
    async with inside(upper) as port:
        with pytest.raises(Unavailable, match=f"publishing {HOST}:{port}"), Relay(Endpoint(HOST, port), stay):
            pass


async def test_an_address_that_is_not_ours_is_told():
    with pytest.raises(Unavailable) as raised, Relay(Endpoint("192.0.2.1", 7), stay):
        pass
    assert "address" in raised.value.hint
