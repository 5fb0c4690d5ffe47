"""Who may do what at the control socket: real processes of real users, and every route there is."""

from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import stat
import sys
import tempfile
from asyncio.subprocess import PIPE
from pathlib import Path

import pytest

from tests.io.control_table import OWNED, WATCHED, expected
from vpnpf.control.place import name_of

pytestmark = pytest.mark.system

DAEMON, MEMBER, STRANGER = 65531, 65532, 65533
GROUP = "games"

SERVE = """
import asyncio, ctypes, os, sys
from pathlib import Path
import concurrent.futures.thread, vpnpf.control.http
from tests.io.control_table import table
from vpnpf.control.place import name_of
from vpnpf.control.server import ControlServer

async def main(directory, group):
    server = ControlServer(Path(directory), "home", routes, print, group)
    task = asyncio.create_task(server.serve())
    while not task.done() and not (Path(directory) / name_of("home")).exists():
        await asyncio.sleep(0.001)
    print(*(" ".join(each) for each in routes), sep=",", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

directory, user, gid, group = sys.argv[1:]
routes = table()  # before it is another user, who may not be able to read our modules
os.setgroups([int(gid)]); os.setgid(int(user)); os.setuid(int(user))
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after an exec: else /proc/self is root's
asyncio.run(main(directory, group))
"""

ASK = """
import http.client, json, os, socket, sys
path, user, first, groups, *wanted = sys.argv[1:]
os.setgroups(json.loads(groups)); os.setgid(int(first)); os.setuid(int(user))
found = {}
for each in wanted:
    method, target = each.split()
    connection = http.client.HTTPConnection("vpnpf", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    try:
        connection.sock.connect(path)
        connection.request(method, target)
        answer = connection.getresponse()
        found[each] = answer.status
        body = answer.read()
        if target == "/v1" and answer.status == 200:
            found["role"] = json.loads(body)["role"]
    except PermissionError:
        found[each] = "barred"
    connection.close()
print(json.dumps(found))
"""


@contextlib.asynccontextmanager
async def daemon(directory, group):
    """The routes that it has, while it serves as a user of its own that is a member of the group."""
    arguments = (str(directory), str(DAEMON), str(grp.getgrnam(GROUP).gr_gid), group)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", SERVE, *arguments, stdin=PIPE, stdout=PIPE)
    try:
        yield (await process.stdout.readline()).decode().strip().split(",")
    finally:
        process.stdin.close()
        await process.wait()


async def asked(directory, wanted, user, first, groups=()):
    """The status of each route for somebody."""
    arguments = (str(directory / name_of("home")), str(user), str(first), json.dumps(groups), *wanted)
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", ASK, *arguments, stdout=PIPE)
    return json.loads((await process.communicate())[0])


def cells(wanted, role):
    """What somebody of a role gets."""
    found = {each: expected(each, role) for each in wanted}
    return found if role == "stranger" else {**found, "role": role}


@pytest.fixture
def directory():
    """A runtime directory of the daemon's user, where every user can reach it: those above pytest's own are 0700."""
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="vpnpf-roles-") as base:
        Path(base).chmod(0o755)
        made = Path(base, "runtime")
        made.mkdir(mode=0o700)
        os.chown(made, DAEMON, DAEMON)
        yield made


async def test_every_route_for_everybody_with_a_group(directory):
    number = grp.getgrnam(GROUP).gr_gid
    async with daemon(directory, GROUP) as wanted:
        assert set(wanted) == WATCHED | set(OWNED), "say in tests/io/control_table.py who may"
        socket = directory / name_of("home")
        assert [(stat.S_IMODE(each.stat().st_mode), each.stat().st_gid) for each in (socket, directory)] == [
            (0o660, number),
            (0o710, number),
        ]
        owner, watcher = cells(wanted, "owner"), cells(wanted, "watcher")
        barred = dict.fromkeys(wanted, "barred")
        assert await asked(directory, wanted, 0, 0) == owner
        assert await asked(directory, wanted, 0, MEMBER, (MEMBER,)) == owner
        assert await asked(directory, wanted, DAEMON, DAEMON) == owner
        assert await asked(directory, wanted, DAEMON, STRANGER, (STRANGER,)) == owner
        assert await asked(directory, wanted, MEMBER, number) == watcher
        assert await asked(directory, wanted, MEMBER, MEMBER, (1, number, 70000)) == watcher
        assert await asked(directory, wanted, STRANGER, STRANGER, (1,)) == barred
        # Root's group is not root.
        assert await asked(directory, wanted, STRANGER, 0, (0,)) == barred
        # With the files open to all, the kernel's word is what is left; the daemon's group is not its user.
        socket.chmod(0o666)
        directory.chmod(0o755)
        refused = cells(wanted, "stranger")
        assert refused == dict.fromkeys(wanted, 403)
        assert await asked(directory, wanted, STRANGER, STRANGER, (1,)) == refused
        assert await asked(directory, wanted, STRANGER, 0, (0,)) == refused
        assert await asked(directory, wanted, STRANGER, DAEMON, (DAEMON,)) == refused
    assert not socket.exists()


async def test_without_a_group_nobody_but_the_owner(directory):
    number = grp.getgrnam(GROUP).gr_gid
    async with daemon(directory, "") as wanted:
        socket = directory / name_of("home")
        assert stat.S_IMODE(socket.stat().st_mode) == 0o600
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert await asked(directory, wanted, MEMBER, number) == dict.fromkeys(wanted, "barred")
        socket.chmod(0o666)
        directory.chmod(0o755)
        assert await asked(directory, wanted, MEMBER, number) == dict.fromkeys(wanted, 403)
        assert (await asked(directory, wanted, 0, 0))["role"] == "owner"
