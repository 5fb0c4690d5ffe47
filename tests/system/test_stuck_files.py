"""A home on a file system that never answers: the questions of the first start begin all the same, and Ctrl-C ends them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import threading
import time

import pytest

from vpnpf.setup import bounded, finding, tunnel_files

pytestmark = pytest.mark.system

MNT_DETACH = 2
libc = ctypes.CDLL(None, use_errno=True)


@pytest.fixture
def stuck(tmp_path):
    """A mount whose server is there and says nothing (fuse(4)): who looks into it waits until it is gone."""
    home = tmp_path / "home"
    (home / "Downloads").mkdir(parents=True)
    place = str(home / "Downloads").encode()
    device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0".encode()
    if libc.mount(b"stuck", place, b"fuse", 0, options):
        os.close(device)
        raise OSError(ctypes.get_errno(), "mount")
    yield home
    os.close(device)  # all who wait are told that it is gone
    libc.umount2(place, MNT_DETACH)


async def test_it_is_passed_over_in_time(stuck, monkeypatch):
    monkeypatch.setattr(bounded, "SECONDS", 0.3)
    began = time.monotonic()
    found = await finding.look(stuck / "none", stuck)
    assert time.monotonic() - began < 10
    assert found.files == ()
    assert any(each.name == "vpnpf looking" for each in threading.enumerate())  # it still waits, and holds up nobody


async def test_the_control_it_is_truly_stuck(stuck):
    looking = asyncio.create_task(asyncio.to_thread(tunnel_files.find, [(stuck / "Downloads", 0)], ()))
    done, _ = await asyncio.wait([looking], timeout=3 * tunnel_files._SECONDS / 4 + 1.5)
    assert not done  # its own limit of time cannot help: it waits within one call
    libc.umount2(str(stuck / "Downloads").encode(), 1 | MNT_DETACH)  # MNT_FORCE
    await looking
