"""Which address the internet sees: what counts as an answer, and that it is asked for by the tunnel's device."""

import pytest

from tests.unit.engine_world import TUNNEL
from vpnpf.errors import Failure
from vpnpf.io.exit_check import HttpExitCheck, address_in


@pytest.mark.parametrize(
    ("body", "address"),
    [
        (b"198.51.100.11\n", "198.51.100.11"),
        (b'{"ip": "198.51.100.11"}', "198.51.100.11"),
        (b'{"country": "XX", "address": "2001:DB8::1"}', "2001:db8::1"),
        (b'"198.51.100.11"', "198.51.100.11"),
        (b"", None),
        (b"<html>198.51.100.11</html>", None),
        (b'{"country": "XX"}', None),
        (b'{"ip": 3325256715}', None),
        (b"[" * 10000, None),
        (b"\xff\xfe", None),
        (b"198.51.100.11, 10.0.0.1", None),
    ],
)
def test_what_is_an_address(body, address):
    assert address_in(body) == address


async def test_without_the_device_nobody_is_asked():
    with pytest.raises(Failure, match="No such device"):
        await HttpExitCheck("http://127.0.0.1:9/").address(TUNNEL)
