"""Code of one's own by name: backbones, losses, augmentations. In: a name in a recipe. Out: the class or function.

A name is one that was registered in this process, an entry point of an installed package, or `module:Name`. The last is
imported only from packages that the user trusts: a system directory or a recipe may come from anybody, and importing
what it names would run code of its author's choice.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, version
from typing import Any

from xvectors.errors import ConfigError
from xvectors.text import brief, nearest

TRUST_VARIABLE = "XVECTORS_TRUST"
"""Environment variable: packages that are trusted, separated by commas or spaces."""

_trusted: set[str] = set()


def trust(*packages: str) -> None:
    """Let recipes and systems name code of these packages (or single modules) as `module:Name`, in this process.

    Importing a package runs its code: trust those that you wrote, or whose authors you trust. Raises ConfigError for
    what is not the name of a module.
    """
    for package in packages:
        if not all(part.isidentifier() for part in package.split(".")):
            raise ConfigError(f"{package!r} cannot be trusted: give the name of a package or module, such as mypackage")
    _trusted.update(packages)


def is_trusted(module: str) -> bool:
    """Whether `module` or a package that holds it is trusted."""
    trusted = _trusted | set(os.environ.get(TRUST_VARIABLE, "").replace(",", " ").split())
    parts = module.split(".")
    return any(".".join(parts[:count]) in trusted for count in range(1, len(parts) + 1))


@brief("kind", "group")
class Extensions:
    """What users bring of one kind; `group` is that of the entry points of installed packages."""

    def __init__(self, kind: str, key: str, group: str) -> None:
        self.kind, self.key, self.group = kind, key, group
        self.registered: dict[str, Any] = {}

    def register(self, name: str, found: Any, builtin: Mapping[str, Any]) -> None:
        """Let `name` stand for `found` in this process. ConfigError for a name that is taken or holds a colon."""
        if name in builtin or ":" in name or not name.strip():
            taken = "is one of xvectors' own" if name in builtin else "must be a word without a colon"
            raise ConfigError(f"{self.kind} {name!r} cannot be registered: the name {taken}; choose another")
        self.registered[name] = found

    def names(self) -> list[str]:
        """The names known here: those registered, and those of installed packages."""
        return sorted({*self.registered, *(each.name for each in entry_points(group=self.group))})

    def knows(self, name: str) -> bool:
        """Whether `name` can be looked for here; nothing is imported for this."""
        return ":" in name or name in self.names()

    def find(self, name: str, builtin: Mapping[str, Any]) -> Any:
        """What `name` stands for, imported where that is allowed. ConfigError says why it is not found."""
        if name in builtin:
            return builtin[name]
        if name in self.registered:
            return self.registered[name]
        if ":" in name:
            return self._imported(name)
        there = {(each.value, _distribution(each)): each for each in entry_points(group=self.group, name=name)}
        if len(there) > 1:
            offers = ", ".join(sorted(f"{value} of {package}" for value, package in there))
            raise ConfigError(f"{self.key} = {name!r} is offered by several packages: {offers}; uninstall all but one")
        for each in there.values():
            return _imported_from(each.module, each.attr, f"{self.key} = {name!r} ({each.value})")
        raise ConfigError(
            f"unknown {self.kind} {name!r}{nearest(name, [*builtin, *self.names()])}; or give one of your own as "
            "module:Name"
        )

    def _imported(self, name: str) -> Any:
        module, _, attribute = name.partition(":")
        if not all(part.isidentifier() for part in (*module.split("."), *attribute.split("."))):
            raise ConfigError(f"{self.key} = {name!r} must have the form module:Name, as in mypackage.nets:Tiny")
        if not is_trusted(module):
            package = module.partition(".")[0]
            raise ConfigError(
                f"{self.key} = {name!r} is code from outside xvectors, which is not imported unasked; if you trust the "
                f"package {package}, add --trust {package}, set {TRUST_VARIABLE}={package}, or call "
                f"xvectors.trust({package!r}) first"
            )
        return _imported_from(module, attribute, f"{self.key} = {name!r}")


BACKBONES = Extensions("model", "model.name", "xvectors.backbones")
LOSSES = Extensions("loss", "loss.name", "xvectors.losses")
AUGMENTATIONS = Extensions("augmentation", "augment.custom", "xvectors.augmentations")


def origin(found: Any) -> dict[str, str]:
    """Where a class or function comes from: its module and name, and the distribution and version where known."""
    kind = found if hasattr(found, "__qualname__") else type(found)
    about = {"module": str(kind.__module__), "class": str(kind.__qualname__)}
    for distribution in packages_distributions().get(about["module"].partition(".")[0], ())[:1]:
        try:
            about |= {"distribution": distribution, "version": version(distribution)}
        except PackageNotFoundError:
            about["distribution"] = distribution
    return about


def _imported_from(module: str, attribute: str, what: str) -> Any:
    try:
        found: Any = import_module(module)
    except ImportError as error:
        raise ConfigError(
            f"{what}: {module} cannot be imported: {error}; install its package, or add its folder to PYTHONPATH"
        ) from error
    for part in attribute.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{what}: {module} has no {attribute}{nearest(part, dir(found), otherwise='')}")
        found = getattr(found, part)
    return found


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown package"
