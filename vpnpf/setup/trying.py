"""A torrent client asked once with what was answered: it is read, and nothing is set."""

from __future__ import annotations

import asyncio

from msgspec import Struct

from vpnpf import plugins
from vpnpf.errors import LoginRefused, Misconfigured, VpnpfError
from vpnpf.interfaces import ClientOptions
from vpnpf.io.http import HttpClient
from vpnpf.printable import printable
from vpnpf.setup.answers import Answers

MOST_REFUSALS = 3
"""Logins that are tried in one go: qBittorrent bans an address after five."""
_AGAIN = "type both again: they are those of its web interface, not of your VPN"
_LATER = "go on, and add username and password to its table under [clients] afterwards; or go back and type them"
_SECONDS = 15.0


class Trial(Struct, frozen=True):
    """How it went."""

    good: bool | None
    """None: nobody could say."""
    said: str
    """The client's name and version, or why not."""
    hint: str = ""


async def client(answers: Answers) -> Trial:
    """Log in to the client that was answered, and read its settings. Never raises a failure of it.

    An empty password is an answer too: a client that wants one all the same is no reason to ask again.
    """
    secret = answers.client_secret or ""
    options = ClientOptions(answers.client_url or "", answers.client_user or "", lambda: secret)
    try:
        one = plugins.client(answers.client_type or "")(HttpClient(), options)
        async with asyncio.timeout(_SECONDS):
            version = await one.probe()
            await one.get_listen()
    except LoginRefused as error:
        return Trial(False, printable(str(error)), _AGAIN) if secret else Trial(None, printable(str(error)), _LATER)
    except Misconfigured as error:
        return Trial(False if secret else None, printable(str(error)), printable(error.hint))
    except TimeoutError:
        return Trial(None, f"it did not answer in {_SECONDS:g} s")
    except VpnpfError as error:
        return Trial(None, printable(str(error)), printable(error.hint))
    return Trial(True, printable(version))
