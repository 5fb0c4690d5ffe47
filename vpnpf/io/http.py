"""HTTP/1.1 for plug-ins: httpx with everything off that a hostile or broken server could use.

One connection a request, a total deadline, a limit to what is read off the wire (headers and all), no redirects,
no proxies, no cookie jar, no compression. Passwords go unencrypted to this machine alone. Certificates have to be
trusted, except on loopback: nobody can stand in between there who could not read plain http as well, and a Web UI's
certificate is seldom one for 127.0.0.1. httpx is loaded at the first request, because it costs more than the
rest of the program; what touches it is in `vpnpf.io.http_transport`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from vpnpf.errors import Misconfigured, NoAnswer, Refused, Transient, Untrusted
from vpnpf.interfaces import ANSWER_LIMIT, HttpResponse
from vpnpf.printable import printable

if TYPE_CHECKING:
    from types import ModuleType

    from vpnpf.io.http_transport import Transport

DEADLINE = 10.0
"""Seconds for one request as a whole."""
_PORTS = {"http": 80, "https": 443}
_SHOWN = 200
"""Characters of what a server said."""
_EXPIRED = 10
_OTHER_NAME = (62, 64)
"""Of a host, of an address (X509_STORE_CTX_get_error(3))."""


class HttpClient:
    """Makes requests (`interfaces.Http`). Holds no connection between them, so there is nothing to close."""

    def __init__(
        self,
        *,
        deadline: float = DEADLINE,
        local_address: str | None = None,
        device: str = "",
        plain_secrets: bool = False,
        inside: str = "",
        mark: int = 0,
        enter: Callable[[], None] | None = None,
    ) -> None:
        self._deadline = deadline
        """Seconds for one request as a whole."""
        self._local_address = local_address
        """Address to connect from, or None: the kernel's choice."""
        self._device = device
        """Device that the connection is bound to (SO_BINDTODEVICE); empty: none."""
        self._plain_secrets = plain_secrets
        """Whether passwords and cookies may go unencrypted to another machine."""
        self._inside = inside
        """Address at the other end of an encrypted tunnel whose device is bound to: they may go there; empty: none."""
        self._mark = mark
        """Firewall mark on its packets (SO_MARK); 0: none."""
        self._enter = enter
        """Puts a thread into the network namespace to connect and to look names up from; None: the one that we are in."""
        self._transports: dict[str, Transport] = {}

    async def request(
        self,
        method: str,
        url: str,
        *,
        form: Mapping[str, str] | None = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        connect_to: str = "",
        ca: str = "",
        limit: int = ANSWER_LIMIT,
    ) -> HttpResponse:
        """One request and its whole answer; an HTTP error status is an answer, not an exception.

        What is sent is a form, or `content` as it stands. For the rest see `interfaces.Http`.

        Raises Refused if nothing listens there, NoAnswer if it is not done in time, Transient for a broken
        connection, a name that is not found or an answer that is too large or not HTTP, Untrusted for a certificate,
        Misconfigured for a URL that cannot be asked, or a secret that would travel unencrypted to another machine.
        """
        scheme, where, host = _place(url)
        # The path, but neither query nor user: texts go to logs.
        doing = f"{method} {scheme}://{where}{urlsplit(url).path}"
        trusted = self._plain_secrets or host == self._inside or _is_loopback(host)
        if scheme == "http" and not trusted and _secret(form, headers):
            raise Misconfigured(
                doing, "the password would travel unencrypted", "use https, or a client on this machine"
            )
        transport = await self._transport(doing, scheme, ca, loopback=_is_loopback(host))
        try:
            async with asyncio.timeout(self._deadline):
                response = await transport.fetch(
                    method, url, form, headers, content, connect_to=connect_to, limit=limit
                )
        except TimeoutError:
            raise NoAnswer(doing, f"no whole answer within {self._deadline:g} s") from None
        except ConnectionRefusedError:
            raise Refused(doing, "connection refused", f"start the program that listens on {where}") from None
        except UnicodeError:
            raise Misconfigured(doing, "that host name cannot be one", "correct the address") from None
        except socket.gaierror as error:
            hint = "is the host name right, and is this machine online?"
            raise Transient(doing, error.strerror or "name not found", hint) from None
        except ssl.SSLCertVerificationError as error:
            raise _untrusted(doing, error) from None
        except ssl.SSLError as error:
            reason = (error.reason or "broken off").lower().replace("_", " ")
            raise Transient(doing, f"no TLS: {_shown(reason)}", "is it http instead of https?") from None
        except OSError as error:
            raise Transient(doing, _shown(error.strerror or str(error) or type(error).__name__)) from None
        except transport.broken as error:
            raise Transient(doing, f"broken answer: {_shown(str(error)) or type(error).__name__}") from None
        return response

    async def _transport(self, doing: str, scheme: str, ca: str, *, loopback: bool) -> Transport:
        kind = f"{scheme} {ca or ('loopback' if loopback else '')}"
        if kind not in self._transports:
            # In a thread: loading takes longer than anything else here, and the loop keeps ports meanwhile.
            library = await asyncio.to_thread(_library)
            made = library.Transport(
                tls=_tls(doing, scheme, ca, loopback=loopback),
                local_address=self._local_address,
                device=self._device,
                mark=self._mark,
                enter=self._enter,
            )
            self._transports[kind] = made
        return self._transports[kind]


def _library() -> ModuleType:
    """Load what touches httpx, without httpx's own command line.

    `import httpx` runs `httpx._main` if it can, which pulls in rich, pygments and click: half of the time and a
    third of the memory. httpx takes its absence for "command line not installed" and goes on; so it is absent
    for that moment.
    """
    if "httpx" in sys.modules:
        return import_module("vpnpf.io.http_transport")
    sys.modules["httpx._main"] = None  # type: ignore[assignment] # the import system's word for "not there"
    try:
        return import_module("vpnpf.io.http_transport")
    finally:
        sys.modules.pop("httpx._main", None)


def _tls(doing: str, scheme: str, ca: str, *, loopback: bool) -> ssl.SSLContext:
    """Whom to trust. Raises Misconfigured for certificates that cannot be read."""
    if scheme == "http":
        return _nobody()
    if not ca:
        return _anybody() if loopback else _trust()
    try:
        context = ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError):
        hint = "give it as PEM, from BEGIN CERTIFICATE to END CERTIFICATE"
        raise Misconfigured(doing, "the certificate authority is not a certificate", hint) from None
    # A provider's own authority may be older than the form that RFC 5280 wants and Python checks from 3.13 on (a critical
    # basicConstraints, a keyUsage): it was named one by one, and whom it signs for is verified all the same.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


def _trust() -> ssl.SSLContext:
    """The machine's own certificates. Only made for https: it costs milliseconds and megabytes."""
    return ssl.create_default_context()


def _nobody() -> ssl.SSLContext:
    """For http, where none is used: trusts no certificate at all."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def _anybody() -> ssl.SSLContext:
    """For https on loopback: takes any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _untrusted(doing: str, error: ssl.SSLCertVerificationError) -> Untrusted:
    if error.verify_code in _OTHER_NAME:
        hint = "name the host as its certificate does; it may also be another machine that answers"
        return Untrusted(doing, "its certificate is for another name", hint)
    said = _shown(error.verify_message)
    hint = (
        "renew it"
        if error.verify_code == _EXPIRED
        else "add the certificate of who signed it to those this machine trusts"
    )
    return Untrusted(doing, f"its certificate is not trusted: {said}", hint)


def _place(url: str) -> tuple[str, str, str]:
    """Scheme, "host:port" and host of a URL. Raises Misconfigured; never repeats what may be a password."""
    doing = "reading the address to ask"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Misconfigured(doing, "it is not a URL", "write it as http://127.0.0.1:8080") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Misconfigured(doing, "it is not an http or https URL", "write it as http://127.0.0.1:8080")
    if "@" in parts.netloc:
        raise Misconfigured(doing, "it holds a user name or password", "set username and password apart from it")
    if any(not "!" <= character <= "~" for character in url):
        raise Misconfigured(doing, "it holds a blank, a control character or one beyond ASCII", "write it escaped")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts.scheme, f"{host}:{port or _PORTS[parts.scheme]}", parts.hostname


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(form: Mapping[str, str] | None, headers: Mapping[str, str] | None) -> bool:
    """Whether a request carries something that lets its reader in."""
    return "password" in (form or {}) or not {"authorization", "cookie"}.isdisjoint(map(str.lower, headers or {}))


def _shown(text: str) -> str:
    """What a server had a say in."""
    return printable(text, _SHOWN)
