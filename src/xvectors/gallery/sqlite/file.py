"""One SQLite file with a gallery: transactions, and the removal of every trace of what was deleted.

SQLite leaves deleted rows in free pages of the file and in the write-ahead log. Here the file is rewritten without free
pages, and the log is emptied, before a deletion returns.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from xvectors.errors import GalleryError, StorageError
from xvectors.files import is_leftover
from xvectors.gallery.sqlite.database import connect, explain_errors, is_busy, may_write, remove_database, wait_for


class SqliteFile:
    """An open gallery file. Threads may share it."""

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        self.path = Path(path)
        self._connection = connect(self.path, create=create)
        self._lock = threading.RLock()
        self._finish_forgetting()

    @property
    def location(self) -> str:
        return str(self.path)

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def note_export(self, path: Path, *, ended: bool = False) -> None:
        """Note that a copy of this gallery is being written to `path`, or that this has ended."""
        with self._transaction() as connection:
            statement = "DELETE FROM exports WHERE path = ?" if ended else "INSERT OR REPLACE INTO exports VALUES (?)"
            connection.execute(statement, (str(path.absolute()),))

    def _select(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._lock, explain_errors(self.path):
            return self._connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in a transaction that holds the write lock from its start, and roll back where it raises."""
        with self._lock, explain_errors(self.path):
            wait_for(self._connection, "BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("UPDATE revision SET number = number + 1")
                self._connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # after some errors SQLite has rolled back already
                    self._connection.execute("ROLLBACK")
                raise

    def _remove_traces(self, done: str) -> None:
        """Rewrite the file without free pages and empty the log. `done` names in errors what was deleted."""
        try:
            with self._lock, explain_errors(self.path):
                self._overwrite()
        except StorageError as error:
            raise StorageError(
                f"{self.path}: {done}, but traces may remain, because the file could not be rewritten "
                f"({error.__cause__}); make room, then run `xvectors gallery purge`"
            ) from error
        except GalleryError as error:
            if not is_busy(error.__cause__):
                raise
            raise GalleryError(
                f"{self.path}: {done}, but traces may remain, because another process was using the file; "
                "run `xvectors gallery purge` when it no longer does"
            ) from error
        if left := self._remove_exports():
            raise GalleryError(
                f"{self.path}: {done}, but an earlier copy of the gallery is being written: {', '.join(left)}. "
                "Remove it there too"
            )

    def _finish_forgetting(self) -> None:
        """Remove the traces left by a process that was killed during a deletion, unless another process is busy."""
        with self._lock, explain_errors(self.path):
            unfinished = self._connection.execute(
                "SELECT traces FROM revision UNION ALL SELECT count(*) FROM exports"
            ).fetchall()
            if not any(number for (number,) in unfinished) or not may_write(self.path):
                return
            try:
                if unfinished[0][0]:
                    self._overwrite(wait_s=0.0)
            except sqlite3.Error as error:
                if not is_busy(error):
                    raise
        self._remove_exports()

    def _overwrite(self, wait_s: float | None = None) -> None:
        ((removals,),) = self._connection.execute("SELECT removals FROM revision").fetchall()
        wait_for(self._connection, "VACUUM", wait_s)
        # another process may have removed more in the meantime, and removes its own traces
        wait_for(self._connection, f"UPDATE revision SET traces = 0 WHERE removals = {int(removals)}", wait_s)
        wait_for(self._connection, "PRAGMA wal_checkpoint(TRUNCATE)", wait_s)

    def _remove_exports(self) -> list[str]:
        """Remove the files that killed exports left; return the files that running exports write."""
        paths = [Path(path) for (path,) in self._select("SELECT path FROM exports")]
        writing = [path for path in paths if path.exists() and not is_leftover(path)]
        for path in set(paths) - set(writing):
            remove_database(path)
            self.note_export(path, ended=True)
        return [str(path) for path in writing]
