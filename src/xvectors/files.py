"""Writing files so that nothing is ever left half-written, and finding them by names in any Unicode form.

In: a path. Out: the whole new file, or the old one; the path as the disk spells it.
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
