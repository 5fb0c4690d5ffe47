"""Whoever asks something by HTTP, before the twelve servers that mean no good; `make hostile` prints what it cost.

For each: it is over by the deadline, no more is read than an answer may have, little memory is used, nothing that it leads
to is followed, and what fails does so with a failure that can be shown. That the servers are as bad as they say is shown by a
client without any of that.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable

import httpx
import pytest

from tests.contract.certificates import Authority
from tests.contract.hostile import (
    DEADLINE,
    DEEP,
    HOSTILITIES,
    MARGIN,
    MEMORY,
    Found,
    Hostility,
    Server,
    measured,
    serving,
)
from tests.contract.hostile_callers import CALLERS, SECRETS, TRUSTED, Caller, bare
from vpnpf.errors import LeaseLost, Misconfigured, NoAnswer, Transient

LONGEST_TEXT = 500
rows: list[tuple[str, str, Found]] = []
"""What was measured, for the table."""


@pytest.fixture(autouse=True)
def trusted(tmp_path, monkeypatch):
    """This machine trusts the authority of the servers, and no other."""
    path = tmp_path / "authority.pem"
    path.write_text(Authority.made(TRUSTED).pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path))


@pytest.fixture
def canary(tmp_path):
    path = tmp_path / "canary-file"
    path.write_text(str(path))
    return str(path)


@pytest.fixture(scope="module", autouse=True)
def table():
    yield
    print("\n" + figures(rows))  # noqa: T201 - that is what it is for; seen with -s


def figures(measured: list[tuple[str, str, Found]]) -> str:
    """The worst of each server, over all that asked it."""
    lines = [f"{'server':26} {'asked':>5} {'s':>5} {'KiB read':>8} {'MiB used':>8} {'visits':>6}  ended as"]
    for name in HOSTILITIES:
        found = [one for server, _, one in measured if server == name]
        if found:
            kinds = ", ".join(sorted({one.kind for one in found}))
            lines.append(
                f"{name:26} {len(found):5} {max(one.seconds / max(1, one.asked) for one in found):5.2f} "
                f"{max(one.largest for one in found) / 1024:8.1f} {max(one.memory for one in found) / 2**20:8.2f} "
                f"{max(one.visits for one in found):6}  {kinds}"
            )
    return "\n".join(lines)


def check(found: Found, canary: str) -> None:
    """What has to hold for every answer and whoever asked."""
    assert found.asked >= 1
    assert found.seconds <= found.asked * DEADLINE + MARGIN
    assert found.largest <= found.limit + 1, "one octet more tells that it is too large"
    assert found.memory <= MEMORY
    assert found.visits == 0, "it went where it was led to"
    for text in found.texts:
        assert text.isprintable(), f"not printable: {text!r}"
        assert len(text) <= LONGEST_TEXT
        assert not any(secret in text for secret in (*SECRETS, canary))


async def ask_all(hostility: Hostility, caller: Caller, canary: str) -> list[Found]:
    """Ask a server in each of its moods."""
    found = []
    for answer in hostility.answers:
        async with serving(hostility, answer, canary, caller.hosts, tls=caller.tls) as server:
            one = await measured(server, caller.ask, inside="" if caller.tls else caller.hosts[0])
        check(one, canary)
        rows.append((hostility.name, caller.name, one))
        found.append(one)
    return found


@pytest.mark.parametrize("name", HOSTILITIES)
async def test_the_client_alone(name, canary):
    hostility = HOSTILITIES[name]
    expected = {
        "dripping": {"NoAnswer"},
        "a stranger's certificate": {"Untrusted"},
        "another name's certificate": {"Untrusted"},
        "deep": {"answered", "Transient"},
        "control characters": {"answered", "Transient"},
    }.get(name, {"answered"} if hostility.understood else {"Transient"})
    assert {one.kind for one in await ask_all(hostility, Caller("HTTP", bare), canary)} == expected


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.name)
@pytest.mark.parametrize("name", HOSTILITIES)
async def test_whoever_asks(name, caller, canary):
    hostility = HOSTILITIES[name]
    if hostility.certificate and not caller.tls:
        hostility = HOSTILITIES["closed midway"]
    for one in await ask_all(hostility, caller, canary):
        assert one.failure is not None or caller.easy, "it was taken for an answer"
        if caller.holds:
            # What it has stays, but where the answer's status says that it is gone.
            lost = name == "control characters" and isinstance(one.failure, LeaseLost)
            assert lost or isinstance(one.failure, Transient | None)
            continue
        if hostility.certificate:
            assert isinstance(one.failure, Misconfigured | Transient)
        if name == "dripping":
            assert isinstance(one.failure, NoAnswer)
        if name in ("huge", "200 headers", "closed midway"):
            assert isinstance(one.failure, Transient)


# -- that the servers are as bad as they say: a client without any limits ---------------------------


async def freely(server: Server, use: Callable[[httpx.Client], object]) -> object:
    """Ask a server by a client that trusts everybody, follows everything and reads all; in a thread, as it blocks."""

    def work() -> object:
        transport = httpx.HTTPTransport(verify=False)
        with httpx.Client(transport=transport, follow_redirects=True, timeout=5.0) as made:
            return use(made)

    return await asyncio.to_thread(work)


@pytest.fixture
def served(canary):
    def start(name: str, mood: int = 0, *, tls: bool = True):
        hostility = HOSTILITIES[name]
        return serving(hostility, hostility.answers[mood], canary, ("127.0.0.1",), tls=tls)

    return start


async def test_without_limits_the_huge_one_is_read_for_ever(served):
    def read(made: httpx.Client) -> int:
        octets = 0
        with made.stream("GET", server.url) as answer:
            for data in answer.iter_raw():
                octets += len(data)
                if octets > 2 * 2**20:
                    break
        return octets

    async with served("huge") as server:
        assert await freely(server, read) > 2 * 2**20


async def test_without_a_deadline_the_dripping_one_takes_for_ever(served):
    def read(made: httpx.Client) -> float:
        began = time.monotonic()
        with made.stream("GET", server.url) as answer:
            for _ in answer.iter_raw():
                if time.monotonic() - began > DEADLINE + MARGIN:
                    break
        return time.monotonic() - began

    async with served("dripping") as server:
        assert await freely(server, read) > DEADLINE + MARGIN


async def test_who_follows_a_redirect_is_elsewhere(served):
    async with served("redirected") as server:
        await freely(server, lambda made: made.get(server.url))
        assert server.visits == 1


async def test_who_follows_a_loop_goes_round_in_it(served):
    def follow(made: httpx.Client) -> None:
        with pytest.raises(httpx.TooManyRedirects):
            made.get(server.url)

    async with served("looping") as server:
        await freely(server, follow)
        assert server.requests > 10


@pytest.mark.parametrize("mood", [0, 1, 2])
async def test_who_reads_the_deep_one_without_care_crashes(served, mood):
    async with served("deep", mood) as server:
        answer = await freely(server, lambda made: made.get(server.url).content)
    assert len(answer) >= DEEP * (0.6 if mood else 1)
    with pytest.raises(RecursionError):
        json.loads(answer)


@pytest.mark.parametrize("mood", range(len(HOSTILITIES["wrong types"].answers)))
async def test_who_trusts_the_types_crashes(served, mood):
    async with served("wrong types", mood) as server:
        said = await freely(server, lambda made: made.get(server.url).json())
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError, IndexError, OverflowError)):
        raise ValueError(said) if not isinstance(said, dict) else KeyError(said["regions"][0]["servers"])


async def test_the_web_page_is_a_success_to_who_looks_at_the_status_alone(served):
    async with served("a web page") as server:
        answer = await freely(server, lambda made: made.get(server.url))
    assert answer.status_code == 200
    assert "location=" in answer.text


@pytest.mark.parametrize("name", ["a stranger's certificate", "another name's certificate"])
async def test_who_does_not_look_at_certificates_is_served(served, name):
    async with served(name) as server:
        assert (await freely(server, lambda made: made.get(server.url))).json() == {"status": "OK"}


async def test_who_shows_what_a_server_says_shows_control_characters(served):
    async with served("control characters", 3) as server:
        answer = await freely(server, lambda made: made.get(server.url))
    assert "\x1b[2J" in answer.json()["message"]
    assert not answer.json()["message"].isprintable()


async def test_who_does_not_count_headers_gets_all_of_them(served):
    async with served("200 headers") as server:
        assert len((await freely(server, lambda made: made.get(server.url))).headers) > 200


async def test_who_does_not_count_octets_takes_half_for_whole(served):
    async with served("closed midway", tls=False) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(server.url.rsplit(":", 1)[1].rstrip("/")))
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.endswith(b'"tok')
