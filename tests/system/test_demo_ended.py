"""A demonstration whose terminal is closed leaves nothing."""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from pathlib import Path

import pytest

pytestmark = pytest.mark.system


def found(names):
    return list(Path("/run/netns").glob(names))


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
async def test_what_ends_it_from_outside_leaves_nothing(number, tmp_path):
    argv = (sys.executable, "-m", "mock_provider", "demo", "--plain")
    env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "TMPDIR": str(tmp_path), "LC_ALL": "C.UTF-8"}
    child = await asyncio.create_subprocess_exec(*argv, stdout=PIPE, stderr=DEVNULL, env=env)
    assert child.stdout is not None
    async with asyncio.timeout(60):
        while b"READY" not in (line := await child.stdout.readline()):
            assert line, "it ended too early"
        here = f"vpnpf-{child.pid}n*"
        assert found(here)
        child.send_signal(number)
        await child.stdout.read()
        assert await child.wait() == 130
    assert not found(here)
    assert not list(tmp_path.iterdir())
