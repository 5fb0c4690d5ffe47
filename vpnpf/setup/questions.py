"""Which question comes next: a pure state machine, so that a plain prompt, a wizard and a test all drive the same.

    while question := next_question(found, answers):
        answers = answer(found, answers, question, said)         # checking.py; raises Mistaken

To go back, keep the earlier `Answers`. A file that the person names is looked at first (`finding.name_file`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from msgspec import Struct

from vpnpf.interfaces import Manifest, Option
from vpnpf.printable import printable
from vpnpf.setup.answers import Answers
from vpnpf.setup.found import Found, FoundClient, TunnelFile
from vpnpf.setup.torrent_settings import usual_port

NONE = "none"
_HERE = "found here"
_BRIEF = 46
"""Characters that a line of 80 columns has beside the names of providers."""
_LONGEST_FILE = 40
"""Characters of a file's name in a sentence."""
OTHER = "other "
"""Before the id of a type, for a torrent client that was not found."""
KNOWN = "known "
"""Before the name of a client that is configured already."""
OPTION = "option "
"""Before the name of a provider's option, as the key of its question."""


class Choice(Struct, frozen=True):
    """One that can be chosen."""

    value: str
    title: str
    note: str = ""
    refused: str = ""
    """Why it cannot be, as a sentence; empty: it can."""
    hint: str = ""
    """The next step then."""
    brief: str = ""
    """The note, or why not, in a few words, where there is a line for it and no more; empty: as it is."""


class Question(Struct, frozen=True):
    """What is asked."""

    key: str
    """The field of `Answers` that it fills, or "option NAME"."""
    text: str
    """The question itself, on one line."""
    why: str = ""
    """What to know for it, in a sentence or two."""
    choices: tuple[Choice, ...] = ()
    default: str | None = None
    """What an empty answer means; None: there has to be one. Of several, the first alone."""
    free: bool = False
    """Whether another answer than the choices is taken."""
    many: bool = False
    """Whether several may be chosen."""
    hidden: bool = False
    """Whether it is not to be shown while it is typed."""
    optional: bool = False
    """Whether it may be left empty."""


def next_question(found: Found, answers: Answers) -> Question | None:
    """What to ask now; None: all is known."""
    return next((asked for ask in _ORDER if (asked := ask(found, answers)) is not None), None)


def _provider(found: Found, answers: Answers) -> Question | None:
    if answers.provider is not None:
        return None
    seen = [file.provider for file in found.files if file.provider]
    good = [file.provider for file in found.files if file.provider and not file.bad]
    living = [each for each in found.providers if not each.ended]
    first = next((each.id for each in living if each.id in good), None)
    # What was found comes first, what has no ports to give last.
    ordered = sorted(found.providers, key=lambda each: (bool(each.ended), each.id not in seen))
    choices = tuple(
        Choice(
            each.id,
            each.name,
            f"{_HERE}: {each.summary}" if each.id in seen and not each.ended else each.summary,
            f"{each.ended.rstrip('.')}." if each.ended else "",
            brief=_brief(each, found=each.id in seen),
        )
        for each in ordered
    )
    why = f"{_found(found)} The port comes from your provider, and each gives it in its own way."
    return Question("provider", "Which VPN provider do you have?", why, choices, first)


def _brief(manifest: Manifest, *, found: bool) -> str:
    """Of a provider in a list, without the field's terms where it can be said without."""
    if found and not manifest.ended:
        return _HERE
    if manifest.ended or len(manifest.summary) <= _BRIEF:
        return manifest.summary
    if manifest.direct:
        return "your own router, without a VPN"
    if manifest.supplies:
        return "you log in; there is no file to download"
    if manifest.fixed_ports:
        return "you set the port on the provider's site"
    return "its server gives the port by itself" if manifest.help else "another, whose server gives the port by itself"


def _found(found: Found) -> str:
    """What was found, as a sentence."""
    of = [file for file in found.files if file.provider]
    files = [file for file in of if not file.bad] or of
    if not files:
        return "No file of a provider was found here, which is no harm."
    first = files[0]
    one = f"{printable(first.path.name, _LONGEST_FILE)}, of {found.provider(first.provider).name}"
    more = f", and {len(files) - 1} more" if len(files) > 1 else ""
    return f"Found: {one}{more}."


def _tunnel(found: Found, answers: Answers) -> Question | None:
    """The type; of a file it is that of the file."""
    if answers.tunnel is not None:
        return None
    manifest = _chosen(found, answers)
    if not manifest.supplies:
        return None
    names = {"wireguard": "WireGuard", "openvpn": "OpenVPN"}
    choices = tuple(Choice(each, names.get(each, each)) for each in manifest.supplies)
    why = f"{manifest.name} makes the tunnel's configuration itself, so there is no file to download."
    return Question("tunnel", "Which kind of tunnel?", why, choices, manifest.supplies[0])


def _files(found: Found, answers: Answers) -> Question | None:
    if answers.files is not None:
        return None
    manifest = _chosen(found, answers)
    fitting = [each for each in found.files if each.provider in {"", manifest.id}]
    fitting.sort(key=lambda each: (bool(each.bad), each.provider != manifest.id))
    good = [each for each in fitting if not each.bad]
    why = manifest.help if not good else ""
    if len(good) > 1:
        why = "Each is a server: if you name several, the next has its turn when one is away."
    text = "Which configuration file?" if fitting else "Where is the configuration file of your provider?"
    choices = tuple(_file(each) for each in fitting)
    default = str(good[0].path) if good else None
    return Question("files", text, why, choices, default, free=True, many=True)


def _file(file: TunnelFile) -> Choice:
    refused = f"{file.bad}." if file.bad else ""
    return Choice(str(file.path), str(file.path), file.endpoint, refused, file.hint)


def _tunnel_user(found: Found, answers: Answers) -> Question | None:
    if answers.tunnel_user is not None:
        return None
    manifest = _chosen(found, answers)
    added = f" {manifest.username_suffix} is added to it." if manifest.username_suffix else ""
    why = f"The file asks for one: it is OpenVPN's own, which your provider shows in your account, often not the account's.{added}"
    return Question("tunnel_user", "User name for the VPN server?", why)


def _tunnel_secret(_found: Found, answers: Answers) -> Question | None:
    if answers.tunnel_secret is not None:
        return None
    return Question("tunnel_secret", "Password for the VPN server?", hidden=True)


def _region(found: Found, answers: Answers) -> Question | None:
    if answers.region is not None:
        return None
    option = region_option(_chosen(found, answers))
    assert option is not None  # else it was answered with the provider
    return Question(
        "region", "Which region? Empty: the nearest.", _sentence(option.help), default="", free=True, optional=True
    )


def _options(found: Found, answers: Answers) -> Question | None:
    manifest = _chosen(found, answers)
    for option in manifest.options:
        if option.required and option.name not in answers.options:
            return Question(OPTION + option.name, f"{option.name}: {option.help}?", manifest.help)
    return None


def _account_user(found: Found, answers: Answers) -> Question | None:
    if answers.account_user is not None:
        return None
    manifest = _chosen(found, answers)
    looks = f" ({manifest.account_user})" if manifest.account_user else ""
    why = f"The one of your account{looks}, as on its web site; the password is asked for next. Leave it empty to log in later."
    return Question("account_user", f"User name at {manifest.name}?", why, default="", optional=True)


def _account_secret(found: Found, answers: Answers) -> Question | None:
    if answers.account_secret is not None:
        return None
    return Question("account_secret", f"Password at {_chosen(found, answers).name}?", hidden=True)


def _client(found: Found, answers: Answers) -> Question | None:
    if answers.client is not None:
        return None
    known = found.standing.clients if found.standing else {}
    choices = [Choice(KNOWN + name, name, f"{url}, configured already") for name, url in known.items()]
    here = [each for each in found.clients if each.url not in known.values()]
    choices += [Choice(client_value(each), _title(found, each), _note(each)) for each in here]
    first = choices[0].value if known or (here and here[0].runs) else NONE
    choices += [
        Choice(OTHER + each.id, f"{each.name} at another address", "you are asked for it")
        for each in found.client_types
    ]
    choices.append(
        Choice(
            NONE,
            "none",
            "for a game, a camera, a web server: the port is announced by events",
            brief="for a game, a camera, a web server",
        )
    )
    why = "It is told the port whenever that changes. Its web interface has to be switched on in its settings."
    return Question("client", "Which torrent client gets the port?", why, tuple(choices), first)


def _title(found: Found, client: FoundClient) -> str:
    return f"{found.client_type(client.type).name} at {client.url}"


def _note(client: FoundClient) -> str:
    if not client.runs:
        return "it has settings here, and does not run now"
    return (
        "it runs, and asks for a password"
        if client.asks_login
        else "it runs, and lets this machine in without a password"
    )


def _client_url(found: Found, answers: Answers) -> Question | None:
    if answers.client_url is not None:
        return None
    kind = answers.client_type or ""
    why = f"Where a browser finds it. Switch it on in the settings of {found.client_type(kind).name} first."
    return Question(
        "client_url", "Address of its web interface?", why, default=f"http://127.0.0.1:{usual_port(kind)}", free=True
    )


def _client_user(_found: Found, answers: Answers) -> Question | None:
    if answers.client_user is not None:
        return None
    why = f'"{NONE}" if it asks for none, or the password is an API key.'
    usual = "admin" if answers.client_type == "qbittorrent" else NONE
    return Question("client_user", "User name of the web interface?", why, default=usual, free=True)


def writes_later(found: Found, answers: Answers) -> bool:
    """Whether an empty password of the client means that the person writes it later: it was seen to ask for one."""
    return any(each.asks_login for each in found.clients if client_value(each) == answers.client)


def _client_secret(found: Found, answers: Answers) -> Question | None:
    if answers.client_secret is not None:
        return None
    later = writes_later(found, answers)
    empty = "Empty: you write it into the configuration later" if later else "Empty: it asks for none"
    why = f"It is tried once. {empty}."
    return Question("client_secret", "Password of the web interface?", why, default="", hidden=True, optional=True)


def _keep(found: Found, answers: Answers) -> Question | None:
    if answers.keep is not None:
        return None
    choices = (
        Choice(
            "file", "in a file beside the configuration", "mode 0600; what `sudo vpnpf run` and the service can read"
        ),
        Choice("keyring", "in your keyring", "only if vpnpf runs as you, in your session"),
    )
    return Question("keep", "Where is the password kept?", choices=choices, default="file") if found.keyring else None


def _policy(_found: Found, answers: Answers) -> Question | None:
    if answers.policy is not None:
        return None
    choices = (
        Choice("allow-list", "the forwarded port alone", "and what you add to the list later; all else stays shut"),
        Choice("block-all", "nothing", "the port is held, and nobody comes in"),
        Choice("open-all", "everything", "every program that listens on this machine can be reached from the internet"),
    )
    return Question("policy", "What may come in from the internet?", "", choices, "allow-list")


def _name(found: Found, answers: Answers) -> Question | None:
    if answers.name is not None:
        return None
    taken = found.standing.profiles if found.standing else ()
    why = f"Letters, digits, - and _. Taken: {', '.join(taken)}." if taken else "Letters, digits, - and _."
    return Question("name", "A name for this profile?", why, default=next(_free(taken)), free=True)


def _free(taken: tuple[str, ...]) -> Iterator[str]:
    yield from (
        name for name in ("home", *(f"home-{number}" for number in range(2, len(taken) + 3))) if name not in taken
    )


def client_value(client: FoundClient) -> str:
    """How the choice of a client that was found is called."""
    return f"{client.type} {client.url}"


def region_option(manifest: Manifest) -> Option | None:
    """The provider's option that says which region, if it makes tunnels itself."""
    return next((each for each in manifest.options if each.name == "region" and manifest.supplies), None)


def _chosen(found: Found, answers: Answers) -> Manifest:
    return found.provider(answers.provider or "")


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


_ORDER: tuple[Callable[[Found, Answers], Question | None], ...] = (
    _provider,
    _tunnel,
    _files,
    _tunnel_user,
    _tunnel_secret,
    _region,
    _options,
    _account_user,
    _account_secret,
    _client,
    _client_url,
    _client_user,
    _client_secret,
    _keep,
    _policy,
    _name,
)
