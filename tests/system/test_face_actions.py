"""The face over the control socket of a real run: each key press has its effect in the kernel and at the gateway."""

from __future__ import annotations

import asyncio

import pytest

from mock_provider.product import Product, traces, unique_profile
from mock_provider.topology import EXIT
from tests.system.namespace_world import clean_up, ready, write_config
from tests.system.pressing import ON_ONE_PORT, Pressed, applied, soon
from tests.tui.pilots import closed, said, sheet
from vpnpf.tui.link import SocketLink

pytestmark = pytest.mark.system


@pytest.fixture
def profile():
    name = unique_profile()
    yield name
    clean_up(name)


@pytest.fixture
def config(provider, profile, tmp_path):
    provider.client_config(tmp_path / "proton.conf")
    path = write_config(tmp_path, profile)
    text = path.read_text().replace("namespace = true\n", "")
    path.write_text(text.replace("protonvpn", "natpmp"))
    return path


async def rules(host):
    return await host.must(("nft", "list", "table", "inet", "vpnpf"))


def table(pilot):
    return pilot.app.screen.query_one("DataTable")


def ports(gateway):
    return {each.external_port for each in gateway.mappings}


async def the_same_port_then_another(pilot, gateway):
    first, renewals = pilot.app.view.port, len(gateway.log)
    assert ports(gateway) == {first}
    await pilot.press("r")
    await soon(pilot, lambda: f"confirmed: {first}" in said(pilot))
    assert len(gateway.log) > renewals
    assert ports(gateway) == {first}
    await pilot.press("n")
    await sheet(pilot, "Confirm")
    await pilot.press("right", "enter")
    await soon(pilot, lambda: f"{first} → " in said(pilot))
    await soon(pilot, lambda: pilot.app.view.port not in {None, first})
    assert ports(gateway) == {pilot.app.view.port}


async def nobody_comes_in_and_then_again(pilot, host, peer):
    port = pilot.app.view.port
    with host.socket() as server:
        server.bind(("0.0.0.0", 25565))
        server.listen()
        assert (await peer.connect_tcp(EXIT, port)).connected
        for mode, keys, comes_in in (("block-all", ("down", "down"), False), ("allow-list", ("up", "up"), True)):
            await closed(pilot)
            await pilot.press("p")
            await sheet(pilot, "Policy")
            await pilot.press(*keys, "enter")
            await applied(pilot)
            await soon(pilot, lambda mode=mode: f"In force: {mode}" in said(pilot))
            assert (await peer.connect_tcp(EXIT, port)).connected is comes_in


async def an_entry_with_an_end_is_opened_and_closed(pilot, host):
    await closed(pilot)
    await pilot.press("a")
    await sheet(pilot, "Entries")
    await pilot.press(*"2222/tcp", "space", *"for", "space", *"2h", "enter")
    await applied(pilot)
    await soon(pilot, lambda: "✓ In force" in said(pilot))
    await soon(pilot, lambda: table(pilot).row_count == 2)
    await soon(pilot, lambda: table(pilot).get_cell("1", "ends").plain.startswith("1:59:"))
    there = await rules(host)
    assert "2222" in there
    assert "expires 1h59m" in there
    table(pilot).focus()
    await pilot.press("down", "delete")
    await applied(pilot)
    await soon(pilot, lambda: table(pilot).row_count == 1)
    assert "2222" not in await rules(host)
    await pilot.press("escape")


async def what_is_open_and_the_report(pilot, report):
    await closed(pilot)
    await pilot.press("x")
    await soon(pilot, lambda: type(pilot.app.screen).__name__ == "Exposure")
    await pilot.press("escape")
    await closed(pilot)
    await pilot.press("w")
    await soon(pilot, lambda: type(pilot.app.screen).__name__ == "Report")
    await pilot.press("enter")
    await soon(pilot, lambda: "Saved: " in said(pilot))
    text = report.read_text()
    assert "READY" in text.upper()
    assert EXIT not in text


async def down_and_up_again(pilot, host, gateway, before, config):
    await closed(pilot)
    await pilot.press("d")
    await sheet(pilot, "Confirm")
    await pilot.click("#yes")
    await soon(pilot, lambda: "Disconnected" in said(pilot))
    assert not gateway.mappings
    assert await traces(host) == before
    await closed(pilot)
    good = config.read_text()
    config.write_text(good.replace('provider = "natpmp"', 'provider = "natpmq"'))
    await pilot.press("d")
    await soon(pilot, lambda: type(pilot.app.screen).__name__ == "Told")
    assert "natpmq" in said(pilot)
    assert "Nothing was changed" in said(pilot)
    assert await traces(host) == before
    await pilot.press("escape")
    await closed(pilot)
    config.write_text(good)
    await pilot.press("d")
    await soon(pilot, lambda: "Connected: the port is" in said(pilot))
    assert ports(gateway) == {pilot.app.view.port}


async def test_what_is_pressed_is_done(provider, profile, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    host, gateway = provider.lab.client, provider.gateway
    before = await traces(host)
    async with Product(host, tmp_path, config, profile) as product:
        await product.until(ready)
        link = SocketLink(profile, (tmp_path / "runtime",))
        async with Pressed(link).run_test(size=(120, 40)) as pilot:
            await soon(pilot, lambda: pilot.app.view.port)
            await the_same_port_then_another(pilot, gateway)
            await nobody_comes_in_and_then_again(pilot, host, provider.peer)
            await an_entry_with_an_end_is_opened_and_closed(pilot, host)
            await what_is_open_and_the_report(pilot, tmp_path / f"vpnpf-report-{profile}.txt")
            await down_and_up_again(pilot, host, gateway, before, config)
            await closed(pilot)
            await pilot.press("Q")
            await sheet(pilot, "Confirm")
            await pilot.click("#yes")
            await soon(pilot, lambda: pilot.app.return_value is not None)
        assert pilot.app.return_value.startswith("vpnpf has ended")
        assert pilot.app.pressed == ON_ONE_PORT
        async with asyncio.timeout(10):
            assert await product.ended() == 0
    assert not gateway.mappings
    assert await traces(host) == before
