"""TOML tables and the dataclasses that they fill: every key must be known, every value of its field's type."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeVar

import tomli_w

from xvectors.errors import ConfigError
from xvectors.text import nearest

T = TypeVar("T")

MAX_INTEGER = 2**63 - 1  # TOML 1.0.0: "64-bit signed integers should be accepted"
EXPLANATION, RANGE = "explanation", "range"
"""Keys of a field's metadata."""
KINDS: dict[Any, str] = {bool: "true or false", int: "a whole number", float: "a number", str: "a string"}
LIST_KINDS: dict[Any, str] = {int: "whole numbers", float: "numbers", str: "strings"}
LIST_EXAMPLES: dict[Any, list[Any]] = {int: [1, 2], float: [0.9, 1.1], str: ["one", "two"]}

_DOTTED = re.compile(r"""(?<![\w"'-])(?:[\w"'-]++[ \t]*+\.[ \t]*+){100}""")


def setting(default: T, explanation: str, within: str = "", *, also: float | None = None) -> T:
    """Define a dataclass field of a recipe.

    Parameters
    ----------
    default
        Its default.
    explanation
        What `xvectors recipes` prints about it.
    within
        Interval of its values, such as `[0, 1)`; empty allows any.
    also
        A value outside the interval with a meaning of its own.
    """
    metadata = {EXPLANATION: explanation, RANGE: Range(within, also) if within else None}
    made: T = dataclasses.field(default=default, metadata=metadata)
    return made


class Range:
    """The values that a number may have: an interval such as `[0, 1)`, and perhaps one value outside it.

    Examples
    --------
    >>> str(Range("[0, 1)", also=-1)), str(Range("(0, inf)"))
    ('at least 0 and below 1, or -1', 'above 0')
    """

    def __init__(self, interval: str, also: float | None = None) -> None:
        self.low, self.high = (float(end) for end in interval[1:-1].split(","))
        self.with_low, self.with_high, self.also = interval[0] == "[", interval[-1] == "]", also

    def __contains__(self, value: float) -> bool:
        above = value >= self.low if self.with_low else value > self.low
        below = value <= self.high if self.with_high else value < self.high
        return (above and below) or value == self.also

    def __str__(self) -> str:
        low, high = f"{self.low:.12g}", f"{self.high:.12g}"
        words = f"at least {low}" if self.with_low else f"above {low}"
        if self.with_low and self.with_high:
            words = f"between {low} and {high}"
        elif self.high < math.inf:
            words += f" and at most {high}" if self.with_high else f" and below {high}"
        return words if self.also is None else f"{words}, or {self.also:g}"


def to_toml(table: Mapping[str, Any]) -> str:
    return tomli_w.dumps(table)


def to_literal(value: Any) -> str:
    """Write one value as TOML, on one line."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(to_literal, value))}]"
    return to_toml({"x": value}).partition("=")[2].strip()


def parse_toml(text: str, source: str) -> dict[str, Any]:
    if _DOTTED.search(text):  # tomllib's time grows with the square of their number
        raise ConfigError(f"{source}: not valid TOML: it has a key of more than 100 parts")
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # ValueError also for numbers of thousands of digits
        raise ConfigError(f"{source}: not valid TOML: {error}") from error


def parse_value(text: str, where: str) -> Any:
    """Read one value of TOML; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not a value of TOML: {error}") from error


def parse_list(text: str, where: str) -> list[Any]:
    """Read values that are separated by commas or spaces.

    Examples
    --------
    >>> parse_list("0.9, gsm", "")
    [0.9, 'gsm']
    """
    return [parse_value(word, where) for word in text.strip("[] ").replace(",", " ").split()]


def list_item(hint: Any) -> Any:
    """Return the type of the items if `hint` is that of a list, else None."""
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (tuple, Sequence) else None


def from_mapping(cls: type[T], table: Mapping[str, Any], source: str, prefix: str = "") -> T:
    """Build the dataclass `cls` from plain tables.

    Raises
    ------
    ConfigError
        A key is unknown or a value has another type; the error names `source` and the full key.
    """
    hints = typing.get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    values = {}
    for key, value in table.items():
        if key not in fields:
            known = nearest(f"{prefix}{key}", [f"{prefix}{name}" for name in fields])
            raise ConfigError(f"{source}: unknown key {prefix + key!r}{known}")
        hint, where = hints[key], f"{source}: {prefix}{key}"
        if dataclasses.is_dataclass(hint):
            if not isinstance(value, Mapping):
                raise ConfigError(f"{where} must be a table, not {value!r}")
            values[key] = from_mapping(typing.cast(type[Any], hint), value, source, f"{prefix}{key}.")
        else:
            values[key] = check_setting(value, fields[key], hint, where)
    return cls(**values)


def check_setting(value: Any, field: dataclasses.Field[Any], hint: Any, where: str) -> Any:
    """Return `value` as `check_value` does; raise ConfigError also if it is outside the range of its field."""
    value, allowed = check_value(value, hint, where), field.metadata.get(RANGE)
    for each in value if isinstance(value, tuple) else (value,):
        if allowed is not None and each not in allowed:
            raise ConfigError(f"{where} = {each!r} must be {allowed}")
    return value


def check_value(value: Any, hint: Any, where: str) -> Any:
    """Return `value` as the type `hint`: whole numbers become numbers, and lists tuples.

    Raises
    ------
    ConfigError
        `value` has another type; the error begins with `where`, the name of the key.
    """
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise ConfigError(f"{where} = {value!r} is not known{nearest(str(value), map(str, choices))}")
        return value
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return value
    if item := list_item(hint):
        values = value if isinstance(value, list | tuple) else ()
        if not isinstance(value, list | tuple) or not all(_fits(each, item) for each in values):
            given = parse_list(value, where) if isinstance(value, str) else values
            example = [each for each in given if _fits(each, item)] or LIST_EXAMPLES[item]
            raise ConfigError(
                f"{where} must be a list of {LIST_KINDS[item]}, not {value!r}; write it as {to_literal(example)}"
            )
        return tuple(check_value(each, item, where) for each in values)
    if not _fits(value, hint):
        raise ConfigError(f"{where} must be {KINDS[hint]}, not {value!r}")
    if isinstance(value, int) and abs(value) > MAX_INTEGER:
        raise ConfigError(f"{where} is a whole number of {len(str(abs(value)))} digits; give at most {MAX_INTEGER}")
    return float(value) if hint is float else value


def _fits(value: Any, kind: Any) -> bool:
    is_bool = isinstance(value, bool)
    return is_bool == (kind is bool) and isinstance(value, (int, float) if kind is float else kind)


def flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Merge nested tables into one, with dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
