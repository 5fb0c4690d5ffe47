"""A run of vpnpf that is as talkative as it can be, and all that it shows or leaves behind gathered."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import select
import signal
import sys

from mock_provider.product import Product
from tests.system import canaries
from vpnpf.control.place import name_of, short


def write_secret(path, text):
    path.touch(mode=0o600)
    path.write_text(text + "\n")


class Run:
    """Runs of one profile, with all that they show gathered."""

    def __init__(self, host, directory, config, profile, env):
        self.host, self.directory, self.config, self.profile = host, directory, config, profile
        self.shown: dict[str, bytes] = {}
        """By where it was seen."""
        self.crash = directory / "crash"
        (directory / "plugin").mkdir(parents=True, exist_ok=True)
        (directory / "plugin" / "sitecustomize.py").write_text(canaries.CRASH)
        path = f"{directory / 'plugin'}:{env.get('PYTHONPATH', '')}".rstrip(":")
        self.env = {**env, "PYTHONPATH": path, "VPNPF_DEBUG": "1", "CANARY_CRASH": str(self.crash)}
        self._runs = 0

    @contextlib.asynccontextmanager
    async def run(self):
        self._runs += 1
        trace = self.directory / "trace"
        # Cores as large as they like, in a directory of their own.
        wrap = ("env", f"--chdir={self.cores}", "prlimit", "--core=unlimited", *canaries.traced(trace))
        arguments = ("--events", "--verbose")
        async with Product(
            self.host, self.directory, self.config, self.profile, env=self.env, wrap=wrap, arguments=arguments
        ) as product:
            try:
                yield product
            finally:
                product.signal(signal.SIGKILL)
                await self.over(product)
        self.shown[f"standard error {self._runs}"] = product.talk.encode()
        events = "\n".join(json.dumps(event, ensure_ascii=False) for event in product.events)
        self.shown[f"events {self._runs}"] = events.encode()
        self.shown[f"programs begun {self._runs}"] = canaries.begun(trace)
        trace.unlink()

    async def over(self, product):
        """Wait for its end; returns its status."""
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(product.pid)
            try:
                ended, _, _ = await asyncio.to_thread(select.select, [handle], [], [], 20)
                assert ended, "it does not end"
            finally:
                os.close(handle)
        # wireguard-go outlives it, and so does strace, which holds the pipes that are read to their ends.
        for where, data in canaries.of_processes(self.host.processes).items():
            if where.endswith("cmdline") and data.startswith(b"strace\0"):
                os.kill(int(where.split("/")[2]), signal.SIGTERM)
        return await product.ended()

    @property
    def cores(self):
        directory = self.directory / "cores"
        directory.mkdir(exist_ok=True)
        return directory

    async def ask(self, *others):
        """All that can be asked of a run, and what its processes show; `others` are processes of somebody else."""
        vpnpf = (sys.executable, "-m", "vpnpf")
        about = (self.profile, "--config", str(self.config))
        directories = {f"{name}_DIRECTORY": str(self.directory / name.lower()) for name in ("STATE", "RUNTIME")}
        env = {**self.env, **directories, "HOME": str(self.directory), "CANARY_CRASH": ""}
        commands = {
            "report": ("report", *about),
            "status": ("status", self.profile),
            "status as JSON": ("status", self.profile, "--json"),
            "policy": ("policy", "show", self.profile),
            "exposure": ("exposure", *about),
            "check-config": ("check-config", "--config", str(self.config)),
        }
        runs = [self.host.run((*vpnpf, *argv), env=env, deadline=30) for argv in commands.values()]
        for name, done in zip(commands, await asyncio.gather(*runs), strict=True):
            assert "Traceback" not in done.stderr
            self.shown[name] = f"{done.stdout}\n{done.stderr}".encode()
            assert done.stdout, (name, done.stderr)
        for line in (b"{}\n", b"nonsense\n", b'{"version": 1, "verb": "state", "arguments": {}}\n'):
            with short(self.directory / "runtime") as near:
                reader, writer = await asyncio.open_unix_connection(f"{near}/{name_of(self.profile)}")
            writer.write(line)
            self.shown[f"the control socket's answer to {line!r}"] = await reader.read()
            writer.close()
        self.shown |= canaries.of_processes(set(self.host.processes) - set(others))

    def hits(self, secrets):
        """Where any of them is that it should not be."""
        hits = [hit for where, data in self.shown.items() for hit in canaries.found(where, data, secrets)]
        state, runtime = self.directory / "state", self.directory / "runtime"
        return hits + canaries.in_files((state, runtime, self.cores), secrets, but=[state / "secrets"])

    def kept(self, secrets):
        """The names of those that are among the secrets on disk; they have to be there to be found anywhere."""
        text = b"".join(path.read_bytes() for path in (self.directory / "state" / "secrets").iterdir())
        return {name for name, secret in secrets.items() if canaries.found("", text, {name: secret})}
