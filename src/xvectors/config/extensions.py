"""Backbones, losses and augmentations from outside xvectors, which recipes call by name.

A name was registered in this process, is an entry point of an installed package, or has the form `module:Name`. The
last is imported only from packages that the user trusts: a recipe or a system directory may come from anybody, and
importing the module it names runs that module.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, entry_points, packages_distributions, version
from typing import Any

from xvectors.errors import ConfigError
from xvectors.text import nearest, short_repr

TRUST_VARIABLE = "XVECTORS_TRUST"
"""Environment variable with the trusted packages, separated by commas or spaces."""

_trusted: set[str] = set()


def trust(*packages: str) -> None:
    """Allow recipes and systems to name code of these packages or modules as `module:Name`, in this process.

    Importing a package runs its code: trust only packages that you wrote, or whose authors you trust.

    Raises
    ------
    ConfigError
        An argument is not the name of a module.
    """
    for package in packages:
        if not all(part.isidentifier() for part in package.split(".")):
            raise ConfigError(f"{package!r} cannot be trusted: give the name of a package or module, such as mypackage")
    _trusted.update(packages)


def is_trusted(module: str) -> bool:
    """Whether `module`, or a package that contains it, is trusted."""
    trusted = _trusted | set(os.environ.get(TRUST_VARIABLE, "").replace(",", " ").split())
    parts = module.split(".")
    return any(".".join(parts[:count]) in trusted for count in range(1, len(parts) + 1))


@short_repr("kind", "group")
class Extensions:
    """Extensions of one kind.

    Parameters
    ----------
    kind
        The kind, as errors call it.
    key
        Key of a recipe that names an extension.
    group
        Group of the entry points of installed packages.
    """

    def __init__(self, kind: str, key: str, group: str) -> None:
        self.kind, self.key, self.group = kind, key, group
        self.registered: dict[str, Any] = {}

    def register(self, name: str, found: Any, builtin: Mapping[str, Any]) -> None:
        """Register `found` under a name in this process; raise ConfigError for a built-in name, or one with a colon."""
        if name in builtin or ":" in name or not name.strip():
            taken = "is built in" if name in builtin else "must be a word without a colon"
            raise ConfigError(f"{self.kind} {name!r} cannot be registered: the name {taken}; choose another")
        self.registered[name] = found

    def names(self) -> list[str]:
        """Return the registered names and those of installed packages."""
        return sorted({*self.registered, *(each.name for each in entry_points(group=self.group))})

    def knows(self, name: str) -> bool:
        """Whether `find` can look for `name`; imports nothing."""
        return ":" in name or name in self.names()

    def find(self, name: str, builtin: Mapping[str, Any]) -> Any:
        """Return the extension called `name`, importing it if allowed. Raises ConfigError for an unknown name."""
        if name in builtin:
            return builtin[name]
        if name in self.registered:
            return self.registered[name]
        if ":" in name:
            return self._imported(name)
        offers = {
            f"{each.value} of {each.dist.name if each.dist is not None else 'an unknown package'}": each
            for each in entry_points(group=self.group, name=name)
        }
        if len(offers) > 1:
            raise ConfigError(
                f"{self.key} = {name!r} is offered by several packages: {', '.join(sorted(offers))}; uninstall all but "
                "one"
            )
        for each in offers.values():
            return _imported_from(each.module, each.attr, f"{self.key} = {name!r} ({each.value})")
        raise ConfigError(
            f"unknown {self.kind} {name!r}{nearest(name, [*builtin, *self.names()])}; or give your own as module:Name"
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
    """Return the module and name of a class or function, and its distribution and version where they are known."""
    kind = found if hasattr(found, "__qualname__") else type(found)
    about = {"module": str(kind.__module__), "class": str(kind.__qualname__)}
    for distribution in packages_distributions().get(about["module"].partition(".")[0], ())[:1]:
        about["distribution"] = distribution
        with contextlib.suppress(PackageNotFoundError):
            about["version"] = version(distribution)
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
