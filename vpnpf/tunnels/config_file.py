"""Reading a provider's configuration file."""

from __future__ import annotations

import os
import stat

from vpnpf.errors import ConfigError, Mistake

LARGEST = 1 << 20
"""Bytes; a file with certificates in it has a few thousand."""


def read_text(path: str) -> str:
    """The whole text. Raises ConfigError if it cannot be read, or is no file of text."""
    data = read_bytes(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise _mistake(f"{path}:{line}", "it is not UTF-8 text", "download it anew") from error


def read_bytes(path: str) -> bytes:
    """All of it. Raises ConfigError if it cannot be read, or is no file."""
    try:
        # A pipe or a device would keep us waiting, or never end.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise _mistake(path, "it is not a file", "give the file that your provider has for you")
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise _mistake(path, error.strerror or str(error), "download it from your provider") from error
    if len(data) > LARGEST:
        raise _mistake(path, f"it is larger than {LARGEST >> 20} MiB", "is this the right file?")
    return data


def _mistake(path: str, what: str, hint: str) -> ConfigError:
    return ConfigError((Mistake(path, what, hint),))
