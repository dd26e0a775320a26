"""Files that are never left half-written, locks on what one process may write, and names to compare and to print."""

from __future__ import annotations

import errno
import functools
import hashlib
import os
import platform
import re
import stat
import sys
import threading
import unicodedata
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from xvectors.errors import BusyError, StorageError

PRIVATE = 0o600
"""The mode of files that hold voices: embeddings, enrolled speakers, back-ends, checkpoints."""

_LEFTOVER = re.compile(r"\.(?P<rest>.*)\.(?P<machine>[0-9a-f]{8})-(?P<pid>\d+)-[0-9a-f]{8}(?P<suffix>\..*)?")
_held: dict[Path, int] = {}
"""Locks of this process, and the thread that holds each."""
_held_changes = threading.Lock()

NO_SUCH_FILE, IS_FOLDER = "no such file", "is a folder, not a file"

JOINERS = "\u200c\u200d"
UNPRINTABLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's general categories (Unicode Standard, table 4-4)."""
UNDECODED = range(0xDC80, 0xDD00)
"""What Python reads bytes of file names as that are not UTF-8 (PEP 383)."""


@contextmanager
def atomic_write(path: Path | str, *, private: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`, which replaces `path` when the block ends without an error.

    The temporary file keeps the suffix of `path`, is flushed to disk before it is renamed, and is removed when the
    block raises. Parent folders are made. What a killed process left behind in the same folder is removed.

    Parameters
    ----------
    private
        Let only the owner read the file. A file that exists keeps its mode.

    Raises
    ------
    StorageError
        The file cannot be written (full disk, no permission). What stood at `path` before is intact.
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
        kept = "; the file that stood there is intact" if _is_file(path) else ""
        raise StorageError(f"{path}: cannot be written: {reason}{kept}") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str, *, private: bool = False) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_write(path, private=private) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def temporary_path(path: Path) -> Path:
    """A hidden path beside `path` with its suffix. The name says which process made it; see `remove_leftovers`."""
    return path.with_name(f".{path.stem}.{_machine()}-{os.getpid()}-{uuid.uuid4().hex[:8]}{path.suffix}")


def is_leftover(path: Path) -> bool:
    """Whether this is a temporary file (or one that SQLite put beside it) of a process that no longer runs."""
    match = _LEFTOVER.fullmatch(path.name)
    return match is not None and match["machine"] == _machine() and not _runs(int(match["pid"]))


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files that processes of this machine left in `folder` when they were killed.

    Files of running processes, and of other machines that share the folder, stay.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") and is_leftover(Path(entry.path)):
                with suppress(OSError):
                    os.unlink(entry.path)


# A process looks at a folder once: it may write ten thousand files there.
_remove_leftovers_once = functools.lru_cache(maxsize=256)(remove_leftovers)


@contextmanager
def exclusive(path: Path | str, *, of: str) -> Iterator[None]:
    """Hold the lock file `path` for the block. The system frees it when the process ends, however it ends.

    A thread that holds it may take it again.

    Parameters
    ----------
    path
        The lock file. It says who holds it, and is removed at the end, with the folders that were made for it if
        nothing else is in them.
    of
        What is locked, for the error: a system directory, an output file.

    Raises
    ------
    BusyError
        Another process, or another thread, holds it.
    StorageError
        The lock file cannot be made.
    """
    path = Path(path).absolute()
    me = threading.get_ident()
    with _held_changes:
        holder = _held.get(path)
        if holder is None:
            _held[path] = me
    if holder == me:
        yield
        return
    if holder is not None:
        raise BusyError(f"{of}: this process is writing it already; wait until it has ended, or name another")
    made = [folder for folder in path.parents if not folder.exists()]
    descriptor = -1
    try:
        descriptor = _locked(path, of)
        yield
    finally:
        if descriptor >= 0:
            with suppress(OSError):  # while it is locked: afterwards it may be another's
                path.unlink()
            os.close(descriptor)
        for folder in made:
            with suppress(OSError):  # what is not empty stays
                folder.rmdir()
        with _held_changes:
            del _held[path]


def digest(path: Path) -> str:
    """The sha256 of a file, in hex. Raises OSError where it cannot be read."""
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, why_no_file(path), os.fspath(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def why_no_file(path: Path | str) -> str:
    """Why no file can be read at `path`, in words that go behind its name; empty where one can."""
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{NO_SUCH_FILE}, but a link to one that is gone" if os.path.islink(path) else NO_SUCH_FILE
    except OSError as error:
        return f"cannot be read: {error.strerror or error}"
    except ValueError:  # a null character, which no file's name holds
        return NO_SUCH_FILE
    if stat.S_ISDIR(mode):
        return IS_FOLDER
    if not stat.S_ISREG(mode):
        return "is a pipe or device, not a file; write what comes out of it to a file first"
    return "" if os.access(path, os.R_OK) else "cannot be read: permission denied"


def why_unwritable(path: Path) -> str:
    """Why no file can be written at `path`, where that is a folder or something above it is a file; else empty."""
    with suppress(OSError):
        if path.is_dir():
            return IS_FOLDER
        for above in path.parents:
            if above.exists():
                return "" if above.is_dir() else f"{above} is a file, not a folder"
    return ""


def user_folder(variable: str, *default: str) -> Path:
    """A folder of the user's: the one that an environment variable names, if any, else `default` in the home directory.

    Raises StorageError where neither is known.
    """
    stated = os.environ.get(variable, "")
    if os.path.isabs(stated):
        return Path(stated)
    try:
        return Path.home().joinpath(*default)
    except RuntimeError as error:
        remedy = f"set HOME, or {variable}" if variable else "set HOME"
        raise StorageError(f"your home directory is not known: {remedy}") from error


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


def _locked(path: Path, of: str) -> int:
    """The descriptor of the lock file, locked, with a line in it that says by whom."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            reason = why_unwritable(path) or error.strerror or str(error)
            raise StorageError(f"{of}: cannot be written: {reason}") from error
        if not _lock(descriptor):
            holder = os.read(descriptor, 1000).decode("utf-8", "replace").strip() or "another process"
            os.close(descriptor)
            raise BusyError(f"{of}: {holder} is writing it; wait until it has ended, or name another")
        # a holder that has just ended removed the file that was opened here
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    command = " ".join([Path(sys.argv[0]).name, *sys.argv[1:2]])
    try:
        os.write(descriptor, f"process {os.getpid()} on {platform.node()} ({command}, since {now})".encode())
    except OSError as error:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)
        raise StorageError(f"{of}: cannot be written: {error.strerror or error}") from error
    return descriptor


def _lock(descriptor: int) -> bool:
    """Take the lock of an open file without waiting.

    A record lock, which child processes do not inherit: a loader process that outlives its killed parent by a second
    does not keep the next run out.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            os.lseek(descriptor, 1 << 20, os.SEEK_SET)  # beyond the text, which stays readable
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return False
        os.lseek(descriptor, 0, os.SEEK_SET)
        return True
    import fcntl

    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


@functools.cache
def _machine() -> str:
    """Eight hex digits that stand for this machine or container: where a process number means the same process."""
    parts = [platform.node()]
    with suppress(OSError):
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=4).hexdigest()


def _runs(pid: int) -> bool:
    """Whether a process of this number runs; True where that cannot be known."""
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
