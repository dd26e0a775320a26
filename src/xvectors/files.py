"""Writing files so that nothing is ever left half-written, and their names: in any Unicode form, and to be printed.

In: a path. Out: the whole new file, or the old one; the path as the disk spells it, and as a terminal takes it.
"""

from __future__ import annotations

import hashlib
import os
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from xvectors.errors import StorageError

JOINERS = "\u200c\u200d"
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's general categories (Unicode Standard, table 4-4)."""
UNDECODED = range(0xDC80, 0xDD00)
"""What Python reads bytes of file names as that are not UTF-8 (PEP 383)."""


@contextmanager
def atomic_write(path: Path | str) -> Iterator[Path]:
    """Give a temporary path beside `path`; what the block writes there becomes `path` when the block ends well.

    The temporary keeps the suffix of `path`, is flushed to disk before it takes the name, and is removed when the
    block raises. Parent folders are made. An OSError (full disk, no permission) becomes a StorageError that says
    that whatever stood at `path` before is intact.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or str(error)
        kept = "; the file that stood there is intact" if path.is_file() else ""
        raise StorageError(f"{path}: cannot be written: {reason}{kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def digest(path: Path) -> str:
    """The sha256 of a file, in hex. Raises OSError where it cannot be read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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


def as_on_disk(path: str | os.PathLike[str]) -> str:
    """The path as the disk spells it: where there is no such file, its parts are also tried composed and taken apart.

    The path itself where no form of it is there.
    """
    path = os.fspath(path)
    if path.isascii() or os.path.exists(path):
        return path
    found = Path(path).anchor
    for part in Path(path).relative_to(found).parts:
        forms = [part, *(unicodedata.normalize(form, part) for form in ("NFC", "NFD") if not part.isascii())]
        there = next((os.path.join(found, form) for form in forms if os.path.exists(os.path.join(found, form))), None)
        if there is None:
            return path
        found = there
    return found


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _escape(character: str) -> str:
    if ord(character) in UNDECODED:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")
