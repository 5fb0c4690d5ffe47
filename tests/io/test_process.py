"""Programs run as children, with a directory of our own on the search path."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vpnpf.errors import Transient, Unavailable
from vpnpf.io import process


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Put shell scripts on the fixed search path: programs(name=body)."""

    def write(**bodies: str) -> None:
        for name, body in bodies.items():
            path = tmp_path / name
            path.write_text(f"#!/bin/sh\n{body}\n")
            path.chmod(0o755)

    monkeypatch.setattr(process, "SEARCH", (str(tmp_path), *process.SEARCH))
    process.find.cache_clear()
    yield write
    process.find.cache_clear()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something outside this process. Raises TimeoutError after 5 s."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - nobody outside sets our events
            await asyncio.sleep(0.002)


def exists(pid: int) -> bool:
    """Whether there is such a process, be it only a zombie."""
    return Path("/proc", str(pid)).exists()


def written(path: Path) -> bool:
    """Whether a program has written its line."""
    return path.exists() and path.read_text().endswith("\n")


def states_of_children() -> list[str]:
    """One letter for each child of this process; Z: a zombie."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return [Path("/proc", child, "stat").read_text().rpartition(")")[2].split()[0] for child in children]


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_output_and_status_are_the_answer(programs):
    programs(speak="cat; echo loud >&2; exit 3")
    done = await process.run(("speak",), stdin="in\n")
    assert done == process.Completed(3, "in\n", "loud\n")


async def test_death_by_a_signal_is_an_answer_too(programs):
    programs(die="kill -TERM $$")
    assert (await process.run(("die",))).status == -signal.SIGTERM


async def test_output_that_is_no_text_is_an_answer_too(programs):
    programs(noise=r"printf '\377\376'")
    assert (await process.run(("noise",))).stdout == "\ufffd\ufffd"


async def test_must_says_what_the_program_said_on_one_line(programs):
    programs(fail="echo one >&2; echo two >&2; exit 2")
    with pytest.raises(Transient) as raised:
        await process.must(("fail",), doing="failing")
    assert str(raised.value) == "failing: fail ended with status 2: one / two"


async def test_must_says_something_of_a_program_that_is_silent(programs):
    programs(fail="exit 2")
    with pytest.raises(Transient, match="it said nothing"):
        await process.must(("fail",), doing="failing")


async def test_must_does_not_repeat_a_flood(programs):
    programs(fail="yes noise | head -c 100000 >&2; exit 1")
    with pytest.raises(Transient) as raised:
        await process.must(("fail",), doing="failing")
    assert len(str(raised.value)) < 500


async def test_a_program_that_does_not_read_is_no_problem(programs):
    programs(deaf="exec <&-; exit 0")
    assert (await process.run(("deaf",), stdin="x" * 1_000_000)).status == 0


# -- what a child gets from us ---------------------------------------------------------------------


async def test_the_environment_is_cleared(programs, monkeypatch):
    for name in ("LD_PRELOAD", "PATH", "BASH_ENV", "IFS", "LANG", "SECRET"):
        monkeypatch.setenv(name, "/nowhere")
    programs(show="exec /usr/bin/env")
    shown = dict(line.split("=", 1) for line in (await process.run(("show",))).stdout.splitlines())
    shown.pop("PWD", None)  # the shell's own
    assert shown == process.ENVIRONMENT
    assert "/nowhere" not in shown["PATH"]


@pytest.mark.parametrize("start", [process.run, process.spawn])
async def test_a_hostile_search_path_chooses_nothing(tmp_path, monkeypatch, start):
    owned = tmp_path / "owned"
    fake = tmp_path / "ip"
    fake.write_text(f"#!/bin/sh\ntouch {owned}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    process.find.cache_clear()
    child = await start(("ip", "-V"))
    if start is process.spawn:
        await child.wait()
    assert not owned.exists()
    assert process.find("ip") != str(fake)


async def test_it_does_not_stand_in_our_directory_and_holds_none_of_our_files(programs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    programs(show='pwd; for each in /proc/$$/fd/*; do readlink "$each"; done')
    with (tmp_path / "private").open("w") as file:
        os.set_inheritable(file.fileno(), True)
        shown = (await process.run(("show",))).stdout
    assert shown.splitlines()[0] == "/"
    assert "private" not in shown


@pytest.mark.parametrize("start", [process.run, process.spawn])
async def test_ctrl_c_at_our_terminal_does_not_reach_it(programs, tmp_path, start):
    """The kernel sends it to the processes of our group; a change of routes must not be cut in two."""
    programs(show=f"cut -d' ' -f1,5,6 /proc/$$/stat > {tmp_path}/ids")
    child = await start(("show",))
    if start is process.spawn:
        await child.wait()
    pid, group, session = map(int, (tmp_path / "ids").read_text().split())
    assert pid == group == session
    assert group != os.getpgid(0)
    assert session != os.getsid(0)


async def test_spawn_adds_to_the_environment_and_leaves_no_pipe(programs, tmp_path):
    said = tmp_path / "said"
    programs(show=f"found=$(readlink /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2); echo $found $LOG_LEVEL > {said}")
    child = await process.spawn(("show",), {"LOG_LEVEL": "error"})
    assert await child.wait() == 0
    assert said.read_text().split() == ["/dev/null", "/dev/null", "/dev/null", "error"]


# -- ends ------------------------------------------------------------------------------------------


async def test_the_deadline_kills_it_and_leaves_no_zombie(programs, tmp_path):
    programs(hang=f"trap '' TERM INT HUP; echo $$ > {tmp_path}/pid; exec sleep 600")
    with pytest.raises(Transient, match=r"running hang: not done after 0\.2 s"):
        await process.run(("hang",), deadline=0.2)
    pid = int((tmp_path / "pid").read_text())
    assert not exists(pid)


async def test_a_cancelled_run_kills_it_and_leaves_no_zombie(programs, tmp_path):
    programs(hang=f"echo $$ > {tmp_path}/pid; exec sleep 600")
    task = asyncio.create_task(process.run(("hang",)))
    await until(lambda: written(tmp_path / "pid"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not exists(int((tmp_path / "pid").read_text()))


async def test_many_at_once_leave_no_zombies(programs):
    programs(quick="exit 0")
    await asyncio.gather(*(process.run(("quick",)) for _ in range(20)))
    assert "Z" not in states_of_children()


# -- what cannot be started ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "package"),
    [("wg", "wireguard-tools"), ("ip", "iproute2"), ("nft", "nftables"), ("something", "something")],
)
async def test_a_missing_program_names_its_package(tmp_path, monkeypatch, program, package):
    monkeypatch.setattr(process, "SEARCH", (str(tmp_path),))
    (tmp_path / program).mkdir()  # a directory is no program
    process.find.cache_clear()
    with pytest.raises(Unavailable) as raised:
        await process.run((program,))
    assert str(raised.value) == f"looking for the program {program}: it is not installed"
    assert raised.value.hint == f"install the package {package}"


async def test_a_file_that_may_not_be_run_is_no_program(tmp_path, monkeypatch):
    monkeypatch.setattr(process, "SEARCH", (str(tmp_path),))
    (tmp_path / "wg").write_text("")
    process.find.cache_clear()
    with pytest.raises(Unavailable):
        process.find("wg")


async def test_a_program_installed_meanwhile_is_found(tmp_path, monkeypatch, programs):
    monkeypatch.setattr(process, "SEARCH", (str(tmp_path),))
    with pytest.raises(Unavailable):
        process.find("later")
    programs(later="exit 0")
    assert process.find("later") == str(tmp_path / "later")


@pytest.mark.parametrize("start", [process.run, process.spawn])
async def test_a_program_that_is_none_is_a_failure_of_the_known_kind(tmp_path, monkeypatch, start):
    monkeypatch.setattr(process, "SEARCH", (str(tmp_path),))
    broken = tmp_path / "broken"
    broken.write_text("#!/nowhere/interpreter\n")
    broken.chmod(0o755)
    process.find.cache_clear()
    with pytest.raises(Transient, match=r"starting .*/broken: No such file or directory"):
        await start(("broken",))


LEFT = """\
import asyncio, sys
from vpnpf.io import process

async def main(turns):
    tasks = [asyncio.create_task(process.run(("sleep", "60"), stdin="x"))]
    tasks.append(asyncio.create_task(start()))
    for _ in range(turns):
        await asyncio.sleep(0)

async def start():
    child = await process.spawn(("sleep", "60"), output=-1)
    try:
        await child.read()
    finally:
        child.kill()
        await child.wait()

for turns in range(12):
    asyncio.run(main(turns))
    print(turns, flush=True)
"""


def test_a_run_that_is_left_at_any_moment_of_a_start_ends():
    """asyncio cancels all tasks then, also those of its own that nobody holds."""
    done = subprocess.run([sys.executable, "-c", LEFT], capture_output=True, text=True, timeout=20, check=False)
    assert done.stdout.split() == [str(turns) for turns in range(12)], done.stderr
    assert done.stderr == ""


async def test_what_is_cancelled_does_not_wait_for_output_that_nobody_reads(programs, tmp_path):
    """Neither for a grandchild that holds the pipe."""
    programs(flood=f"sleep 600 & echo $$ $! > {tmp_path}/pid; exec yes noise")
    task = asyncio.create_task(process.run(("flood",)))
    await until(lambda: written(tmp_path / "pid"))
    pid, grandchild = map(int, (tmp_path / "pid").read_text().split())
    task.cancel()
    try:
        async with asyncio.timeout(2):
            await asyncio.wait([task])
        assert task.cancelled()
        assert not exists(pid)
    finally:
        os.kill(grandchild, signal.SIGKILL)


async def test_who_is_not_waited_for_is_no_zombie(programs):
    programs(quick="exit 0")
    child = await process.spawn(("quick",))
    await until(lambda: not exists(child.pid))
    assert child.returncode == 0
    assert await child.wait() == 0


async def test_the_descriptors_are_closed_again(programs):
    programs(quick="cat; echo loud >&2")
    await process.run(("quick",), stdin="in")
    before = descriptors()
    for _ in range(5):
        await process.run(("quick",), stdin="in")
    assert descriptors() == before


@pytest.mark.parametrize("turns", range(4))
async def test_told_to_end_twice_it_leaves_no_descriptor(programs, tmp_path, turns):
    programs(hang=f"echo $$ > {tmp_path}/pid; exec sleep 600")
    await process.run(("true",))
    before = descriptors()
    task = asyncio.create_task(process.run(("hang",)))
    await until(lambda: written(tmp_path / "pid"))
    task.cancel()
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: descriptors() == before)


async def test_without_a_descriptor_to_watch_it_by_it_is_ended(programs, monkeypatch, tmp_path):
    def none(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    programs(hang=f"echo $$ > {tmp_path}/pid; exec sleep 600")
    monkeypatch.setattr(os, "pidfd_open", none)
    with pytest.raises(Transient, match="Too many open files"):
        await process.run(("hang",))
    assert "Z" not in states_of_children()
