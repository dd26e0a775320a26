"""Text that people read: numbers in sentences, short reprs, and names that are safe to compare and to print."""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

C = TypeVar("C", bound=type)

MAX_EXAMPLES = 3
"""Number of examples in a message."""
MAX_ITEMS = 4
MAX_TEXT_CHARS = 80

JOINERS = "\u200c\u200d"
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""General categories (Unicode Standard, table 4-4) of characters that terminals do not show."""
UNDECODED = range(0xDC80, 0xDD00)
"""Surrogates by which Python represents bytes of file names that are not UTF-8 (PEP 383)."""


def count(number: int, thing: str) -> str:
    """Write a number of things whose plural ends in s.

    Examples
    --------
    >>> count(1, "speaker"), count(1200, "test speaker")
    ('1 speaker', '1,200 test speakers')
    """
    return f"{number:,} {thing}{agree(number, '', 's')}"


def agree(number: int, one: str, more: str) -> str:
    """Choose the words for one thing, or for more or none.

    Examples
    --------
    >>> agree(1, "is", "are"), agree(0, "is", "are")
    ('is', 'are')
    """
    return one if number == 1 else more


def first_few(names: Iterable[str], most: int = MAX_EXAMPLES, separator: str = ", ") -> str:
    """List the first `most` names, and show that there are more.

    Examples
    --------
    >>> first_few(["ann", "bob", "eve", "joe"])
    'ann, bob, eve, ...'
    """
    names = list(names)
    return separator.join([*names[:most], *["..."] * (len(names) > most)])


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """End an error about an unknown name: suggest the most similar known name, whatever the case of its letters.

    Where no name is similar, `otherwise` stands in its place; by default the known names.

    Examples
    --------
    >>> nearest("Cosin", ["cosine", "plda"]), nearest("x", ["cosine", "plda"])
    ("; did you mean 'cosine'?", '; known are cosine, plda')
    """
    by_folded = {other.casefold(): other for other in sorted(known)}
    close = difflib.get_close_matches(name.casefold(), by_folded, n=1)
    if close:
        return f"; did you mean {by_folded[close[0]]!r}?"
    if otherwise is None and by_folded:
        otherwise = f"known are {', '.join(by_folded.values())}"
    return f"; {otherwise}" if otherwise else ""


def composed(name: str) -> str:
    """Normalize a name to the Unicode form in which names are compared (NFC).

    macOS decomposes accents in file names, while tables mostly have composed ones.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_printable(character: str) -> bool:
    """Whether a terminal shows the character as itself.

    This excludes control characters, line and paragraph separators, surrogates and invisible formatting, which can
    reverse the direction of text (Unicode Standard Annex #9). The two joiners that Persian, Indic scripts and emoji
    need are allowed.
    """
    if character.isascii():
        return character.isprintable()
    return character in JOINERS or unicodedata.category(character) not in UNPRINTABLE


def printable(text: str) -> str:
    """Write the text as one harmless line, with escapes for all characters that are not printable.

    Examples
    --------
    >>> printable("ann\\x1b[2J")
    'ann\\\\x1b[2J'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(character if is_printable(character) else _escape(character) for character in text)


def _escape(character: str) -> str:
    if ord(character) in UNDECODED:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def short_repr(*names: str) -> Callable[[C], C]:
    """Decorate a class with a short repr of these attributes, by default the fields of a dataclass or named tuple.

    Arrays appear as dtype and shape, long sequences and mappings as their lengths.
    """

    def decorate(cls: C) -> C:
        shown = names or _fields(cls)

        def __repr__(self: Any) -> str:
            known = [name for name in shown if hasattr(self, name)]  # unfitted estimators lack some
            parts = [f"{name.lstrip('_')}={abbreviated(getattr(self, name))}" for name in known]
            return f"{type(self).__name__}({', '.join(parts)})"

        type.__setattr__(cls, "__repr__", __repr__)
        return cls

    return decorate


def abbreviated(value: Any) -> str:
    """Describe a value: `float32 [1000, 512]`, `[12,345 items]`, `{20 keys}`, or its repr if that is short."""
    if hasattr(value, "dtype") and hasattr(value, "shape") and value.shape:
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    if isinstance(value, str | bytes):
        text = repr(value)
        return text if len(text) <= MAX_TEXT_CHARS else f"{text[: MAX_TEXT_CHARS - 4]}...{text[0]}"
    if isinstance(value, Mapping):
        if len(value) <= MAX_ITEMS:
            inside = "{" + ", ".join(f"{key!r}: {abbreviated(each)}" for key, each in value.items()) + "}"
            if len(inside) <= MAX_TEXT_CHARS:
                return inside
        return f"{{{len(value):,} keys}}"
    if isinstance(value, Sequence | set | frozenset) and not hasattr(value, "_fields"):
        opened, closed = ("(", ")") if isinstance(value, tuple) else ("[", "]")
        if len(value) <= MAX_ITEMS:
            inside = f"{opened}{', '.join(map(abbreviated, value))}{',' * (closed == ')' and len(value) == 1)}{closed}"
            if len(inside) <= MAX_TEXT_CHARS:
                return inside
        return f"{opened}{len(value):,} items{closed}"
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 4 * MAX_TEXT_CHARS else f"{line[: 4 * MAX_TEXT_CHARS]}..."


def _fields(cls: type) -> tuple[str, ...]:
    if dataclasses.is_dataclass(cls):
        return tuple(each.name for each in dataclasses.fields(cls) if each.repr)
    return tuple(getattr(cls, "_fields", ()))
