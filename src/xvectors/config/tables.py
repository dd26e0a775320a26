"""TOML tables and dataclasses. In: plain tables. Out: checked values; an unknown key names the nearest known one."""

from __future__ import annotations

import dataclasses
import re
import tomllib
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

import tomli_w

from xvectors.errors import ConfigError
from xvectors.text import nearest

T = TypeVar("T")

LARGEST_INTEGER = 2**63 - 1  # TOML 1.0.0: "64-bit signed integers should be accepted"; no setting needs more

_DOTTED = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")
EXPLANATION = "explanation"
"""Key of a field's metadata."""


def setting(default: T, explanation: str) -> T:
    """A dataclass field with this default, and what `xvectors recipes` says of it."""
    made: T = dataclasses.field(default=default, metadata={EXPLANATION: explanation})
    return made


def to_toml(table: Mapping[str, Any]) -> str:
    return tomli_w.dumps(table)


def parse_toml(text: str, source: str) -> dict[str, Any]:
    if _DOTTED.search(text):  # for which tomllib takes a time that grows with their square
        raise ConfigError(f"{source}: not valid TOML: it has a key of more than 100 parts")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of whole numbers of thousands of digits, and of deep nesting
        raise ConfigError(f"{source}: not valid TOML: {error}") from error


def from_mapping(cls: type[T], table: Mapping[str, Any], source: str, prefix: str = "") -> T:
    """Build the dataclass `cls` from plain tables; `source` and the key's full name go into every error."""
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in fields:
            hint = nearest(f"{prefix}{key}", [f"{prefix}{name}" for name in fields])
            raise ConfigError(f"{source}: unknown key {prefix + key!r}{hint}")
    values = {}
    for key, value in table.items():
        hint = hints[key]
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{source}: {prefix}{key} must be a table, not {value!r}")
            values[key] = from_mapping(typing.cast(type[Any], hint), value, source, f"{prefix}{key}.")
        else:
            values[key] = _checked(value, hint, f"{source}: {prefix}{key}")
    return cls(**values)


def _checked(value: Any, hint: Any, where: str) -> Any:
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{where} = {value!r} is not known{nearest(str(value), map(str, choices))}")
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) <= LARGEST_INTEGER:
        return float(value)
    if isinstance(value, bool) != (hint is bool) or not isinstance(value, hint):
        wanted = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}[hint]
        raise ConfigError(f"{where} must be {wanted}, not {value!r}")
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise ConfigError(f"{where} is a whole number of {len(str(abs(value)))} digits; give at most {LARGEST_INTEGER}")
    return value


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
