"""The short form of `make fuzz` for the control socket; and that it would find something."""

from __future__ import annotations

import h11
import pytest

from tests.fuzz import control
from vpnpf.control.http import Connection


@pytest.mark.alone
async def test_no_mutated_request_crashes_or_holds_up_anything():
    result = await control.fuzz(2000, seed=7)
    assert (result.wrong, result.crashes) == ([], [])
    assert result.longest < control.AT_MOST
    assert result.asked > 20
    assert all(result.statuses[each] > 20 for each in ("200", "400", "404", "none"))


async def test_a_server_that_is_weaker_is_found_out(monkeypatch):
    def send_400_response(self, _):
        self.conn.send(h11.Response(status_code=400, headers=[]))
        raise RuntimeError

    monkeypatch.setattr(Connection, "send_400_response", send_400_response)
    result = await control.fuzz(200, seed=7)
    assert result.crashes
