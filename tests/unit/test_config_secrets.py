"""A secret in the wrong place of a configuration: what is said of it goes over the control socket, and never quotes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from vpnpf.config import parse
from vpnpf.errors import ConfigError

S = "hunter2hunter2"
TEXT = """[profiles.home]
provider = "%(provider)s"
%(prof)s
[profiles.home.tunnel]
type = "wireguard"
%(tun)s
[profiles.home.forwards.torrent]
client = "qb"
[clients.qb]
type = "qbittorrent"
url = "%(url)s"
%(cl)s
%(more)s
"""
USUAL = {
    "provider": "protonvpn",
    "prof": "",
    "tun": 'config = "x.conf"',
    "url": "http://127.0.0.1:8080",
    "cl": "",
    "more": "",
}
WRONG = {
    "pw string": {"cl": f'password = "{S}"'},
    "pw list": {"cl": f'password = ["{S}"]'},
    "pw int table": {"cl": f'password = {{ keyring = ["{S}"] }}'},
    "pw two": {"cl": f'password = {{ keyring="{S}", env="{S}" }}'},
    "url userinfo": {"url": f"http://u:{S}@127.0.0.1:8080"},
    "url query": {"url": f"http://127.0.0.1:8080/?p={S}"},
    "url bad": {"url": f"http://[{S}"},
    "url port": {"url": f"http://127.0.0.1:{S}"},
    "account str": {"prof": f'account = "user\\n{S}"'},
    "account tbl": {"prof": f'[profiles.home.account]\npassword="{S}"\nusername="u"'},
    "opts": {"more": f'[profiles.home.options]\npassword="{S}"\nregion=["{S}"]\ntoken="{S}"'},
    "tun pw": {"tun": f'config="x.conf"\npassword="{S}"\nusername=5'},
    "tun type": {"tun": f'config="x.conf"\nprivate_key="{S}"'},
    "toml broken": {"cl": f'password = "{S}'},
    "toml broken2": {"cl": f"password = {S}"},
    "toml broken3": {"cl": f'password = "{S}\\q"'},
    "toml dup": {"cl": f'password = {{ keyring = "{S}" }}\npassword = {{ keyring = "{S}" }}'},
    "toml ctl": {"cl": f'password = "{S}\x01"'},
    "pia opts": {
        "provider": "privateinternetaccess",
        "more": f'[profiles.home.options]\npassword="{S}"\nregion=["{S}"]',
    },
    "exit": {"prof": f'exit_check = "http://u:{S}@h/"'},
    "group": {"more": f'[control]\ngroup=["{S}"]'},
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_a_mistake_does_not_quote_it(wrong):
    text = TEXT % (USUAL | wrong)
    assert S in text
    usual = _said(TEXT % USUAL)
    said = _said(text)
    assert said - usual, "nothing was wrong with it"
    assert not [each for each in said if S in each]


def _said(text):
    with pytest.raises(ConfigError) as caught:
        parse(text, Path("/nowhere/config.toml"))
    return {f"{each.where} {each.what} {each.hint}" for each in caught.value.mistakes}
