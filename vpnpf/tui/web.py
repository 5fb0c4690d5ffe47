"""The face in a browser on this machine: textual-serve, bound to 127.0.0.1, behind a path that nobody can guess.

Whoever reaches it acts with the rights of who started it, and every user of the machine can connect to the port. So everything lies
under a token of 256 bits; without it there is nothing to be seen. A cookie would be no better place: it is sent to every port of
the host (RFC 6265, section 8.5), so also to what another user serves there.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import shlex
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from vpnpf.errors import Unavailable

if TYPE_CHECKING:
    from aiohttp import web

HOST = "127.0.0.1"
_TOKEN_BYTES = 32
_DOING = "showing vpnpf in a browser"


def serve(profile: str | None, config: Path | None, port: int, say: Callable[[str], None]) -> None:
    """Serve it until Ctrl-C or SIGTERM. Raises Unavailable without the package, or if the port is taken."""
    pages = Pages(profile, config, port)
    asyncio.run(_serve(pages, say))


class Pages:
    """What is served, and who may see it."""

    def __init__(self, profile: str | None, config: Path | None, port: int, token: str = "") -> None:
        """`port`: 0 for one that is free. Raises Unavailable without the package."""
        try:
            from textual_serve.server import Server  # noqa: PLC0415 - an extra
        except ImportError as error:
            hint = "install it: pip install 'vpnpf[web]'"
            raise Unavailable(_DOING, "the package textual-serve is not installed", hint) from error
        # -P: what lies in the working directory must not be run.
        argv = [sys.executable, "-P", "-m", "vpnpf", "tui", "--in-browser"]
        argv += [profile] if profile else []
        argv += ["--config", str(config.absolute())] if config is not None else []
        self.port = port
        self.token = token or secrets.token_urlsafe(_TOKEN_BYTES)
        self._server = Server(shlex.join(argv), HOST, port, title="vpnpf")

    @property
    def url(self) -> str:
        """Where it is, with what lets in."""
        return f"http://{HOST}:{self.port}/{self.token}/"

    def application(self) -> web.Application:
        """The pages, below the token, behind the guard."""
        import aiohttp_jinja2  # noqa: PLC0415 - an extra
        import jinja2  # noqa: PLC0415
        from aiohttp import web  # noqa: PLC0415

        @web.middleware
        async def guarding(
            request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
        ) -> web.StreamResponse:
            return await self.guard(request, handler)

        server = self._server
        app = web.Application(middlewares=[guarding])
        aiohttp_jinja2.setup(app, loader=jinja2.FileSystemLoader(server.templates_path), autoescape=True)
        app.add_routes(
            [
                web.get(f"/{self.token}/", server.handle_index, name="index"),
                web.get(f"/{self.token}/ws", server.handle_websocket, name="websocket"),
                web.get(f"/{self.token}/download/{{key}}", server.handle_download, name="download"),
                web.static(f"/{self.token}/static", server.statics_path, name="static"),
            ]
        )
        return app

    async def guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Let in who has the token, by our name, and from no other page."""
        from aiohttp import web  # noqa: PLC0415

        given = "".join(request.path.split("/")[1:2])  # none in "OPTIONS *" and in CONNECT
        here = f"{HOST}:{self.port}"
        if not hmac.compare_digest(given.encode(), self.token.encode()) or request.host != here:
            # The second: a name of somebody else's that leads here (DNS rebinding).
            raise web.HTTPNotFound
        origin = request.headers.get("Origin")
        opens = request.headers.get("Upgrade", "").lower() == "websocket"
        if origin != f"http://{here}" and (opens or origin is not None):
            raise web.HTTPForbidden
        answer = await handler(request)
        if not answer.prepared:
            answer.headers.update(self._headers())
        return answer

    def _headers(self) -> dict[str, str]:
        """Nothing from elsewhere is loaded, and the address, which lets in, is told to nobody."""
        policy = (
            f"default-src 'self' 'unsafe-inline' data: blob:; connect-src ws://{HOST}:{self.port} http://{HOST}:{self.port}; "
            "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
        )
        return {
            "Content-Security-Policy": policy,
            "Referrer-Policy": "no-referrer",
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
        }

    def bound(self, port: int) -> None:
        """It listens on this port."""
        self.port = port
        self._server.port = port
        self._server.public_url = f"http://{HOST}:{port}"


async def _serve(pages: Pages, say: Callable[[str], None]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    end = await begin(pages)
    try:
        say(f"vpnpf in a browser on this machine: {pages.url}")
        say("Who has this address acts as you: give it to nobody. Ctrl-C ends it; vpnpf itself goes on.")
        await stop.wait()
    finally:
        await end()


async def begin(pages: Pages) -> Callable[[], Awaitable[None]]:
    """Listen; returns what ends it. Raises Unavailable."""
    from aiohttp import web  # noqa: PLC0415 - an extra

    # No log of requests: the address lets in.
    runner = web.AppRunner(pages.application(), access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, HOST, pages.port, reuse_address=True).start()
    except OSError as error:
        await runner.cleanup()
        cause = f"port {pages.port}: {error.strerror or error}"
        raise Unavailable(_DOING, cause, "choose another with --port, or none for one that is free") from error
    pages.bound(int(runner.addresses[0][1]))
    return runner.cleanup
