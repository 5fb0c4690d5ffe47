"""The HTTP client against servers that mean it no good, each on loopback and each bounded in time."""

import asyncio
import contextlib
import gc
import socket
import ssl
import subprocess
import sys
import time
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.certificates import Authority
from vpnpf.errors import Failure, Misconfigured, NoAnswer, Refused, Transient
from vpnpf.interfaces import ANSWER_LIMIT as LIMIT
from vpnpf.io.http import DEADLINE, HttpClient

PASSWORD = "hunter2-and-more"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


@contextlib.asynccontextmanager
async def server(talk, *, tls=None):
    """A server that leaves each connection to `talk(reader, writer)`; yields its URL."""

    async def serve(reader, writer):
        tasks.add(asyncio.current_task())
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            await talk(reader, writer)
            writer.close()
            await writer.wait_closed()
        writer.transport.abort()

    tasks = set()
    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with listening:
        scheme = "https" if tls else "http"
        yield f"{scheme}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        listening.close()
        for _ in range(10):  # turns of the loop until a connection that has only just come in is at its `talk`
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks)


def saying(data):
    """Answers every request with these bytes."""

    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return talk


async def soon(awaitable):
    """The answer or failure, which must be there long before the deadline that requests have by themselves."""
    started = time.monotonic()
    try:
        return await awaitable
    finally:
        assert time.monotonic() - started < DEADLINE / 2


async def test_a_plain_answer():
    answer = (
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\nX-A: 1\r\nX-A: 2\r\nSet-Cookie: SID=a=b; path=/\r\n\r\nabc"
    )
    async with server(saying(answer)) as url:
        response = await HttpClient().request("GET", url)
    assert (response.status, response.body) == (404, b"abc")
    assert response.headers["x-a"] == "2"
    assert response.cookies == {"SID": "a=b"}


async def test_what_is_sent():
    seen = []

    async def talk(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.decode().split("\r\n") if line.lower().startswith("content-length"))
        seen.append(head.decode().lower())
        seen.append(await reader.readexactly(int(length.partition(":")[2])))
        writer.write(OK)

    async with server(talk) as url:
        await HttpClient().request("POST", f"{url}/a?b=c", form={"password": "a&b=c \u00e9"}, headers={"cookie": "d=e"})
    head, body = seen
    assert head.startswith("post /a?b=c http/1.1\r\n")
    assert "cookie: d=e\r\n" in head
    assert "connection: close\r\n" in head
    assert "accept-encoding: identity\r\n" in head
    assert body == b"password=a%26b%3Dc+%C3%A9"


# -- servers that mean it no good -----------------------------------------------------------------


async def test_a_body_of_256_mib_is_left_at_64_kib():
    sent = 0

    async def talk(reader, writer):
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 268435456\r\n\r\n")
        for _ in range(256):
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1 << 20

    async with server(talk) as url:
        with pytest.raises(Transient, match="64 KiB"):
            await soon(HttpClient().request("GET", url))
    assert sent < 32 << 20


async def test_just_under_the_limit_is_an_answer():
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n"
    size = LIMIT - len(head % LIMIT)
    async with server(saying(head % size + b"x" * size)) as url:
        assert len((await HttpClient().request("GET", url)).body) == size
    async with server(saying(head % (size + 1) + b"x" * (size + 1))) as url:
        with pytest.raises(Transient, match="64 KiB"):
            await HttpClient().request("GET", url)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n"])
async def test_a_drip_ends_with_the_deadline(start):
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(start)
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.02)

    async with server(talk) as url:
        with pytest.raises(NoAnswer, match=r"within 0\.3 s"):
            await soon(HttpClient(deadline=0.3).request("GET", url))


async def test_a_server_that_never_answers():
    async def talk(reader, writer):
        await reader.read()

    async with server(talk) as url:
        with pytest.raises(NoAnswer):
            await soon(HttpClient(deadline=0.2).request("GET", url))


async def test_a_server_that_never_reads():
    async def talk(reader, writer):
        await asyncio.Event().wait()

    async with server(talk) as url:
        form = {"a": "x" * (24 << 20)}
        with pytest.raises(NoAnswer):
            await soon(HttpClient(deadline=0.5).request("POST", url, form=form))


@pytest.mark.parametrize(
    "where", ["file:///etc/passwd", "http://192.0.2.1/", "//foreign.example/", "/again", "javascript:alert(1)", ""]
)
async def test_a_redirect_is_an_answer_and_not_followed(where):
    connections = 0

    async def talk(reader, writer):
        nonlocal connections
        connections += 1
        await saying(f"HTTP/1.1 302 Found\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n".encode())(reader, writer)

    async with server(talk) as url:
        response = await soon(HttpClient().request("GET", url))
    assert response.status == 302
    assert connections == 1


BROKEN = {
    "200 headers": b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % n for n in range(200)) + b"\r\n",
    "200 times the same header": b"HTTP/1.1 200 OK\r\n" + b"set-cookie: a=b\r\n" * 200 + b"\r\n",
    "headers without end": b"HTTP/1.1 200 OK\r\n" + b"x: " + b"y" * 200_000,
    "informational without end": b"HTTP/1.1 100 Continue\r\n\r\n" * 10_000,
    "a bomb": b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + zlib.compress(bytes(1 << 22), wbits=31),
    "a bomb of two": b"HTTP/1.1 200 OK\r\ncontent-encoding: identity, gzip\r\n\r\n" + zlib.compress(bytes(1 << 20)),
    "chunks of garbage": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n",
    "a chunk without end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffffffffffff\r\n" + b"x" * 100_000,
    "small chunks without end": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 50_000,
    "less than it says": b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort",
    "two lengths": b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabcde",
    "a length that is none": b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nabc",
    "a negative length": b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nabc",
    "no HTTP": b"SSH-2.0-OpenSSH_9.2p1\r\n\x1b[2J",
    "nothing": b"",
    "a status that is none": b"HTTP/1.1 abc Hm\r\n\r\n",
}


@pytest.mark.parametrize("kind", BROKEN)
async def test_a_broken_answer_is_transient_and_said_in_a_line(kind):
    async with server(saying(BROKEN[kind])) as url:
        with pytest.raises(Transient) as caught:
            await soon(HttpClient(deadline=4).request("GET", f"{url}/path", form={"password": PASSWORD}))
    assert not isinstance(caught.value, NoAnswer)
    assert str(caught.value).isprintable()
    assert "/path" in str(caught.value)
    assert PASSWORD not in str(caught.value)


async def test_a_reset_connection():
    async def talk(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nab")
        await writer.drain()
        writer.transport.abort()

    async with server(talk) as url:
        with pytest.raises(Transient):
            await soon(HttpClient().request("GET", url))


@settings(max_examples=60)
@given(st.lists(st.one_of(st.binary(max_size=200), st.sampled_from([*BROKEN.values(), OK, b"\r\n\r\n"])), max_size=3))
def test_whatever_bytes_come_there_is_an_answer_or_a_failure(pieces):
    async def ask():
        async with server(saying(b"".join(pieces))) as url:
            with contextlib.suppress(Failure):
                await soon(HttpClient(deadline=1).request("GET", url))

    asyncio.run(ask())


async def test_nothing_listens():
    async with server(saying(OK)) as url:
        pass
    with pytest.raises(Refused) as caught:
        await soon(HttpClient().request("GET", url))
    assert url.removeprefix("http://") in caught.value.hint


async def test_no_descriptor_is_left_over():
    async def ask(client, url):
        with contextlib.suppress(Failure):
            await client.request("GET", url)

    client = HttpClient(deadline=0.1)
    for kind in ("less than it says", "no HTTP", "a bomb", "nothing", "headers without end"):
        async with server(saying(BROKEN[kind])) as url:
            await ask(client, url)
            before = descriptors()
            for _ in range(5):
                await ask(client, url)
            await settled(before)

    async def never(reader, writer):
        await reader.read()

    async with server(never) as url:
        before = descriptors()
        for _ in range(3):
            await ask(client, url)
        await settled(before)


async def settled(expected):
    """The server closes its ends when the loop comes to it."""
    until = time.monotonic() + 2
    while descriptors() > expected:
        assert time.monotonic() < until
        await asyncio.sleep(0.01)


def descriptors():
    gc.collect()
    return len([*Path("/proc/self/fd").iterdir()])


async def test_cancelling_a_request_ends_it():
    async def talk(reader, writer):
        began.set()
        await reader.read()

    began = asyncio.Event()
    async with server(talk) as url:
        task = asyncio.create_task(HttpClient().request("GET", url))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await soon(task)


# -- what never happens ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1/",
        "http://torrents.example:8080/",
        "http://[2001:db8::1]:80/",
        "http://127.1/",
        "http://localhost.example/",
        "http://[::ffff:192.0.2.1]/",
    ],
)
@pytest.mark.parametrize(
    "secret",
    [
        {"form": {"username": "u", "password": PASSWORD}},
        {"headers": {"Authorization": f"Bearer {PASSWORD}"}},
        {"headers": {"COOKIE": f"SID={PASSWORD}"}},
    ],
)
async def test_a_secret_is_not_sent_unencrypted_to_another_machine(url, secret, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", None)  # nothing must even try
    monkeypatch.setattr("socket.getaddrinfo", None)
    with pytest.raises(Misconfigured, match="unencrypted") as caught:
        await HttpClient().request("POST", url, **secret)
    assert PASSWORD not in f"{caught.value} {caught.value.hint}"
    assert "https" in caught.value.hint


async def test_through_a_tunnel_a_secret_goes_to_its_other_end_alone(monkeypatch):
    """Plain http is encrypted by the tunnel as far as that; beyond it anybody reads along."""
    monkeypatch.setattr("vpnpf.io.http._is_loopback", lambda _host: False)
    secret = {"headers": {"Authorization": f"Bearer {PASSWORD}"}}

    async def talk(reader, writer):
        assert PASSWORD.encode() in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    client = HttpClient(inside="127.0.0.1")
    async with server(talk) as url:
        assert (await client.request("GET", url, **secret)).body == b"ok"
        for other in (url.replace("127.0.0.1", "127.0.0.2"), url.replace("127.0.0.1", "localhost")):
            with pytest.raises(Misconfigured, match="unencrypted"):
                await client.request("GET", other, **secret)
        with pytest.raises(Misconfigured, match="unencrypted"):
            await HttpClient().request("GET", url, **secret)


@pytest.mark.parametrize(
    "url",
    [
        f"http://admin:{PASSWORD}@127.0.0.1/",
        f"https://{PASSWORD}@127.0.0.1/",
        f"admin:{PASSWORD}@127.0.0.1:8080",
        f"http://admin:{PASSWORD}@127.0.0.1:99999999/",
        f"http://[admin:{PASSWORD}@127.0.0.1/",
        f"ftp://admin:{PASSWORD}@127.0.0.1/",
        f"http://127.0.0.1\n/{PASSWORD}",
        f"http://127.0.0.1/\u00e9{PASSWORD}",
    ],
)
async def test_what_is_wrong_with_a_url_is_said_without_repeating_it(url):
    with pytest.raises(Misconfigured) as caught:
        await HttpClient().request("GET", url)
    assert PASSWORD not in f"{caught.value} {caught.value.hint}"
    assert caught.value.hint


async def test_the_query_is_not_in_the_error():
    async with server(saying(b"")) as url:
        with pytest.raises(Transient) as caught:
            await HttpClient().request("GET", f"{url}/login?token={PASSWORD}")
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize("host", ["a" * 64, "a..b", "xn--", "."])
async def test_a_host_name_that_cannot_be_one(host):
    with pytest.raises(Misconfigured) as caught:
        await soon(HttpClient().request("GET", f"http://{host}/"))
    assert caught.value.hint


async def test_a_name_that_is_not_found(monkeypatch):
    def fails(*arguments, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", fails)
    with pytest.raises(Transient, match="not known") as caught:
        await HttpClient().request("GET", "http://torrents.example/")
    assert "host name" in caught.value.hint


async def test_proxies_of_the_environment_are_not_asked(monkeypatch):
    proxied = asyncio.Event()

    async def proxy(reader, writer):
        proxied.set()
        await saying(OK)(reader, writer)

    async with server(proxy) as trap, server(saying(OK)) as url:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, trap)
            monkeypatch.setenv(name.upper(), trap)
        assert (await HttpClient().request("GET", url)).body == b"ok"
    assert not proxied.is_set()


async def test_a_netrc_is_not_read(monkeypatch, tmp_path):
    seen = []

    async def talk(reader, writer):
        seen.append((await reader.readuntil(b"\r\n\r\n")).lower())
        writer.write(OK)

    (tmp_path / ".netrc").write_text(f"machine 127.0.0.1 login admin password {PASSWORD}\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    async with server(talk) as url:
        await HttpClient().request("GET", url)
    assert b"authorization" not in seen[0]


# -- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for a name that is not ours, as Web UIs have them."""
    directory = tmp_path_factory.mktemp("tls")
    key, made = directory / "key.pem", directory / "cert.pem"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    about = ["-subj", "/CN=torrents.example", "-days", "2", "-keyout", str(key), "-out", str(made)]
    subprocess.run([*new, *about], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    return context


async def test_on_loopback_any_certificate_will_do(certificate):
    body = b"x" * 60_000
    async with server(saying(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n" + body), tls=certificate) as url:
        response = await soon(HttpClient().request("POST", url, form={"password": PASSWORD}))
    assert response.body == body


async def test_elsewhere_a_certificate_has_to_be_trusted(certificate, monkeypatch):
    monkeypatch.setattr("vpnpf.io.http._is_loopback", lambda host: False)  # as if it were another machine
    async with server(saying(OK), tls=certificate) as url:
        with pytest.raises(Misconfigured, match="not trusted") as caught:
            await soon(HttpClient().request("POST", url, form={"password": PASSWORD}))
    assert "certificate" in caught.value.hint
    assert PASSWORD not in f"{caught.value} {caught.value.hint}"


async def test_a_certificate_for_another_name_has_a_sentence_of_its_own(certificate, monkeypatch):
    monkeypatch.setattr("vpnpf.io.http._is_loopback", lambda host: False)
    async with server(saying(OK), tls=certificate) as url:
        host, _, port = url.removeprefix("https://").rstrip("/").partition(":")
        shown = await asyncio.to_thread(ssl.get_server_certificate, (host, int(port)))
        with pytest.raises(Misconfigured, match="for another name") as caught:
            await soon(HttpClient().request("POST", url, form={"password": PASSWORD}, ca=shown))
    assert "as its certificate does" in caught.value.hint


@pytest.fixture
def strict(monkeypatch):
    """`ssl.create_default_context` as it is from Python 3.13 on, whichever this is."""
    made = ssl.create_default_context

    def stricter(*arguments, **more):
        context = made(*arguments, **more)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    monkeypatch.setattr("ssl.create_default_context", stricter)
    return stricter


@pytest.mark.usefixtures("strict")
async def test_an_authority_of_a_providers_own_may_be_as_old_as_it_is():
    authority = Authority("torrents.example authority", old=True)
    async with server(saying(OK), tls=authority.context("oslo417")) as url:
        asked = url.replace("127.0.0.1", "oslo417")
        client = HttpClient()
        assert (await soon(client.request("GET", asked, connect_to="127.0.0.1", ca=authority.pem))).body == b"ok"
        other = Authority("torrents.example authority", old=True)
        for wrong in ({"ca": other.pem}, {"ca": authority.pem, "url": url.replace("127.0.0.1", "oslo418")}):
            with pytest.raises(Misconfigured, match="certificate"):
                await soon(client.request("GET", **{"url": asked, "connect_to": "127.0.0.1", **wrong}))


async def test_an_old_authority_would_not_be_taken_as_strictly_as_python_does_it_by_itself(strict):
    authority = Authority("torrents.example authority", old=True)
    async with server(saying(OK), tls=authority.context("oslo417")) as url:
        port = int(url.rpartition(":")[2])
        tls = strict(cadata=authority.pem)
        with pytest.raises(ssl.SSLCertVerificationError):
            await soon(asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="oslo417"))


async def test_https_asked_of_a_server_that_speaks_http():
    async def talk(reader, writer):
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with server(talk) as url:
        with pytest.raises(Transient, match="TLS") as caught:
            await soon(HttpClient(deadline=4).request("GET", url.replace("http:", "https:")))
    assert "http instead of https" in caught.value.hint
    assert "_ssl.c" not in str(caught.value)


async def test_http_asked_of_a_server_that_speaks_https(certificate):
    async with server(saying(OK), tls=certificate) as url:
        with pytest.raises(Transient):
            await soon(HttpClient(deadline=4).request("GET", url.replace("https:", "http:")))


# -- where from -----------------------------------------------------------------------------------


async def test_it_connects_from_the_address_it_was_given():
    async def talk(reader, writer):
        peers.append(writer.get_extra_info("peername")[0])
        await saying(OK)(reader, writer)

    peers = []
    async with server(talk) as url:
        await HttpClient(local_address="127.0.0.9").request("GET", url)
        with pytest.raises(Transient):
            await HttpClient(local_address="192.0.2.77").request("GET", url)
    assert peers == ["127.0.0.9"]


async def test_a_device_that_is_not_there():
    async with server(saying(OK)) as url:
        with pytest.raises(Transient):
            await soon(HttpClient(device="nosuch0").request("GET", url))


def test_importing_it_does_not_load_httpx_and_httpx_does_not_load_its_command_line():
    code = """
import asyncio, sys
from vpnpf.io.http import HttpClient
assert "httpx" not in sys.modules
try:
    asyncio.run(HttpClient(deadline=1).request("GET", "http://127.0.0.1:1/"))
except Exception as error:
    assert type(error).__name__ == "Refused", error
assert "httpx" in sys.modules
assert not {"rich", "pygments", "httpx._main"} & set(sys.modules), sorted(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
