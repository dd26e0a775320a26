"""Short reprs. In: a class whose objects hold arrays, tables or long lists. Out: one line that tells their sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

C = TypeVar("C", bound=type)

MOST_ITEMS = 4
LONGEST_TEXT = 80


def brief(*names: str) -> Callable[[C], C]:
    """Decorator: `repr` shows these attributes, by default a dataclass's or named tuple's fields, each in brief.

    An array is its dtype and shape, a long sequence or mapping its length; what `repr` would print in full would fill
    the screen of whoever looks at an object.
    """

    def decorate(cls: C) -> C:
        shown = names or _fields(cls)

        def __repr__(self: Any) -> str:
            known = [name for name in shown if hasattr(self, name)]  # an estimator that is not fitted lacks some
            parts = [f"{name.lstrip('_')}={in_brief(getattr(self, name))}" for name in known]
            return f"{type(self).__name__}({', '.join(parts)})"

        type.__setattr__(cls, "__repr__", __repr__)
        return cls

    return decorate


def in_brief(value: Any) -> str:
    """A value on a few words: `float32 [1000, 512]`, `[12,345 items]`, `{20 keys}`, or its repr where that is short."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and value.shape:
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, str | bytes):
        text = repr(value)
        return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 4]}...{text[0]}"
    if isinstance(value, Mapping):
        if len(value) <= MOST_ITEMS:
            inside = "{" + ", ".join(f"{key!r}: {in_brief(each)}" for key, each in value.items()) + "}"
            if len(inside) <= LONGEST_TEXT:
                return inside
        return f"{{{len(value):,} keys}}"
    if isinstance(value, Sequence | set | frozenset) and not hasattr(value, "_fields"):
        opened, closed = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        if len(value) <= MOST_ITEMS:
            inside = f"{opened}{', '.join(map(in_brief, value))}{',' * (closed == ')' and len(value) == 1)}{closed}"
            if len(inside) <= LONGEST_TEXT:
                return inside
        return f"{opened}{len(value):,} items{closed}"
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 4 * LONGEST_TEXT else f"{line[: 4 * LONGEST_TEXT]}..."


def _fields(cls: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(cls):
        return tuple(each.name for each in dataclasses.fields(cls) if each.repr)
    return tuple(getattr(cls, "_fields", ()))
