"""The face in a browser: only on 127.0.0.1, only for who has the token, and from no other page."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import aiohttp
import pytest
from aiohttp import web
from textual_serve.app_service import AppService
from textual_serve.server import Server

from vpnpf.errors import Unavailable
from vpnpf.tui.web import HOST, Pages, begin


@contextlib.asynccontextmanager
async def serving(pages=None):
    pages = pages or Pages(None, None, 0)
    end = await begin(pages)
    try:
        async with aiohttp.ClientSession() as session:
            yield pages, session
    finally:
        await end()


async def status(session, url, **headers):
    async with session.get(url, headers=headers, allow_redirects=False) as answer:
        return answer.status


async def opens(session, pages, path, **headers):
    """Whether a websocket to it is opened."""
    try:
        async with session.ws_connect(f"http://{HOST}:{pages.port}{path}", headers=headers):
            return True
    except aiohttp.WSServerHandshakeError:
        return False


class Unguarded(Pages):
    """The control: the same without the check."""

    async def guard(self, request, handler):
        return await handler(request)


SERVED = Server.handle_websocket


async def nothing(self, request):
    """A websocket without an app behind it."""
    socket_ = web.WebSocketResponse()
    await socket_.prepare(request)
    return socket_


@pytest.fixture(autouse=True)
def _no_app(monkeypatch):
    monkeypatch.setattr(Server, "handle_websocket", nothing)


async def test_with_the_token_there_is_a_page_that_loads_nothing_from_elsewhere():
    async with serving() as (pages, session), session.get(pages.url) as answer:
        assert answer.status == 200
        assert f"/{pages.token}/ws" not in answer.headers.get("Location", "")
        text = await answer.text()
        assert f"ws://{HOST}:{pages.port}/{pages.token}/ws" in text
        assert answer.headers["Referrer-Policy"] == "no-referrer"
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert await status(session, f"{pages.url}static/js/textual.js") == 200


@pytest.mark.parametrize("path", ["/", "/ws", "/static/js/textual.js", "/wrong/", "/wrong/ws"])
async def test_without_the_token_there_is_nothing(path):
    async with serving() as (pages, session):
        assert await status(session, f"http://{HOST}:{pages.port}{path}") == 404


async def test_by_another_name_there_is_nothing_and_without_the_check_there_would_be():
    async with serving() as (pages, session):
        assert await status(session, pages.url, Host=f"evil.example:{pages.port}") == 404
    async with serving(Unguarded(None, None, 0)) as (pages, session):
        assert await status(session, pages.url, Host=f"evil.example:{pages.port}") == 200


async def test_from_another_page_no_connection_is_opened_and_without_the_check_it_would_be():
    path = "/{0.token}/ws"
    async with serving() as (pages, session):
        assert await opens(session, pages, path.format(pages), Origin=f"http://{HOST}:{pages.port}")
        assert not await opens(session, pages, path.format(pages), Origin="http://evil.example")
        assert not await opens(session, pages, path.format(pages), Origin=f"http://{HOST}:1")
        assert not await opens(session, pages, path.format(pages))
    async with serving(Unguarded(None, None, 0)) as (pages, session):
        assert await opens(session, pages, path.format(pages), Origin="http://evil.example")


async def test_what_is_served_is_the_face(monkeypatch, tmp_path):
    monkeypatch.setattr(Server, "handle_websocket", SERVED)
    begun, original = [], AppService._open_app_process

    async def begin_app(self, *size, **named):
        begun.append(await original(self, *size, **named))
        return begun[-1]

    monkeypatch.setattr(AppService, "_open_app_process", begin_app)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    config = tmp_path / "config.toml"
    config.write_text("profiles = 1")
    async with serving(Pages(None, config, 0)) as (pages, session):
        origin = {"Origin": f"http://{HOST}:{pages.port}"}
        async with session.ws_connect(f"{pages.url}ws?width=90&height=30", headers=origin) as opened:
            seen = b""
            while b"has mistakes" not in seen:
                seen += await opened.receive_bytes(timeout=20)
            await opened.send_json(["stdin", "q"])
            async for _ in opened:  # until it is closed
                pass
        assert await begun[0].wait() == 0


async def test_it_listens_on_the_loopback_address_alone():
    async with serving() as (pages, _session):
        for address in ("127.0.0.2", "::1"):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family) as asking:
                asking.settimeout(1)
                with pytest.raises(OSError, match=r"refused|unavailable|assign|unreachable"):
                    asking.connect((address, pages.port))


@pytest.mark.parametrize(
    "line", ["OPTIONS * HTTP/1.1", "CONNECT nowhere:1 HTTP/1.1", "GET //x HTTP/1.1", "GET /%ff%00/ HTTP/1.1"]
)
async def test_odd_requests_of_strangers_get_nothing_and_say_nothing(line, caplog):
    async with serving() as (pages, _session):
        reader, writer = await asyncio.open_connection(HOST, pages.port)
        writer.write(f"{line}\r\nHost: {HOST}:{pages.port}\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
    assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.0 400", b"HTTP/1.1 400")), answer
    assert pages.token.encode() not in answer
    assert not [each for each in caplog.records if each.name.startswith("aiohttp") and "400" not in str(each.exc_info)]


async def test_a_port_that_is_taken_is_said():
    async with serving() as (pages, _session):
        with pytest.raises(Unavailable, match="port"):
            await begin(Pages(None, None, pages.port))


def test_each_start_has_another_token_and_the_program_is_not_taken_from_the_working_directory():
    one, other = Pages("home", None, 0), Pages("home", None, 0)
    assert one.token != other.token
    assert len(one.token) >= 43
    assert " -P -m vpnpf tui --in-browser home" in one._server.command


def test_without_the_package_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "textual_serve.server", None)
    with pytest.raises(Unavailable) as told:
        Pages(None, None, 0)
    assert "vpnpf[web]" in told.value.hint
