"""How UPnP devices are found (UPnP Device Architecture 1.1, section 1.3): bytes into values and back.

Whoever is on the link may answer a search, so an answer is worth something only if it comes from the gateway and
sends us nowhere but to the gateway.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from msgspec import Struct

PORT = 1900
GROUP = "239.255.255.250"
LARGEST = 2048
"""Bytes; a longer answer is none. Real ones have about 500."""
MX = 2
"""Seconds within which devices spread their answers to a multicast search."""
TARGETS = (
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
)
"""What is searched for, the best first."""
_LONGEST_URL = 512


class Found(Struct, frozen=True):
    """A device that answered."""

    rank: int
    """Place in TARGETS of what it says it is."""
    location: str
    """URL of its description, on the gateway itself."""


def search(target: str, host: str) -> bytes:
    """Write a search for one target; `host` is where it goes, an IPv4 address (section 1.3.2)."""
    lines = ("M-SEARCH * HTTP/1.1", f"HOST: {host}:{PORT}", 'MAN: "ssdp:discover"', f"MX: {MX}", f"ST: {target}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def parse(data: bytes, sender: str, gateway: str) -> Found | None:
    """Read an answer (section 1.3.3); None for what is not an answer of this gateway to our search."""
    if sender != gateway or len(data) > LARGEST:
        return None
    status, *lines = data.decode("latin-1").split("\r\n")
    if not (status.startswith("HTTP/1.") and status.split(" ")[1:2] == ["200"]):
        return None
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if colon:
            headers.setdefault(name.strip().lower(), value.strip())
    target, location = headers.get("st", ""), headers.get("location", "")
    if target not in TARGETS or not is_on(location, gateway):
        return None
    return Found(TARGETS.index(target), location)


def is_on(url: str, gateway: str) -> bool:
    """Whether a URL is one of plain http on this very IPv4 address, and can be asked as it stands."""
    if len(url) > _LONGEST_URL or any(not "!" <= character <= "~" for character in url):
        return False
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return False
    return parts.scheme == "http" and parts.hostname == gateway and "@" not in parts.netloc and port != 0
