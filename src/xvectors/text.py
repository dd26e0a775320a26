"""Text that people read: numbers in sentences, short reprs, and names that are safe to compare and to print."""

from __future__ import annotations

import dataclasses
import difflib
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

C = TypeVar("C", bound=type)

FEW = 3
"""Number of examples in a message."""
MOST_ITEMS = 4
LONGEST_TEXT = 80

JOINERS = "\u200c\u200d"
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's general categories (Unicode Standard, table 4-4)."""
UNDECODED = range(0xDC80, 0xDD00)
"""What Python reads bytes of file names as that are not UTF-8 (PEP 383)."""


def count(number: int, thing: str) -> str:
    """A number of things whose plural ends in s.

    >>> count(1, "speaker"), count(1200, "test speaker")
    ('1 speaker', '1,200 test speakers')
    """
    return f"{number:,} {thing}{agree(number, '', 's')}"


def agree(number: int, one: str, more: str) -> str:
    """The words that go with one thing, or with more or none.

    >>> agree(1, "is", "are"), agree(0, "is", "are")
    ('is', 'are')
    """
    return one if number == 1 else more


def first_few(names: Iterable[str], most: int = FEW, separator: str = ", ") -> str:
    """List the first `most` names, and show that there are more.

    >>> first_few(["ann", "bob", "eve", "joe"])
    'ann, bob, eve, ...'
    """
    names = list(names)
    return separator.join([*names[:most], *["..."] * (len(names) > most)])


def nearest(name: str, known: Iterable[str], otherwise: str | None = None) -> str:
    """End an error about an unknown name: suggest the most similar known name, whatever the case of its letters.

    Where no name is similar, `otherwise` stands in its place; by default the known names.

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
    """The name in the Unicode form in which names are compared (NFC).

    The same word can be stored with accents composed or apart: macOS takes names apart, tables mostly compose them.
    """
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def is_printable(character: str) -> bool:
    """Whether a character stands for itself on a terminal.

    Control characters, line and paragraph separators, halves of surrogate pairs (which stand for bytes that are not
    UTF-8) and invisible formatting do not. Formatting can turn the direction of text around (Unicode Standard Annex
    #9); the two joiners that Persian, Indic scripts and emoji are written with are the exceptions.
    """
    if character.isascii():
        return character.isprintable()
    return character in JOINERS or unicodedata.category(character) not in UNPRINTABLE


def printable(text: str) -> str:
    """The text as one line that does nothing to a terminal: what `is_printable` refuses is written as an escape.

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
