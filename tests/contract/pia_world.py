"""PIA as the provider `pia` sees it: everything it asks, answered as PIA does, in virtual time and without sockets.

service = PiaService(clock.now, clock.wall)
outside, inside = service.outside(clock), service.inside(clock)   # beside the tunnel, and through it
service.login = too_many(120); service.down.add("apiv2"); service.busy = True; ...
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from msgspec.structs import replace

from tests.contract.provider_world import World
from vpnpf.errors import NoAnswer, Refused, Transient, Untrusted
from vpnpf.interfaces import Credentials, HttpResponse
from vpnpf.model import Endpoint, Protocol
from vpnpf.testing import Asked, FakeClock, FakeHttp, FakeIO, FakeOutside, Fate, HttpReply, a_tunnel

USER, PASSWORD = "p1234567", "s3cret & +ümlaut"
GATEWAY, OWN = "10.20.128.1", "10.20.128.77"
AUTHORITY = "-----BEGIN CERTIFICATE-----\nof the test\n-----END CERTIFICATE-----\n"
NAMES = ("www.privateinternetaccess.com", "apiv2.privateinternetaccess.com", "apiv2.piaproxy.net")
LIST = "serverlist.piaservers.net"
DAY, MONTH = 86400.0, 62 * 86400.0
BOUND_FOR = 900.0
DEADLINE = 10.0
"""Seconds after which a request that nobody answers is over."""


@cache
def signer() -> rsa.RSAPrivateKey:
    """The key that the list is signed with; made once, for it takes a while."""
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def list_key() -> str:
    return signer().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def sign(data: bytes) -> bytes:
    return signer().sign(data, padding.PKCS1v15(), SHA256())


def options(**more: object) -> dict[str, object]:
    """Options of a provider that trusts this service."""
    return {"ca": AUTHORITY, "list_key": list_key(), **more}


def answer(value: object, status: int = 200, **headers: str) -> HttpResponse:
    body = value if isinstance(value, bytes) else json.dumps(value).encode()
    return HttpResponse(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


DENIED = answer(b"HTTP Token: Access denied.\n", 401)
EXPIRED = answer({"status": "error", "message": "expired"}, 402)
BROKEN = answer(b"<html><h1>502 Bad Gateway</h1></html>", 502)


def too_many(seconds: int | None = None) -> HttpResponse:
    body = {"status": "error", "code": "too_many_attempts", "message": "Try again later."}
    return answer(body, 429) if seconds is None else answer(body, 429, retry_after=str(seconds))


def region(number: int, name: str, **more: object) -> dict[str, object]:
    """A region of two machines, each of which is everything: 198.51.100.<10 * number> and the next."""
    ident = str(more.pop("id", name.lower().replace(" ", "_")))
    machines = [{"ip": f"198.51.100.{10 * number + n}", "cn": f"{ident.replace('_', '')}40{n}"} for n in (0, 1)]
    fields = {"id": ident, "name": name, "country": "NL", "auto_region": True, "port_forward": True, "geo": False}
    services = dict.fromkeys(("meta", "wg", "ovpnudp", "ovpntcp", "ikev2"), machines)
    return {**fields, "offline": False, "dns": f"{ident}.privacy.example", "servers": services, **more}


REGIONS = (
    region(1, "Netherlands", id="nl_amsterdam"),
    region(2, "DE Berlin", country="DE"),
    region(3, "CA Toronto", country="CA"),
    region(4, "US East", country="US", port_forward=False),
    region(5, "Norway", country="NO", offline=True),
    region(6, "DE Frankfurt", country="DE", port_forward=False),
)
GROUPS = {
    "wg": [{"name": "wireguard", "ports": [1337]}],
    "ovpnudp": [{"name": "openvpn_udp", "ports": [8080, 853]}],
    "ovpntcp": [{"name": "openvpn_tcp", "ports": [8443, 443]}],
    "meta": [{"name": "meta", "ports": [443, 8080]}],
}


class PiaService:
    """PIA. Its switches are attributes."""

    def __init__(self, now: Callable[[], float], wall: Callable[[], float]) -> None:
        self.now, self.wall = now, wall
        self.groups, self.regions = GROUPS, list(REGIONS)
        self.tokens: dict[str, float] = {}
        """When each ends, on the wall clock."""
        self.logins: list[str] = []
        """Where somebody tried to log in: the path's host."""
        self.signatures: dict[str, tuple[str, int]] = {}
        """By payload: the signature and the port."""
        self.signed_for = MONTH
        self.bound: dict[int, float] = {}
        """By port: when it ends."""
        self.binds: list[int] = []
        self.keys: list[tuple[str, str]] = []
        """Server and key of each registration."""
        self.secrets: set[str] = {PASSWORD}
        self.current = "nlamsterdam400"
        """The server that the tunnel leads to."""
        # -- what can be wrong
        self.down: set[str] = set()
        """Hosts that cannot be reached, by the beginning of their name."""
        self.strangers: set[str] = set()
        """Services whose place somebody else has taken, with a certificate of his own: "list", "name", "meta", "addKey", "gateway"."""
        self.met: list[tuple[float, str, str]] = []
        """When one of them was asked, which, and by which name."""
        self.login: HttpReply | None = None
        self.tampered = False
        self.unauthorized = False
        """The gateway takes no token."""
        self.forward: HttpReply | None = None
        """What the gateway answers to everything."""
        self.on_bind: list[HttpResponse] = []
        """What the next bindings are answered."""
        self.registration: dict[str, object] = {}
        """Fields of an answer to addKey that are other than they should be."""
        self._given = 0

    # -- two ways to it

    def outside(self, clock: FakeClock) -> FakeOutside:
        """Beside the tunnel. Somebody has logged in."""
        io = FakeOutside(FakeHttp(self.answer), clock=clock)
        io.login = Credentials(USER, PASSWORD)
        return io

    def inside(self, io: FakeIO) -> FakeIO:
        """Through the tunnel."""
        io.http = FakeHttp(lambda asked: self.answer(asked, inside=True))
        io.login = Credentials(USER, PASSWORD)
        return io

    def answer(self, asked: Asked, *, inside: bool = False) -> HttpReply:  # noqa: PLR0911 - one answer a line
        """The answer to one request."""
        parts = urlsplit(asked.url)
        host = parts.hostname or ""
        doing = f"{asked.method} {host}{parts.path}"
        assert parts.scheme == "https"
        if any(host.startswith(each) for each in self.down):
            return NoAnswer(doing, "no whole answer within 10 s")
        by_name = host in {*NAMES, LIST}
        assert by_name == (not asked.connect_to) == (not asked.ca), "who has a name is known by it, others by PIA's own"
        if not by_name:
            assert asked.ca == AUTHORITY
        by_address = "gateway" if parts.port == 19999 else "addKey" if parts.path == "/addKey" else "meta"
        service = "list" if host == LIST else "name" if by_name else by_address
        if service in self.strangers:
            self.met.append((self.now(), service, host))
            return Untrusted(doing, "its certificate is for another name", "name the host as its certificate does")
        if host == LIST:
            assert asked.limit == 1 << 20
            return answer(self.listed())
        if parts.port == 19999:
            return self._forwarded(asked, host, parts.path, parse_qs(parts.query), inside=inside)
        if not by_name and asked.connect_to not in self.addresses(host):
            return Untrusted(doing, "its certificate is for another name")
        if parts.path == "/addKey":
            return self._registered(asked, host, parse_qs(parts.query))
        return self._logged_in(asked, host, parts.path)

    def addresses(self, name: str) -> set[str]:
        return {
            machine["ip"]
            for each in self.regions
            for machines in each["servers"].values()
            for machine in machines
            if machine["cn"] == name
        }

    def listed(self) -> bytes:
        text = json.dumps({"groups": self.groups, "regions": self.regions}).encode()
        signature = base64.encodebytes(sign(text))
        if self.tampered:
            text = text.replace(b"198.51.100.10", b"203.0.113.66")
        return text + b"\n\n" + signature

    def grant(self) -> str:
        self._given += 1
        token = f"{self._given:08x}" * 16
        self.tokens[token] = self.wall() + DAY
        self.secrets.add(token)
        return token

    def _logged_in(self, asked: Asked, host: str, path: str) -> HttpReply:
        if path == "/api/client/v2/expire_token":
            token = asked.headers.get("Authorization", "").removeprefix("Token ")
            return answer({"status": "success"}) if self.tokens.pop(token, None) else DENIED
        older = path in {"/authv3/generateToken", "/gtoken/generateToken"}
        assert older or path == "/api/client/v2/token", path
        self.logins.append(host)
        if self.login is not None:
            return self.login
        if older:
            pair = base64.b64decode(asked.headers["Authorization"].removeprefix("Basic ")).decode().split(":", 1)
            good = pair == [USER, PASSWORD]
            failed = answer({"status": "ERROR", "message": "authentication failed"})
            return answer({"status": "OK", "token": self.grant()}) if good else failed
        assert asked.method == "POST"
        good = asked.form == {"username": USER, "password": PASSWORD}
        return answer({"token": self.grant()}) if good else DENIED

    def _registered(self, asked: Asked, host: str, query: dict[str, list[str]]) -> HttpReply:
        if self.tokens.get(query["pt"][0], 0.0) <= self.wall():
            return answer({"status": "ERROR", "message": "Login failed!"})
        key = query["pubkey"][0]
        assert len(base64.b64decode(key, validate=True)) == 32
        self.keys.append((host, key))
        return answer({
            "status": "OK", "server_key": base64.b64encode(bytes(range(32))).decode(), "server_port": 1337,
            "server_ip": asked.connect_to, "server_vip": GATEWAY, "peer_ip": OWN, "peer_pubkey": key,
            "dns_servers": ["10.0.0.243", "10.0.0.242"], **self.registration,
        })  # fmt: skip

    def _forwarded(  # noqa: PLR0911 - one answer a line
        self, asked: Asked, host: str, path: str, query: dict[str, list[str]], *, inside: bool
    ) -> HttpReply:
        assert inside, "its gateway is in the tunnel"
        if asked.connect_to != GATEWAY:
            return NoAnswer("asking", "no whole answer within 10 s")
        if path == "/bindPort" and self.on_bind:
            return self.on_bind.pop(0)
        if self.forward is not None:
            return self.forward
        if path == "/getSignature":
            token = query["token"][0]
            if self.unauthorized or host != self.current or self.tokens.get(token, 0.0) <= self.wall():
                return answer({"status": "ERROR", "message": "Unauthorized client"}, 401)
            return answer({"status": "OK", **self.signed(token)})
        assert path == "/bindPort"
        payload, signature = query["payload"][0], query["signature"][0]
        known = self.signatures.get(payload)
        if known is None or known[0] != signature:
            return answer({"message": "bad signature"}, 401)
        self.binds.append(known[1])
        self.bound[known[1]] = self.now() + BOUND_FOR
        return answer({"status": "OK", "message": "port scheduled for add"})

    def signed(self, token: str) -> dict[str, str]:
        port = 45000 + len(self.signatures)
        ends = self.wall() + self.signed_for
        payload = base64.b64encode(
            json.dumps({"token": token, "port": port, "expires_at": rfc3339(ends)}, separators=(",", ":")).encode()
        ).decode()
        signature = base64.b64encode(bytes((port + each) % 256 for each in range(64))).decode()
        self.signatures[payload] = (signature, port)
        self.secrets |= {payload, signature}
        return {"payload": payload, "signature": signature}


def rfc3339(wall: float) -> str:
    """A moment, as PIA writes it: in nanoseconds."""
    return f"{datetime.fromtimestamp(wall, UTC):%Y-%m-%dT%H:%M:%S}.123456789Z"


def busy(port: int = 40000) -> HttpResponse:
    return answer({"message": f"port {port} is busy. Please use another server"}, 409)


class PiaWorld(World):
    """The provider in a tunnel to Amsterdam."""

    hostilities: ClassVar[tuple[str, ...]] = (
        "empty", "html", "null", "list", "deep", "no payload", "payload of numbers", "payload is no base64", "payload is no json",
        "port 0", "port 65536", "port in words", "true port", "ends never", "huge", "echo", "control characters", "redirect", "broken",
    )  # fmt: skip
    tokens: ClassVar[tuple[str, ...]] = (
        '{"payload": "AAAA", "signature": "AAAA"}',
        '{"payload": "e30=", "signature": "e30="}',
        '{"payload": "eyJwb3J0Ijo0MDAwMH0=", "signature": "e30="}',
        '{"payload": "a b", "signature": "\\u0000", "since": "x"}',
    )

    def __init__(self, plugin, options) -> None:
        clock = FakeClock()
        self.service = PiaService(clock.now, clock.wall)
        io = FakeIO(lambda _: Fate.SILENT, clock=clock, address=OWN)
        made = a_tunnel(GATEWAY, f"{OWN}/32")
        plan = replace(
            made.plan, endpoint=Endpoint("198.51.100.10", 1337, Protocol.UDP), server_name=self.service.current
        )
        super().__init__(plugin, options, io, replace(made, plan=plan))
        io.login = Credentials(USER, PASSWORD)
        io.http = FakeHttp(self._answer)
        self.secrets = self.service.secrets
        self.gone = self.refusing = self.silent = False

    def _answer(self, asked: Asked) -> HttpReply:
        doing = f"{asked.method} {urlsplit(asked.url).path}"
        if self.io.gone:
            return Transient(doing, "No such device")
        if self.refusing:
            return Refused(doing, "connection refused")
        if self.silent:
            self.io.clock.advance(DEADLINE)
            return NoAnswer(doing, "no whole answer within 10 s")
        return self.service.answer(asked, inside=True)

    @property
    def mapped(self):
        now = self.clock.now()
        return {(p, port, port) for port, until in self.service.bound.items() if until > now for p in Protocol}

    def change_port(self) -> None:
        self.service.signatures.clear()
        self.service.bound.clear()
        # Ports are numbered by what was signed.
        self.service.signatures.update({f"before {n}": ("", 0) for n in range(7)})

    def lose(self) -> None:
        self.service.bound.clear()

    def deny(self) -> None:
        self.service.login = DENIED
        self.service.tokens.clear()

    def forbid(self) -> None:
        self.service.regions = [region(1, "Netherlands", id="nl_amsterdam", port_forward=False), *REGIONS[1:]]
        self.refusing_gateway()

    def refusing_gateway(self) -> None:
        self.service.forward = Refused("asking the gateway", "connection refused")

    def silence(self) -> None:
        self.silent = True

    def refuse(self) -> None:
        self.refusing = True

    def hostile(self, name: str) -> None:
        made = _hostile(name)
        # A status of OK is all that a binding is judged by.
        said_ok = b'"OK"' in made.body
        self.service.forward = made
        self.service.on_bind = [BROKEN] * 99 if said_ok else []

    def heal(self) -> None:
        super().heal()
        self.refusing = self.silent = False
        self.service.forward = self.service.login = None
        self.service.on_bind = []
        self.service.regions = list(REGIONS)


def _hostile(name: str) -> HttpResponse:
    def payload(value: object) -> HttpResponse:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return answer({"status": "OK", "payload": base64.b64encode(text).decode(), "signature": "AAAA"})

    good = {"port": 40000, "expires_at": "2031-05-04T03:02:01.123456789Z"}
    return {
        "empty": answer(b""),
        "html": answer(b"<html><script>alert(1)</script></html>" * 50),
        "null": answer(b"null"),
        "list": answer([{"status": "OK"}]),
        "deep": answer(b"[" * 20000),
        "no payload": answer({"status": "OK"}),
        "payload of numbers": answer({"status": "OK", "payload": 1, "signature": [2]}),
        "payload is no base64": answer({"status": "OK", "payload": "%%", "signature": "\0"}),
        "payload is no json": payload(b"\xff\xfe"),
        "port 0": payload({**good, "port": 0}),
        "port 65536": payload({**good, "port": 65536}),
        "port in words": payload({**good, "port": "40000"}),
        "true port": payload({**good, "port": True}),
        "ends never": payload({**good, "expires_at": "9999-99-99T99:99:99Z"}),
        "huge": answer({"status": "error", "message": "x" * 60000}),
        "echo": answer({"status": "error", "message": f"who are you, {'00000001' * 16}?"}, 500),
        "control characters": answer({"status": "error", "message": "\x1b[31m\r\n\0 gone"}, 500),
        "redirect": answer(b"", 302, location="http://203.0.113.1/"),
        "broken": BROKEN,
    }[name]
