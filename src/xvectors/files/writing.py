"""Write files so that they are never left half-written, and say why a path cannot be read or written."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import re
import stat
import sys
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

import platformdirs

from xvectors.errors import StorageError

PRIVATE = 0o600
"""Mode of files with biometric data: embeddings, enrolled speakers, back-ends, checkpoints."""

_LEFTOVER = re.compile(r"\.(?P<rest>.*)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(?P<suffix>\..*)?")

NO_SUCH_FILE, IS_FOLDER = "no such file", "is a folder, not a file"


@contextmanager
def atomic_write(path: Path | str, *, private: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`, which replaces `path` if the block succeeds.

    The temporary file has the suffix of `path`, is synced before it is renamed, and is removed if the block raises.
    Parent folders are created. Leftovers of killed processes in the same folder are removed.

    Parameters
    ----------
    private
        Let only the owner read the file. An existing file keeps its mode.

    Raises
    ------
    StorageError
        The file cannot be written (full disk, no permission). An existing file is intact.
    """
    path = Path(path)
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers_once(path.parent)
        if private:
            mode = path.stat().st_mode & 0o777 if path.is_file() else PRIVATE
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, PRIVATE))
            os.chmod(temporary, mode | PRIVATE)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except StorageError:
        raise
    except OSError as error:
        reason = why_unwritable(path) or error.strerror or str(error)
        kept = "; the existing file is intact" if _is_file(path) else ""
        raise StorageError(f"{path}: cannot be written: {reason}{kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def temporary_path(path: Path) -> Path:
    """Return a hidden path beside `path` with its suffix, whose name identifies this process."""
    return path.with_name(f".{path.stem}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")


def is_leftover(path: Path) -> bool:
    """Whether this is a temporary file (or a companion by SQLite) of a process that has ended."""
    match = _LEFTOVER.fullmatch(path.name)
    return match is not None and match["machine"] == _machine() and not _runs(int(match["pid"]))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files of killed processes from `folder`.

    Files of running processes and of other machines that share the folder stay.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and is_leftover(Path(entry.path)):
                with suppress(OSError):
                    os.unlink(entry.path)


# once per process and folder, which may receive ten thousand files
_remove_leftovers_once = functools.lru_cache(maxsize=256)(remove_leftovers)


def digest(path: Path) -> str:
    """Return the SHA-256 of a file in hex. Raises OSError if it cannot be read."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, why_no_file(path), os.fspath(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why_no_file(path: Path | str) -> str:
    """Return why `path` cannot be read as a file, as text to follow its name; empty if it can."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{NO_SUCH_FILE}, but a broken link" if os.path.islink(path) else NO_SUCH_FILE
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError:  # a null character, which file names cannot contain
        return NO_SUCH_FILE
    if stat.S_ISDIR(mode):
        return IS_FOLDER
    if not stat.S_ISREG(mode):
        return "is a pipe or device, not a file; write its output to a file first"
    return "" if os.access(path, os.R_OK) else "cannot be read: permission denied"


def why_unwritable(path: Path) -> str:
    """Return why `path` cannot be written: it is a folder, or a parent is a file. Otherwise empty."""
    with suppress(OSError):
        if path.is_dir():
            return IS_FOLDER
        for above in path.parents:
            if above.exists():
                return "" if above.is_dir() else f"{above} is a file, not a folder"
    return ""


def user_folder(kind: Literal["data", "cache"]) -> Path:
    """Return xvectors' folder below the user's data or cache folder, where the platform has it.

    Raises StorageError where the home directory is unknown.
    """
    find = platformdirs.user_data_path if kind == "data" else platformdirs.user_cache_path
    with suppress(RuntimeError):  # raised without a home directory; older versions return a relative path
        folder = find("xvectors", appauthor=False)
        if folder.is_absolute():
            return folder
    raise StorageError(f"your home directory is not known: set HOME, or XDG_{kind.upper()}_HOME to a full path")


def as_on_disk(path: str | os.PathLike[str]) -> str:
    """Return the path as spelled on disk, trying composed and decomposed accents; the path itself if none exists."""
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


@functools.cache
def _machine() -> str:
    """Return eight hex digits that identify this machine or container, and so the meaning of a process number."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()


def _runs(pid: int) -> bool:
    """Whether a process with this number is running; True if unknown."""
    if sys.platform == "win32":  # os.kill would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _is_file(path: Path) -> bool:
    with suppress(OSError):
        return path.is_file()
    return False


def _sync_folder(folder: Path) -> None:
    """Make the rename durable, where folders can be opened (not on Windows)."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
