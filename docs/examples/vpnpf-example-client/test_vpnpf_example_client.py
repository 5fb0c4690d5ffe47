"""Gust's driver against a model of Gust."""

import json

import pytest

from vpnpf.api import ClientOptions, HttpResponse, ListenSettings, Misconfigured, Refused, Transient, Unsupported
from vpnpf.testing import FakeHttp
from vpnpf_example_client import Gust

PASSWORD = "correct-horse"
WANTED = ListenSettings(port=41877, interface="vpf-home")


class Daemon:
    """What Gust does."""

    def __init__(self):
        self.settings = {"port": 6881, "device": "", "random": True, "upnp": True}
        self.asked = 0
        self.down = False

    def answer(self, asked):
        self.asked += 1
        if self.down:
            return Refused(asked.url, "connection refused")
        if asked.headers["Authorization"] != f"Bearer {PASSWORD}":
            return HttpResponse(401, {}, b"")
        if asked.method == "PUT":
            self.settings = json.loads(asked.content)
        path = asked.url.removeprefix("http://127.0.0.1:9000/api/")
        said = {"version": {"name": "Gust", "version": "2.1"}, "settings": self.settings}[path]
        return HttpResponse(200, {}, json.dumps(said).encode())


@pytest.fixture
def daemon():
    return Daemon()


def driver(answer, password=PASSWORD):
    return Gust(FakeHttp(answer), ClientOptions("http://127.0.0.1:9000", password=lambda: password))


async def test_name_and_version(daemon):
    assert await driver(daemon.answer).probe() == "Gust 2.1"


async def test_what_is_set_is_read_back(daemon):
    gust = driver(daemon.answer)
    assert await gust.get_listen() == ListenSettings(6881, "", random_port=True, port_mapping=True)
    await gust.set_listen(WANTED)
    assert await gust.get_listen() == WANTED


async def test_a_refused_password_is_tried_once(daemon):
    gust = driver(daemon.answer, "wrong-horse")
    for _ in range(5):
        with pytest.raises(Misconfigured) as told:
            await gust.get_listen()
        assert "horse" not in f"{told.value} {told.value.hint}"
    assert daemon.asked == 1


async def test_another_password_is_tried(daemon):
    passwords = ["wrong-horse", PASSWORD]
    gust = Gust(FakeHttp(daemon.answer), ClientOptions("http://127.0.0.1:9000", password=lambda: passwords[0]))
    with pytest.raises(Misconfigured):
        await gust.get_listen()
    del passwords[0]
    assert (await gust.get_listen()).port == 6881


async def test_nobody_listens(daemon):
    daemon.down = True
    with pytest.raises(Refused):
        await driver(daemon.answer).get_listen()


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"{}", b'{"port": true}', b'{"name": "Gale"}', b"[" * 9999]
)
async def test_somebody_else_answers(body):
    other = driver(lambda _asked: HttpResponse(200, {}, body))
    for call in (other.probe, other.get_listen):
        with pytest.raises(Unsupported) as told:
            await call()
        assert told.value.hint


@pytest.mark.parametrize("status", [204, 302, 404, 500])
async def test_a_status_that_is_no_answer(status):
    with pytest.raises(Transient, match=str(status)):
        await driver(lambda _asked: HttpResponse(status, {}, b"")).get_listen()
