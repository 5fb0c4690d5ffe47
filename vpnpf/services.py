"""Services by name: our own table (`vpnpf.core.services`), and then the machine's file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct, field

from vpnpf.core.services import TABLE, Service, parse_services

FILE = Path("/etc/services")
_LARGEST = 4 * 1024 * 1024
"""Bytes that are read of it; the whole registry of IANA is 1 MB."""


class Services(Struct, frozen=True):
    """All services that have a name here."""

    known: Mapping[str, Service] = field(default_factory=lambda: TABLE)

    @classmethod
    def load(cls, file: Path = FILE) -> Services:
        """With what the machine's file says; without, where there is none or it cannot be read."""
        try:
            with file.open("rb") as opened:
                text = opened.read(_LARGEST).decode("utf-8", "replace")
        except OSError:
            text = ""
        return cls(parse_services(text, str(file)) | dict(TABLE))

    def find(self, name: str) -> Service | None:
        """The service of a name, small and capital letters alike, or None."""
        return self.known.get(name.lower())
