"""Make and open the SQLite database of a gallery.

A new gallery is completed under a temporary name and then linked to its own, so that no other process sees a part of
it. Write-ahead logging: https://www.sqlite.org/wal.html
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
from xvectors.gallery.sqlite.migrations import MIGRATIONS

APPLICATION_ID = 0x78766763
"""Identifies a gallery ("xvgc") in the header of the SQLite file."""
MAGIC = b"SQLite format 3\x00"
BUSY_S = 30.0
"""Seconds to wait for another process that writes."""
RETRY_S = (0.001, 0.004)
"""Range of the seconds to wait between two attempts."""
FILE_NAME = "gallery.sqlite"


def default_gallery() -> Path:
    """Return the path of gallery.sqlite in the user's data directory. Raises StorageError without a home directory."""
    return user_folder("data") / FILE_NAME


def connect(path: Path, *, create: bool) -> sqlite3.Connection:
    """Open the gallery at `path`, and bring it up to date where an older version wrote it.

    A file or folder that this user cannot write is opened for reading.

    Raises
    ------
    GalleryError
        There is no file and `create` is False; it is damaged, is not a gallery, or was written by a newer version.
    StorageError
        It cannot be made, or an older version wrote it and it cannot be written.
    """
    if create and why_no_file(path) == NO_SUCH_FILE:
        _make(path)
    check_kind(path)
    connection: sqlite3.Connection | None = None
    try:
        with explain_errors(path):
            writable = may_write(path)
            connection = _connection(f"{path.absolute().as_uri()}?mode=rw") if writable else _read_only(path)
            if check_version(connection, path) < len(MIGRATIONS):
                migrate(connection)
    except XVectorsError:
        if connection is not None:
            connection.close()
        raise
    return connection


@contextmanager
def explain_errors(path: Path) -> Iterator[None]:
    """Turn SQLite's errors in the block into StorageError, where the file cannot be written, or GalleryError."""
    try:
        yield
    except UnicodeDecodeError as error:  # in a name of the damaged file's own schema
        raise GalleryError(
            f"{path}: the gallery is damaged ({error.reason}); restore a copy, or a file that `xvectors gallery "
            "export` wrote"
        ) from error
    except sqlite3.Error as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith("SQLITE_READONLY"):
            raise StorageError(
                f"{path}: the gallery cannot be written, because the file or its folder is read-only; nothing was "
                "changed. Make both writable, or name another gallery"
            ) from error
        if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")) and name not in ("SQLITE_IOERR_READ", "SQLITE_IOERR"):
            raise StorageError(
                f"{path}: the gallery cannot be written ({error}); nothing was changed. If the disk is full, make room "
                "and try again"
            ) from error
        if is_busy(error):
            raise GalleryError(
                f"{path}: another process has locked the gallery for {BUSY_S:.0f} s; nothing was changed. Try again "
                "later"
            ) from error
        if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
            raise GalleryError(
                f"{path}: the gallery is truncated or damaged ({error}); restore a copy, or a file that "
                "`xvectors gallery export` wrote"
            ) from error
        raise GalleryError(f"{path}: {error}") from error


def is_busy(error: BaseException | None) -> bool:
    """Return whether SQLite raised the error because another connection has locked the file."""
    return getattr(error, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))


def remove_database(path: Path) -> None:
    """Remove a database and the files that SQLite keeps beside it, where they exist."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        with suppress(OSError):
            path.with_name(path.name + suffix).unlink(missing_ok=True)


def wait_for(connection: sqlite3.Connection, statement: str, wait_s: float | None = None) -> None:
    """Execute a statement that needs a lock, or a checkpoint, as soon as other processes allow.

    SQLite itself retries less and less often, so that beside busy processes it can lose for half a minute against newer
    ones. Here all retry equally often.

    Raises
    ------
    sqlite3.OperationalError
        The file is still locked after `wait_s`, by default BUSY_S.
    """
    deadline = time.monotonic() + (BUSY_S if wait_s is None else wait_s)
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                row = connection.execute(statement).fetchone()
                if row is None or row[0] == 0:  # a checkpoint that is held up returns 1 and raises no error
                    return
                late = sqlite3.OperationalError("database is locked")
                late.sqlite_errorname = "SQLITE_BUSY"
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                late = error
            if time.monotonic() > deadline:
                raise late
            time.sleep(random.uniform(*RETRY_S))
    finally:
        connection.execute(f"PRAGMA busy_timeout = {round(1000 * BUSY_S)}")


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the tables up to date in one transaction; other processes may do so at the same time."""
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
    """Return the time in UTC, ISO 8601 to the second."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def to_time(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)


def _make(path: Path) -> None:
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_leftovers(path.parent)
        # voiceprints are personal data: only this user may read the file
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        with explain_errors(path):
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
            pass  # another process made the gallery first
        except OSError:
            # A file system without links. Another process may still make the file between the next two lines.
            if not path.exists():
                temporary.rename(path)
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        reason = why_unwritable(path) or error.strerror or str(error)
        raise StorageError(f"{path}: the gallery cannot be made: {reason}; name another") from error
    finally:
        remove_database(temporary)


def check_kind(path: Path) -> None:
    """Raise GalleryError where there is no SQLite file at `path`. A pipe is not opened: that would wait forever."""
    if why := why_no_file(path):
        if why == IS_FOLDER:
            raise GalleryError(f"{path}: this is a folder; name the gallery's file, such as {path / FILE_NAME}")
        if why.startswith(NO_SUCH_FILE):
            raise GalleryError(f"{path}: there is no gallery yet; make one with `xvectors enroll NAME a.wav`")
        raise GalleryError(f"{path}: {why}")
    try:
        with path.open("rb") as file:
            head = file.read(len(MAGIC))
    except OSError as error:
        raise GalleryError(f"{path}: the gallery cannot be read: {error.strerror or error}") from error
    if not head:
        raise GalleryError(
            f"{path}: the file is empty, so it is not a gallery; restore a copy, or remove the file to begin a new one"
        )
    if head != MAGIC:
        raise GalleryError(f"{path}: the file is not a gallery; name another")


def may_write(path: Path) -> bool:
    """Return whether this user can write the file and its folder; SQLite needs both."""
    effective = os.access in os.supports_effective_ids
    return all(os.access(place, os.W_OK, effective_ids=effective) for place in (path, path.parent))


def _connection(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    try:
        # overwrite deleted data with zeros
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA synchronous = FULL")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _read_only(path: Path) -> sqlite3.Connection:
    """Open a gallery that cannot be written, for reading.

    SQLite needs the -shm file beside a gallery, and cannot make it here. Without a -wal file no process is writing, and
    the file can be read as immutable.
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
                f"{path}: the gallery cannot be read without write access to its folder, because another process is "
                f"writing it or was interrupted: {log.name} holds its changes. Ask its owner to open it once"
            ) from error
        return _connection(f"{uri}?mode=ro&immutable=1")
    return connection


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of a gallery's tables. Raises GalleryError for other databases and newer versions."""
    if connection.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise GalleryError(f"{path}: the file is a database of another program, not a gallery; name another")
    version = _version(connection)
    if version < 1:
        raise GalleryError(f"{path}: the gallery is damaged (schema {version}); restore a copy")
    if version > len(MIGRATIONS):
        raise GalleryError(
            f"{path}: a newer xvectors wrote this gallery (schema {version}, newer than {len(MIGRATIONS)}); "
            "upgrade xvectors"
        )
    return version


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])
