"""An answer taken in, or a sentence that says what is wrong with it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec.structs import replace

from vpnpf.config_checker import is_local, wrong_url
from vpnpf.config_forwards import NAME, NO_NAME
from vpnpf.interfaces import Manifest, Option
from vpnpf.model import ForwardSpec
from vpnpf.secrets import LARGEST
from vpnpf.setup.answers import Answers
from vpnpf.setup.found import Found
from vpnpf.setup.questions import KNOWN, NONE, OPTION, OTHER, Choice, Question, client_value, region_option

FORWARD = "torrent"
"""What the forward is called."""
_LONGEST_NAME = 256
"""Characters of a user name or region."""
_LONGEST_SECRET = LARGEST // 2 - 1
"""Bytes, so that a user name fits on a line before it."""


class Mistaken(ValueError):
    """An answer that cannot be taken: a sentence for the person, with the next step."""


def answer(found: Found, answers: Answers, question: Question, said: str | tuple[str, ...]) -> Answers:
    """The answers with one more; an empty text is the default. Raises Mistaken."""
    given = (said,) if isinstance(said, str) else said
    values = [text for each in given if (text := each if question.hidden else each.strip())]
    if not values and question.default:
        values = [question.default]
    if not values and not question.optional:
        raise Mistaken("An answer is needed.")
    if len(values) > 1 and not question.many:
        raise Mistaken("Only one can be chosen.")
    for value in values:
        _choosable(question, value)
    if question.key.startswith(OPTION):
        return _option(found, answers, question.key.removeprefix(OPTION), values[0])
    if question.many:
        return _files(found, answers, tuple(values))
    return _TAKE[question.key](found, answers, values[0] if values else "")


def client_again(answers: Answers) -> Answers:
    """The answers without the login of the torrent client: it was refused."""
    return replace(answers, client_user=None, client_secret=None, keep=None)


def _choosable(question: Question, value: str) -> None:
    chosen = next((each for each in question.choices if each.value == value), None)
    if chosen is None:
        if question.choices and not question.free:
            raise Mistaken(f"It is none of: {', '.join(each.value for each in question.choices)}.")
    elif chosen.refused:
        raise Mistaken(_refusal(chosen))


def _refusal(choice: Choice) -> str:
    return f"{choice.refused} Next: {choice.hint.rstrip('.')}." if choice.hint else choice.refused


def _provider(found: Found, answers: Answers, value: str) -> Answers:
    manifest = found.provider(value)
    filled = replace(answers, provider=value)
    if manifest.direct:
        filled = replace(filled, tunnel=NONE, policy="")
    if manifest.direct or manifest.supplies:
        filled = replace(filled, files=(), tunnel_user="", tunnel_secret="")  # - there is none
    if region_option(manifest) is None:
        filled = replace(filled, region="")
    asks = manifest.account and value not in found.logged_in
    return filled if asks else replace(filled, account_user="", account_secret="")


def _tunnel(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, tunnel=value)


def _files(found: Found, answers: Answers, values: tuple[str, ...]) -> Answers:
    paths = tuple(dict.fromkeys(map(Path, values)))
    files = [found.file(path) for path in paths]
    known = [file for file in files if file is not None]
    if len(known) < len(files):
        raise Mistaken("The file was not looked at: give its whole path.")
    for file in known:
        if file.bad:
            raise Mistaken(_refusal(Choice("", "", "", f"{file.path}: {file.bad}.", file.hint)))
        if file.provider not in {"", answers.provider}:
            name = found.provider(file.provider).name
            raise Mistaken(f"{file.path} is a file of {name}. Choose another file, or go back and choose {name}.")
    if len({file.type for file in known}) > 1:
        raise Mistaken("They are not of one type. Choose files for WireGuard, or files for OpenVPN.")
    filled = replace(answers, files=paths, tunnel=known[0].type)
    asks = any(file.needs_login for file in known)
    return filled if asks else replace(filled, tunnel_user="", tunnel_secret="")


def _tunnel_user(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, tunnel_user=_text(value))


def _tunnel_secret(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, tunnel_secret=_secret(value))


def _region(found: Found, answers: Answers, value: str) -> Answers:
    option = region_option(found.provider(answers.provider or ""))
    if value and option is not None and (wrong := _wrong_with(option, value)):
        raise Mistaken(f"It is {wrong}.")
    return replace(answers, region=_text(value))


def _option(found: Found, answers: Answers, name: str, text: str) -> Answers:
    manifest = found.provider(answers.provider or "")
    option = next(each for each in manifest.options if each.name == name)
    value = _typed(option, _text(text))
    for item in value if isinstance(value, list) else [value]:
        if wrong := _wrong_with(option, item):
            raise Mistaken(f"{item}: {wrong}. It should be: {option.help}.")
    filled: Mapping[str, object] = {**answers.options, name: value}
    if all(each.name in filled for each in manifest.options if each.required):
        _together(manifest, filled)
    return replace(answers, options=filled)


def _typed(option: Option, text: str) -> object:
    if option.type is bool:
        if text.lower() not in {"yes", "no", "true", "false"}:
            raise Mistaken("Answer yes or no.")
        return text.lower() in {"yes", "true"}
    if option.type is int:
        return _number(text)
    if option.type is list:
        parts = text.strip("[]").replace(",", " ").split()
        return [_number(part) if part.isdigit() and part.isascii() else part.strip("\"'") for part in parts]
    return text


def _number(text: str) -> int:
    longest = 12
    if not (text.isascii() and text.isdigit() and len(text) <= longest):
        raise Mistaken("It is not a whole number.")
    return int(text)


def _wrong_with(option: Option, value: object) -> str:
    try:
        return option.check(value)
    except Exception as error:  # noqa: BLE001 - a plug-in's own code, given whatever somebody wrote
        return f"its plug-in could not check it ({type(error).__name__})"


def _together(manifest: Manifest, options: Mapping[str, object]) -> None:
    try:
        objections = tuple(manifest.check(options, (ForwardSpec(FORWARD),)))
    except Exception as error:  # noqa: BLE001 - likewise
        raise Mistaken(f"Its plug-in could not check it ({type(error).__name__}).") from None
    for objection in objections:
        raise Mistaken(f"{objection.what}. Next: {objection.hint}." if objection.hint else f"{objection.what}.")


def _account_user(_found: Found, answers: Answers, value: str) -> Answers:
    filled = replace(answers, account_user=_text(value))
    return filled if value else replace(filled, account_secret="")


def _account_secret(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, account_secret=_secret(value))


def _client(found: Found, answers: Answers, value: str) -> Answers:
    filled = replace(answers, client=value)
    if value == NONE or value.startswith(KNOWN):
        known = value.removeprefix(KNOWN) if value.startswith(KNOWN) else ""
        return _kept(
            replace(filled, client_known=known, client_type="", client_url="", client_user="", client_secret="")
        )
    if value.startswith(OTHER):
        return replace(filled, client_type=value.removeprefix(OTHER))
    client = next(each for each in found.clients if client_value(each) == value)
    filled = replace(filled, client_type=client.type, client_url=client.url, client_user=client.username or None)
    # What lets this machine in without a password needs none.
    return _kept(replace(filled, client_user="", client_secret="")) if client.asks_login is False else filled


def _client_url(found: Found, answers: Answers, value: str) -> Answers:
    url = value.rstrip("/")
    if wrong := wrong_url(url):
        raise Mistaken(f"{wrong[:1].upper()}{wrong[1:]}. Write it as http://127.0.0.1:8080.")
    if url in (found.standing.clients.values() if found.standing else ()):
        raise Mistaken("A client at this address is configured already: go back and choose it by its name.")
    return replace(answers, client_url=url)


def _client_user(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, client_user=_text("" if value == NONE else value))


def _client_secret(_found: Found, answers: Answers, value: str) -> Answers:
    url = answers.client_url or ""
    if value and url.lower().startswith("http:") and not is_local(url):
        raise Mistaken(
            "The password would travel unencrypted to another machine. Use https there, or a client on this machine."
        )
    return _kept(replace(answers, client_secret=_secret(value) if value else ""))


def _keep(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, keep=value)


def _policy(_found: Found, answers: Answers, value: str) -> Answers:
    return replace(answers, policy=value)


def _name(found: Found, answers: Answers, value: str) -> Answers:
    if not NAME.fullmatch(value):
        raise Mistaken(f"It is {NO_NAME}.")
    if found.standing and value in found.standing.profiles:
        raise Mistaken(f'There is a profile "{value}" already, and it stays as it is. Take another name.')
    return replace(answers, name=value)


def _kept(answers: Answers) -> Answers:
    """With nothing to keep, it is not asked where."""
    return answers if answers.has_secret else replace(answers, keep="file")


def _text(value: str) -> str:
    if not value.isprintable():
        raise Mistaken("It has a character that nobody can type. Write it anew.")
    if len(value) > _LONGEST_NAME:
        raise Mistaken(f"It is longer than {_LONGEST_NAME} characters.")
    return value


def _secret(value: str) -> str:
    if not value.isprintable():
        raise Mistaken("The password has a character that nobody can type. Write it anew.")
    if len(value.encode(errors="replace")) > _LONGEST_SECRET:
        raise Mistaken(f"The password is longer than {_LONGEST_SECRET} bytes.")
    return value


_TAKE: Mapping[str, Callable[[Found, Answers, str], Answers]] = {
    "provider": _provider,
    "tunnel": _tunnel,
    "tunnel_user": _tunnel_user,
    "tunnel_secret": _tunnel_secret,
    "region": _region,
    "account_user": _account_user,
    "account_secret": _account_secret,
    "client": _client,
    "client_url": _client_url,
    "client_user": _client_user,
    "client_secret": _client_secret,
    "keep": _keep,
    "policy": _policy,
    "name": _name,
}
