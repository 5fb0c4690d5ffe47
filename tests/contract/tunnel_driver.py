"""A tunnel back end in a process of its own, for tests: it can be put into a namespace, and killed.

    python -c "from tests.contract.tunnel_driver import main; main()" ARGUMENT

ARGUMENT and the lines of standard input and output are pickled values in base64. The argument is (class, options,
{"module:NAME": value to set}); a line in is (method, arguments) or "cancel"; a line out is (True, answer) or (False,
exception). One call at a time. A call that would block the loop fails.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import pickle
import sys
import traceback

from blockbuster import blockbuster_ctx

from vpnpf.errors import VpnpfError


def encode(value: object) -> str:
    return base64.b64encode(pickle.dumps(value)).decode()


def decode(text: str | bytes) -> object:
    return pickle.loads(base64.b64decode(text))


class CancelledThere(Exception):
    """The call was cancelled."""


class CrashedThere(Exception):
    """The call raised what no back end may raise."""


async def call(backend: object, name: str, arguments: tuple[object, ...]) -> None:
    method = getattr(backend, name)
    try:
        if asyncio.iscoroutinefunction(method):
            answer = (True, await method(*arguments))
        else:
            answer = (True, await asyncio.to_thread(method, *arguments))
    except asyncio.CancelledError:
        answer = (False, CancelledThere())
    except VpnpfError as error:
        answer = (False, error)
    except Exception:  # noqa: BLE001 - that there was one is the answer
        answer = (False, CrashedThere(traceback.format_exc()))
    sys.stdout.write(f"{encode(answer)}\n")
    sys.stdout.flush()


async def serve(backend: object) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    task = None
    while line := await lines.readline():
        order = decode(line)
        if order == "cancel":
            task.cancel()
        else:
            task = asyncio.create_task(call(backend, *order))
            await asyncio.sleep(0)  # cancelled before it begins, it would answer nothing


def main() -> None:
    kind, options, settings = decode(sys.argv[1])
    for name, value in settings.items():
        module, _, attribute = name.partition(":")
        setattr(importlib.import_module(module), attribute, value)
    backend = kind(options)
    with blockbuster_ctx("vpnpf") as guard:
        for name in ("os.stat", "os.access"):
            guard.functions[name].can_block_in("vpnpf/io/process.py", "find")  # once for each program
        guard.functions["os.read"].can_block_in(
            "vpnpf/io/process.py", "_start"
        )  # until the program begins, as in asyncio
        asyncio.run(serve(backend))
