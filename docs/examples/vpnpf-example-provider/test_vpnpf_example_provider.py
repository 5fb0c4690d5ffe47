"""Acme VPN against a model of it, in virtual time."""

import json

import pytest

from vpnpf.api import (
    Credentials,
    ForwardSpec,
    HttpResponse,
    LeaseLost,
    MappingRequest,
    Misconfigured,
    Refused,
    Transient,
    Unsupported,
)
from vpnpf.testing import FakeHttp, FakeIO, FakeOutside, a_tunnel, scripted
from vpnpf_example_provider import Acme

LOGIN = Credentials("ada", "correct-horse")
TUNNEL = a_tunnel()
SPEC = ForwardSpec("torrent")


class Service:
    """What Acme runs: it knows one account, and gives one port."""

    def __init__(self):
        self.token = "token-1"
        self.port = 41877
        self.status = 200
        self.headers = {}
        self.logins = 0

    def answer(self, asked):
        if asked.url == "https://api.acme-vpn.example/v1/token":
            self.logins += 1
            right = asked.form == {"username": LOGIN.username, "password": LOGIN.password}
            return said(200, token=self.token) if right else said(401)
        assert asked.url == "http://10.2.0.1:8080/v1/port?device=vpnpf"
        if asked.headers["Authorization"] != f"Bearer {self.token}":
            return said(401)
        if self.status != 200:
            return HttpResponse(self.status, self.headers, b"<html>")
        return said(200, port=self.port, seconds=3600, address="198.51.100.11")


def said(status, **values):
    return HttpResponse(status, {}, json.dumps(values).encode())


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def io(service):
    made = FakeIO(scripted({}))
    made.http = FakeHttp(service.answer)
    made.login = LOGIN
    return made


async def acquire(io, previous=None):
    return await Acme({}).acquire(io, TUNNEL, MappingRequest(SPEC, previous, renewal=previous is not None))


async def test_a_port_for_an_hour(io):
    lease = await acquire(io)
    assert (lease.external_port, lease.internal_port, lease.lifetime) == (41877, 41877, 3600.0)
    assert lease.exit_address == "198.51.100.11"
    assert lease.granted_at == io.now()


async def test_the_token_is_kept_over_a_restart(io, service):
    await acquire(io)
    await acquire(io)
    assert service.logins == 1


async def test_a_renewal_counts_from_then(io):
    held = await acquire(io)
    io.clock.advance(1800)
    assert (await acquire(io, held)).expires_at == held.expires_at + 1800


async def test_a_token_that_ended_is_got_anew(io, service):
    held = await acquire(io)
    service.token = "token-2"
    assert (await acquire(io, held)).external_port == held.external_port
    assert service.logins == 2


async def test_a_wrong_password_is_tried_once(io, service):
    io.login = Credentials("ada", "wrong")
    for _ in range(3):
        with pytest.raises(Misconfigured) as told:
            await acquire(io)
        assert "wrong" not in f"{told.value} {told.value.hint}".replace("wrong user name or password", "")
    assert service.logins == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [(402, Misconfigured), (404, Unsupported), (409, LeaseLost), (429, Transient), (500, Transient), (302, Transient)],
)
async def test_what_a_status_means(io, service, status, kind):
    service.status = status
    with pytest.raises(kind) as told:
        await acquire(io)
    assert type(told.value) is kind
    assert "html" not in str(told.value)


async def test_patience_is_had_as_long_as_it_is_asked_for_and_no_longer(io, service):
    for after, waited in (("30", 30.0), ("999999", 3600.0), ("soon", 60.0), ("", 60.0)):
        service.status, service.headers = 429, {"Retry-After": after}
        with pytest.raises(Transient) as told:
            await acquire(io)
        assert told.value.retry_after == waited


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"null", b'{"port": "41877", "seconds": 1}', b'{"port": 0, "seconds": 1}', b"[" * 9999]
)
async def test_rubbish_is_a_failure_that_passes(io, service, body):
    await acquire(io)
    io.http = FakeHttp(lambda _asked: HttpResponse(200, {}, body))
    with pytest.raises(Transient):
        await acquire(io)


async def test_nobody_listens(io):
    await acquire(io)
    io.http = FakeHttp(lambda asked: Refused(asked.url, "connection refused"))
    with pytest.raises(Refused):
        await acquire(io)


@pytest.mark.parametrize("status", [200, 204, 404])
async def test_giving_it_back(io, service, status):
    held = await acquire(io)
    service.status = status
    await Acme({}).release(io, TUNNEL, held)
    assert io.http.asked[-1].method == "DELETE"


async def test_vpnpf_login(service):
    outside = FakeOutside(FakeHttp(service.answer))
    await Acme({}).log_in(outside, LOGIN)
    assert outside.store.load("token") == {"token": "token-1"}
    with pytest.raises(Misconfigured):
        await Acme({}).log_in(outside, Credentials("ada", "wrong"))
    await Acme({}).log_out(outside)
