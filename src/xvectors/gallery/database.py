"""Gallery files. In: a path. Out: an open SQLite connection to a gallery of this version, or an error that helps.

A new gallery is made whole beside its place and then linked there, so that no other process ever sees half of one.
Write-ahead logging: https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import os
import random
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from xvectors.errors import GalleryError, StorageError, XVectorsError
from xvectors.files import (
    IS_FOLDER,
    NO_SUCH_FILE,
    remove_leftovers,
    temporary_path,
    user_folder,
    why_no_file,
    why_unwritable,
)
from xvectors.gallery.migrations import MIGRATIONS

APPLICATION_ID = 0x78766763
"""In the header of every gallery file ("xvgc"): SQLite's mark of whose file it is."""
MAGIC = b"SQLite format 3\x00"
BUSY_S = 30.0
"""How long to wait for another process that writes."""
ASK_AGAIN_S = (0.001, 0.004)
"""How long to sleep between two attempts meanwhile."""
FILE_NAME = "gallery.sqlite"


def default_gallery() -> Path:
    """Return the path of gallery.sqlite in the user's data directory. Raises StorageError without a home directory."""
    return user_folder("data") / FILE_NAME


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the gallery at `path`, bringing an older one up to date.

    A file or folder that this user cannot write is opened for reading.

    Raises
    ------
    GalleryError
        There is none and `create` is False; it is damaged, foreign, or of a newer version.
    StorageError
        It cannot be made, or is of an older version and cannot be written.
    """
    if create and why_no_file(path) == NO_SUCH_FILE:
        _make(path)
    check_kind(path)
    connection: sqlite3.Connection | None = None
    try:
        with explained(path):
            writable = may_write(path)
            connection = _connection(f"{path.absolute().as_uri()}?mode=rw") if writable else _reading(path)
            if check_version(connection, path) < len(MIGRATIONS):
                migrate(connection)
    except XVectorsError:
        if connection is not None:
            connection.close()
        raise
    return connection


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """SQLite's errors in the block, as sentences: StorageError for what cannot be written, GalleryError else."""
    try:
        yield
    except UnicodeDecodeError as error:  # in a name of the damaged file's own schema
        raise GalleryError(
            f"{path}: is damaged ({error.reason}); put back a copy, or a file that `xvectors gallery export` wrote"
        ) from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_READONLY"):
            raise StorageError(
                f"{path}: cannot be written, because the file or its folder is read-only; nothing was changed. "
                "Make both writable, or name another gallery"
            ) from error
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) and name not in ("SQLITE_IOERR_READ", "SQLITE_IOERR"):
            raise StorageError(
                f"{path}: cannot be written: is the disk full? Nothing was changed; make room and do it again ({error})"
            ) from error
        if is_busy(error):
            raise GalleryError(
                f"{path}: another process has kept it locked for {BUSY_S:.0f} s; nothing was changed, do it again later"
            ) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise GalleryError(
                f"{path}: is truncated or damaged ({error}); put back a copy, or a file that "
                "`xvectors gallery export` wrote"
            ) from error
        raise GalleryError(f"{path}: {error}") from error


def is_busy(error: BaseException | None) -> bool:
    """Whether SQLite raised it because another connection has the file locked."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def remove_database(path: Path) -> None:
    """Remove a database and what SQLite keeps beside it, as far as they are there."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def wait_for(connection: sqlite3.Connection, statement: str, wait_s: float | None = None) -> None:
    """Execute a statement that needs a lock, or a checkpoint, as soon as other processes allow.

    SQLite's own waiting asks ever more rarely, so that beside busy processes it can lose for half a minute against
    those that have only just begun to ask. Here all ask equally often.
    sqlite3.OperationalError after `wait_s`, by default BUSY_S.
    """
    deadline = time.monotonic() + (BUSY_S if wait_s is None else wait_s)
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                row = connection.execute(statement).fetchone()
                if row is None or row[0] == 0:  # a checkpoint that others hold up says so, and is no error
                    return
                late = sqlite3.OperationalError("database is locked")
                late.sqlite_errorname = "SQLITE_BUSY"
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                late = error
            if time.monotonic() > deadline:
                raise late
            time.sleep(random.uniform(*ASK_AGAIN_S))
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_S)}")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to date, all in one transaction; another process may do the same at the same time."""
    wait_for(connection, "BEGIN IMMEDIATE")
    try:
        for version in range(_version(connection) + 1, len(MIGRATIONS) + 1):
            for statement in MIGRATIONS[version - 1]:
                connection.execute(statement)
            connection.execute(
                "INSERT INTO migrations VALUES (?, ?, ?)",
                (version, to_text(datetime.now(UTC)), metadata.version("xvectors")),
            )
            connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # after some errors SQLite has rolled back already
            connection.execute("ROLLBACK")
        raise


def to_text(time: datetime) -> str:
    """UTC, ISO 8601 to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _make(path: Path) -> None:
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        # voiceprints are nobody else's business
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with explained(path):
            connection = _connection(f"{temporary.absolute().as_uri()}?mode=rw")
            try:
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                migrate(connection)
                connection.execute("PRAGMA journal_mode = WAL")
            finally:
                connection.close()
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass  # another process was quicker: its gallery it is
        except OSError:
            # A file system without links. Another process may be quicker between the two lines.
            if not path.exists():
                temporary.rename(path)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        reason = why_unwritable(path) or error.strerror or str(error)
        raise StorageError(f"{path}: cannot be made: {reason}; name another gallery") from error
    finally:
        remove_database(temporary)


def check_kind(path: Path) -> None:
    """GalleryError where there is no SQLite file at `path`. A pipe is not opened: it would wait forever."""
    if why := why_no_file(path):
        if why == IS_FOLDER:
            raise GalleryError(f"{path}: is a folder; name the gallery's file, such as {path / FILE_NAME}")
        if why.startswith(NO_SUCH_FILE):
            raise GalleryError(f"{path}: there is no gallery yet; `xvectors enroll NAME a.wav` makes one")
        raise GalleryError(f"{path}: {why}")
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not head:
        raise GalleryError(
            f"{path}: is empty, which no gallery is: put back a copy of it, or remove the file to begin a new one"
        )
    if head != MAGIC:
        raise GalleryError(f"{path}: is no gallery, but a file of another kind; name another")


def may_write(path: Path) -> bool:
    """Whether this user can write the file and beside it, as SQLite must."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(place, os.W_OK, effective_ids=effective) for place in (path, path.parent))


def _connection(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # what is deleted is overwritten with zeros
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _reading(path: Path) -> sqlite3.Connection:
    """A connection for reading a gallery that cannot be written.

    SQLite needs the -shm file beside a gallery, and cannot make it here. Without a -wal file nobody writes, and the
    file can be read as one that does not change.
    """
    uri = path.absolute().as_uri()
    connection: sqlite3.Connection | None = None
    try:
        connection = _connection(f"{uri}?mode=ro")
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        if connection is not None:
            connection.close()
        log = path.with_name(f"{path.name}-wal")
        if log.exists() and log.stat().st_size:
            raise GalleryError(
                f"{path}: cannot be read without write access to its folder, because another process is writing it, or "
                f"was interrupted: {log.name} holds what it wrote"
            ) from error
        return _connection(f"{uri}?mode=ro&immutable=1")
    return connection


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """The version of a gallery's tables; GalleryError for another program's file, or a newer version's."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise GalleryError(f"{path}: is no gallery, but a database of another program; name another")
    version = _version(connection)
    if version < 1:
        raise GalleryError(f"{path}: is damaged (schema {version}); put back a copy")
    if version > len(MIGRATIONS):
        raise GalleryError(
            f"{path}: was written by a newer xvectors (schema {version}, and this one knows {len(MIGRATIONS)}); "
            "upgrade xvectors"
        )
    return version


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
