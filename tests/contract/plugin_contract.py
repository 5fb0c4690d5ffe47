"""What every provider says of itself, and what it may see: the part of the provider contract that needs no world."""

from __future__ import annotations

import ast
import inspect
import itertools
from pathlib import Path
from typing import ClassVar

from vpnpf import plugins
from vpnpf.interfaces import Option, Provider

FORBIDDEN = {"asyncio", "threading", "socket", "time", "os", "subprocess", "pathlib", "random", "mock_provider"}
"""A plug-in has no timers, files or sockets of its own."""


class PluginContract:
    """The tests. `ProviderContract` has them too; alone they are for a provider that cannot be configured."""

    plugin: ClassVar[type[Provider]]
    options: ClassVar[dict[str, object]] = {}
    """What it is made with: all that it cannot do without."""
    good_options: ClassVar[tuple[tuple[str, object], ...]] = ()
    wrong_options: ClassVar[tuple[tuple[str, object], ...]] = ()
    """At least one of each option."""

    def test_it_is_found_by_its_id_and_says_what_it_is(self):
        manifest = self.plugin.manifest
        assert plugins.provider(manifest.id) is self.plugin
        assert manifest.name
        assert manifest.summary
        assert not manifest.summary.endswith(".")
        assert manifest.verified
        assert manifest.max_forwards >= 1

    def test_good_options_are_taken_and_wrong_ones_rejected_in_words(self):
        options = {option.name: option for option in self.plugin.manifest.options}
        for name, value in self.good_options:
            assert not _wrong(options[name], value)
            self.plugin({**self.options, name: value})
        for name, value in self.wrong_options:
            assert _wrong(options[name], value), f"{name} = {value!r} was taken"
        assert {name for name, _ in self.wrong_options} == set(options), "an option without an example of a wrong value"
        assert all(option.help for option in options.values())

    def test_it_sees_nothing_of_vpnpf_but_the_plug_in_surface(self):
        for name in itertools.chain.from_iterable(imported_by(path) for path in self.files()):
            root = name.partition(".")[0]
            assert root not in FORBIDDEN, "a plug-in has no timers, files or sockets of its own"
            assert root != "vpnpf" or name == "vpnpf.api", name

    def files(self) -> tuple[Path, ...]:
        """All that the provider is made of: its file, or its package."""
        path = Path(inspect.getfile(self.plugin))
        own = inspect.getmodule(self.plugin)
        package = "" if own is None else str(own.__package__)
        return tuple(sorted(path.parent.glob("*.py"))) if "." in package else (path,)


def _wrong(option: Option, value: object) -> str:
    """What is wrong with an option's value, as the configuration finds it; of a list, its items are looked at."""
    if type(value) is not (option.type if isinstance(option.type, type) else list):
        return "of another type"
    return next(filter(None, map(option.check, value if isinstance(value, list) else [value])), "")


def imported_by(path: Path) -> set[str]:
    """The modules that a file names in its import statements, wherever they stand in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a provider's files name what they import in full"
            names |= {f"vpnpf.{alias.name}" for alias in node.names} if node.module == "vpnpf" else {str(node.module)}
        elif isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in {
            "__import__",
            "import_module",
        }:
            names.add("importlib")
    return names
