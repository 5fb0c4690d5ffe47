"""A profile with a network namespace of its own, and programs in it and beside it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from contextlib import asynccontextmanager
from pathlib import Path

from mock_provider.host import Host, end_processes
from vpnpf.io.netns import uncover
from vpnpf.tunnels.namespace import ProfileNamespace

PYTHON = "/usr/bin/python3"
"""For programs that run as other users too."""
VPNPF = (sys.executable, "-m", "vpnpf")


class Machine(Host):
    """A host of the lab with the mounts of the whole machine, so that namespaces it names are seen by all."""

    def __init__(self, host: Host) -> None:
        super().__init__(host.role, host.name)

    def _argv(self, argv, env):
        extra = ("env", *(f"{key}={value}" for key, value in env.items())) if env else ()
        return ("nsenter", f"--net={self.path}", *extra, *argv)


class Inside(Host):
    """The namespace of a profile: programs come into it by `vpnpf exec`."""

    def __init__(self, profile: str) -> None:
        super().__init__("inside", ProfileNamespace(profile).name)
        self.profile = profile

    def _argv(self, argv, env):
        ours = [f"{key}={value}" for key, value in (env or {}).items()]
        return ("env", *ours, *VPNPF, "exec", self.profile, "--", *argv)


class Program:
    """A program that talks in lines of JSON, and is talked to in lines."""

    def __init__(self, process) -> None:
        self.process = process

    async def says(self, deadline=10.0):
        async with asyncio.timeout(deadline):
            line = await self.process.stdout.readline()
        assert line, (await self.process.stderr.read()).decode()
        return json.loads(line)

    async def asked(self, line, deadline=10.0):
        self.process.stdin.write(f"{line}\n".encode())
        await self.process.stdin.drain()
        return await self.says(deadline)


@asynccontextmanager
async def program(host, text, *arguments):
    """A Python program on a host, ended at the end."""
    process = await host.popen((PYTHON, "-u", "-c", text, *arguments), stdin=PIPE, stdout=PIPE, stderr=PIPE)
    try:
        yield Program(process)
    finally:
        if process.returncode is None:
            await asyncio.to_thread(end_processes, (process.pid,))
        await process.communicate()


def write_config(directory, profile, tunnel="proton.conf", rest="", more=""):
    """A profile with a namespace and a port for a program at 25565; returns the file's path."""
    path = Path(directory, f"{profile}.toml")
    path.write_text(f"""
[profiles.{profile}]
provider = "protonvpn"
{rest}
[profiles.{profile}.tunnel]
type = "wireguard"
config = "{tunnel}"
namespace = true
{more}
[profiles.{profile}.forwards.game]
protocols = ["tcp"]
internal_port = 25565
""")
    return path


def ready(state):
    return state["phase"] == "ready"


def left(profile):
    """What a namespace could have left on the machine."""
    namespace = ProfileNamespace(profile)
    return [path for path in (namespace.path, namespace.files.directory) if os.path.lexists(path)]


def within(profile):
    """The namespace for the test itself, with all privileges: by `ip netns exec`."""
    return Host("within", ProfileNamespace(profile).name)


def clean_up(profile):
    """Take away what a test that failed left."""
    namespace = ProfileNamespace(profile)
    if namespace.exists:
        end_processes(within(profile).processes)
        uncover(namespace.path)
    namespace.path.unlink(missing_ok=True)
    namespace.files.remove()
