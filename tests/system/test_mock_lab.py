"""The lab itself: it connects, it counts, and it leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mock_provider.capture import leak
from mock_provider.host import processes_in
from mock_provider.topology import (
    CLIENT,
    CLIENT6,
    EXIT,
    INTERNET,
    INTERNET6,
    LAN_HOST,
    NEIGHBOUR,
    ROUTER,
    SERVER,
    Lab,
)
from mock_provider.wireguard import SOCKETS, WireGuardServer
from vpnpf.errors import VpnpfError

pytestmark = pytest.mark.system


def left_behind(lab: Lab) -> list[str]:
    """Whatever of a lab is still there."""
    places = (Path("/run/netns"), Path("/etc/netns"), Path("/run/netns-etc"), SOCKETS, Path("/sys/class/net"))
    found = [str(path) for place in places if place.exists() for path in place.iterdir() if lab.id in path.name]
    return found + [f"process {pid}" for pid in processes_in(lab.hosts)]


def namespace() -> str:
    """The network namespace that this thread is in."""
    return str(Path("/proc/thread-self/ns/net").readlink())


def there(names: list[str]) -> list[str]:
    return [name for name in names if Path("/run/netns", name).exists()]


def udp(host, address=("0.0.0.0", 0), family=socket.AF_INET) -> socket.socket:
    made = host.socket(family, socket.SOCK_DGRAM)
    try:
        made.bind(address)
    except OSError:
        made.close()
        raise
    return made


async def test_every_host_reaches_every_other_at_once():
    async with Lab(neighbour=True, lan_host=True) as lab:
        loop = asyncio.get_running_loop()
        for here, where in (
            (lab.client, (INTERNET, SERVER, EXIT, NEIGHBOUR, LAN_HOST, ROUTER)),
            (lab.neighbour, (EXIT,)),
        ):
            for address in where:
                host = {INTERNET: lab.internet, NEIGHBOUR: lab.neighbour, LAN_HOST: lab.lan, ROUTER: lab.router}
                with udp(host.get(address, lab.server), (address, 4000)) as there, udp(here) as sock:
                    sock.sendto(b"x", (address, 4000))
                    async with asyncio.timeout(0.5):  # a lost first packet would cost ARP a second
                        await loop.sock_recvfrom(there, 10)
        with (
            udp(lab.internet, (INTERNET6, 4000), socket.AF_INET6) as there,
            udp(lab.client, ("::", 0), socket.AF_INET6) as sock,
        ):
            sock.sendto(b"x", (INTERNET6, 4000))
            async with asyncio.timeout(0.5):
                _, sender = await loop.sock_recvfrom(there, 10)
            assert sender[0] == CLIENT6


async def test_it_is_up_in_less_than_half_a_second():
    took = []
    for _ in range(5):
        began = time.monotonic()
        async with Lab():
            took.append(time.monotonic() - began)
    assert statistics.median(took) < 0.5, took


async def test_programs_run_inside_with_a_resolver_of_their_own(lab):
    done = await lab.client.run(["cat", "/etc/resolv.conf"])
    assert done.stdout == f"nameserver {ROUTER}\n" == lab.client.resolver.read_text()
    done = await lab.client.run(["sh", "-c", "echo $X; ip -o -4 addr show eth0; cat"], env={"X": "seen"}, stdin="in")
    assert done.stdout.startswith("seen\n")
    assert CLIENT in done.stdout
    assert done.stdout.endswith("in")


async def test_a_socket_stays_in_its_namespace_and_this_process_outside(lab):
    before = namespace()
    with udp(lab.internet, (INTERNET, 4000)):
        assert namespace() == before
    with pytest.raises(OSError, match="Cannot assign requested address"):
        udp(lab.client, (INTERNET, 4000))
    with pytest.raises(ZeroDivisionError), lab.client.inside():
        _ = 1 / (namespace() == before)
    assert namespace() == before


async def test_nothing_is_left_after_a_body_that_failed():
    lab = Lab(neighbour=True, lan_host=True)
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 - the body is what fails
        async with lab, WireGuardServer(lab):
            child = await lab.client.popen(["sleep", "60"])
            stubborn = await lab.internet.popen(["sh", "-c", "trap '' TERM; echo; while :; do sleep 60; done"])
            assert await stubborn.stdout.readline() == b"\n"
            assert child.pid in lab.client.processes
            assert stubborn.pid in lab.internet.processes
            assert len(left_behind(lab)) > 12, "the search itself finds things"
            _ = 1 / 0
    assert await child.wait() == -signal.SIGTERM
    assert await stubborn.wait() == -signal.SIGKILL
    assert left_behind(lab) == []


def descriptors():
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_no_descriptor_is_left_of_programs_that_nobody_waited_for():
    before = descriptors()
    async with Lab() as lab:
        await lab.client.popen(["sleep", "60"])
        await lab.internet.popen(["sh", "-c", "yes | head -c 300000; sleep 60"])
    assert descriptors() == before


async def test_nothing_is_left_after_cancellation_at_any_moment():
    for delay in (0.0, 0.004, 0.008, 0.012, 0.016, 0.02, 0.03):
        lab = Lab()

        async def body(lab: Lab = lab) -> None:
            async with lab:
                await asyncio.Event().wait()

        task = asyncio.create_task(body())
        await asyncio.sleep(delay)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left_behind(lab) == []


async def test_a_socket_left_open_keeps_no_cable():
    async with Lab() as lab:
        forgotten = udp(lab.client)
    with forgotten, pytest.raises(OSError, match="Network is unreachable"):
        forgotten.sendto(b"x", (INTERNET, 4000))


async def test_a_program_that_the_caller_cannot_find_is_an_error_of_the_program(lab):
    assert (await lab.client.run(["no-such-program"])).status != 0


# -- the capture ----------------------------------------------------------------------------------


async def test_the_capture_counts_each_packet_and_only_those_asked_for(lab):
    async with lab.capture(leak()) as leaked:
        assert await leaked.count() == 0
        with udp(lab.client) as sock, udp(lab.client, ("::", 0), socket.AF_INET6) as sock6:
            for _ in range(3):
                sock.sendto(b"out", (INTERNET, 4000))
            sock.sendto(b"the tunnel's own", (SERVER, 51820))
            sock6.sendto(b"out", (INTERNET6, 4000))
        with udp(lab.internet) as far, udp(lab.client, (CLIENT, 4000)):
            far.sendto(b"in", (CLIENT, 4000))
        assert await leaked.count() == 4
        assert {packet.destination for packet in leaked.packets} == {INTERNET, INTERNET6}
        assert leaked.packets[0].payload.endswith(b"out")
        await leaked.seen(4)


async def test_the_capture_keeps_up_with_a_flood(lab):
    async with lab.capture(leak()) as leaked:
        with udp(lab.client) as sock:
            sock.setblocking(True)
            for number in range(5000):
                sock.sendto(b"out", (INTERNET, 4000))
                if number % 50 == 0:
                    await asyncio.sleep(0)  # without real root the kernel's buffer is small
        assert await leaked.count() == 5000


async def test_a_capture_that_was_too_slow_proves_nothing(lab, monkeypatch):
    monkeypatch.setattr("mock_provider.capture.RECEIVE_BUFFER", 0)
    async with lab.capture(leak()) as leaked:
        with udp(lab.client) as sock:
            for _ in range(100):
                sock.sendto(b"out", (INTERNET, 4000))
        with pytest.raises(AssertionError, match=r"too slow: [0-9]+ packets went by uncounted"):
            await leaked.count()


async def test_the_capture_sees_through_a_firewall_that_drops_everything(lab):
    rules = """
        table inet t { chain o { type filter hook output priority 0; policy drop; }
        }
    """
    await lab.client.must(["nft", "-f", "-"], stdin=rules)
    async with lab.capture(leak()) as leaked:
        with udp(lab.client) as sock, pytest.raises(PermissionError):
            sock.sendto(b"out", (INTERNET, 4000))
        assert await leaked.count() == 0


async def test_a_capture_that_cannot_see_proves_nothing(lab):
    async with lab.capture(leak()) as leaked:
        await lab.router.must(["ip", "link", "set", "p-client", "down"])
        with pytest.raises(AssertionError, match="does not see the cable"):
            await leaked.count(deadline=0.2)


# -- the command ----------------------------------------------------------------------------------


async def start_command(*arguments: str, before: tuple[str, ...] = ()) -> tuple[asyncio.subprocess.Process, list[str]]:
    child = await asyncio.create_subprocess_exec(
        *before,
        sys.executable,
        "-m",
        "mock_provider",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        cwd=Path(__file__).parents[2],
    )
    lines: list[str] = []
    async with asyncio.timeout(20):
        while line := (await child.stdout.readline()).decode():
            lines.append(line.rstrip())
            if line.startswith("Ctrl-C"):
                break
    return child, lines


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_command_serves_a_person_and_cleans_up(number):
    child, lines = await start_command("--lifetime", "4", "--rotate-after", "2")
    assert child.returncode is None, lines
    names = [line.split()[0] for line in lines if line.startswith("  vpnpf-")]
    assert len(names) == 4
    assert there(names) == names
    config = next(Path(line.split(": ")[1]) for line in lines if line.startswith("Tunnel configuration"))
    assert "NAT-PMP (Port Forwarding) = on" in config.read_text()
    assert any(f"ip netns exec {names[0]} " in line for line in lines)
    child.send_signal(number)
    async with asyncio.timeout(10):
        rest = (await child.stdout.read()).decode()
        assert await child.wait() == 0
    assert rest == "taking it away\n"
    assert there(names) == []
    assert not config.exists()


@pytest.mark.parametrize("writable", [True, False])
async def test_the_command_works_in_a_user_namespace_with_a_run_of_its_own(writable):
    prepare = "mount -t tmpfs tmpfs /run && mkdir /run/netns && "
    if not writable:
        prepare += "mount --bind /etc /etc && mount -o remount,ro,bind /etc && "
    before = ("unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", prepare + 'exec "$0" "$@"')
    child, lines = await start_command(before=before)
    assert child.returncode is None
    assert lines[0] == "The provider is up. Namespaces:", lines
    child.send_signal(signal.SIGTERM)
    async with asyncio.timeout(10):
        assert (await child.stdout.read()).decode() == "taking it away\n"
        assert await child.wait() == 0


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("--lifetime", "soon"), 64, "'soon' is not a valid integer"),
        (("--config", "/proc/no/such/place"), 69, "error: writing /proc/no/such/place: No such file"),
        (("dance",), 64, "No such command 'dance'"),
    ],
)
async def test_mistakes_get_plain_answers(arguments, status, words):
    child, lines = await start_command(*arguments)
    assert await child.wait() == status
    assert any(words in line for line in lines), lines
    assert not any("Traceback" in line for line in lines)


async def test_without_root_it_says_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(VpnpfError, match="making network namespaces: not root"):
        async with Lab():
            pass
