"""Connect to the gallery on a server, make or upgrade its tables, and explain the server's errors.

Every change is one transaction that first locks the row of `revision`, so that changes of all processes come one after
the other. The tables of a gallery are in a schema of their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import metadata
from types import TracebackType
from typing import Any, Self

import psycopg
from pgvector.psycopg import register_vector
from psycopg import sql
from psycopg.pq import TransactionStatus

from xvectors.errors import BusyError, GalleryError
from xvectors.gallery.postgres.address import Address
from xvectors.gallery.postgres.explaining import explain_errors
from xvectors.gallery.postgres.migrations import MIGRATIONS
from xvectors.gallery.postgres.pool import Connection, Pool

EF_SEARCH = 400
"""Number of rows that a search in the HNSW index looks at (pgvector's default is 40)."""
LOCK_S = 30.0
"""Seconds to wait for another process that changes the gallery or makes its index."""
LOCK = 0x78766763
"""First number of the advisory locks, which other programs in the database do not use ("xvgc")."""
MAKING, RE_ENROLLING = "make", "re-enroll"


@dataclass(frozen=True, kw_only=True)
class Change:
    """A change of the gallery within its transaction, and the number of its revision."""

    connection: Connection
    revision: int

    def note(self, action: str, speaker: int | None, voiceprints: int) -> None:
        """Write the change into the audit trail."""
        self.connection.execute(
            "INSERT INTO audit (action, speaker, voiceprints) VALUES (%s, %s, %s)", (action, speaker, voiceprints)
        )


class ServerGallery:
    """A gallery on a server. Threads share it, with a connection each; a forked process must open its own.

    A connection that was lost is made anew by the next call.
    """

    def __init__(self, address: Address, *, create: bool = False) -> None:
        self._address = address
        self._pool = Pool(self._connect, location=address.location)
        try:
            self._prepare(create)
        except BaseException:
            self.close()
            raise

    @property
    def location(self) -> str:
        return self._address.location

    def close(self) -> None:
        self._pool.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        key = (LOCK, f"{self._address.schema} {RE_ENROLLING}")
        with self._explained(), self._pool.borrowed(checked=True):  # the lock is lost with its connection
            if not self.select("SELECT pg_try_advisory_lock(%s, hashtext(%s))", key)[0][0]:
                raise BusyError(
                    f"{self.location}: another process is re-enrolling these speakers; wait until it has ended"
                )
            try:
                yield
            finally:
                self.select("SELECT pg_advisory_unlock(%s, hashtext(%s))", key)

    def select(self, statement: Any, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[Any]:
        """Return all rows of a query. Outside of blocks, a lost connection is made anew and asked once more."""
        is_in_block = self._pool.held is not None
        with self._explained():
            with self._pool.borrowed() as connection:
                try:
                    return connection.execute(statement, parameters, binary=True).fetchall()
                except psycopg.OperationalError:
                    if is_in_block or not connection.closed:
                        raise
            self._pool.discard()
            with self._pool.borrowed() as connection:
                return connection.execute(statement, parameters, binary=True).fetchall()

    def maintain(self, statement: str) -> None:
        """Execute VACUUM or ANALYZE, which cannot be in a transaction."""
        with self._explained(), self._pool.borrowed(checked=True) as connection:
            connection.execute(statement.encode())

    @contextmanager
    def block(self) -> Iterator[Connection]:
        """Run the block in a transaction, or in the one that this thread has begun; roll back where it raises."""
        with self._explained(), self._pool.borrowed(checked=True) as connection:
            if connection.info.transaction_status == TransactionStatus.IDLE:
                with connection.transaction():
                    yield connection
            else:
                yield connection

    @contextmanager
    def change(self, *, removes: bool = False) -> Iterator[Change]:
        """Run the block as one change of the gallery, after those of other processes; roll back where it raises."""
        with self.block() as connection:
            row = connection.execute(
                "UPDATE revision SET number = number + 1, removals = removals + %s RETURNING number", (int(removes),)
            ).fetchone()
            assert row is not None
            yield Change(connection=connection, revision=row[0])

    def _explained(self) -> AbstractContextManager[None]:
        return explain_errors(self._address.location, self._address.schema)

    def _connect(self) -> Connection:
        connection: Connection = psycopg.connect(self._address.conninfo, autocommit=True)
        try:
            found = connection.execute(
                "SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace "
                "WHERE extname = 'vector'"
            ).fetchone()
            path = sql.SQL(", ").join(
                sql.Identifier(name) for name in (self._address.schema, *(() if found is None else found))
            )
            connection.execute(sql.SQL("SET search_path = {}").format(path))
            for setting, value in (
                # the iterative scan goes on where too many of the rows it has found were deleted
                ("hnsw.ef_search", str(EF_SEARCH)),
                ("hnsw.iterative_scan", "relaxed_order"),
                ("jit", "off"),  # which takes longer than any query here
                ("timezone", "UTC"),
                ("lock_timeout", f"{round(1000 * LOCK_S)}ms"),
            ):
                connection.execute("SELECT set_config(%s, %s, false)", (setting, value))
            if found is not None:
                register_vector(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self) -> int:
        """Return the version of the gallery's tables, 0 where there are none."""
        (table,) = self.select("SELECT to_regclass(%s)::text", (f"{self._address.schema}.migrations",))[0]
        if table is None:
            return 0
        return int(self.select("SELECT coalesce(max(version), 0) FROM migrations")[0][0])

    def _prepare(self, create: bool) -> None:
        """Make the tables where there are none and `create` is True, and bring them up to date."""
        version = self._version()
        if version == 0 and not create:
            raise GalleryError(
                f"{self.location}: there is no gallery yet in the schema {self._address.schema}; make one with "
                "`xvectors enroll NAME a.wav`"
            )
        if version < len(MIGRATIONS):
            with self.block() as connection:
                self._migrate(connection)
            self._pool.discard()  # the next ones know pgvector's types
        elif version > len(MIGRATIONS):
            raise GalleryError(
                f"{self.location}: a newer xvectors made this gallery (schema {version}, newer than "
                f"{len(MIGRATIONS)}); upgrade xvectors"
            )

    def _migrate(self, connection: Connection) -> None:
        # for all galleries of the database, because they share the extension
        connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (LOCK, MAKING))
        name = sql.Identifier(self._address.schema)
        if connection.execute("SELECT to_regnamespace(%s)", (self._address.schema,)).fetchone() == (None,):
            connection.execute(sql.SQL("CREATE SCHEMA {}").format(name))
        elif (
            self._version() == 0
            and connection.execute(
                "SELECT 1 FROM pg_class WHERE relnamespace = to_regnamespace(%s) LIMIT 1", (self._address.schema,)
            ).fetchone()
        ):
            raise GalleryError(
                f"{self.location}: the schema {self._address.schema} has tables of another program; name another "
                "schema in the URL, as in ?schema=voices"
            )
        if connection.execute("SELECT 1 FROM pg_extension WHERE extname = 'vector'").fetchone() is None:
            connection.execute("CREATE EXTENSION vector SCHEMA public")
        found = connection.execute(
            "SELECT nspname FROM pg_extension JOIN pg_namespace ON pg_namespace.oid = extnamespace "
            "WHERE extname = 'vector'"
        ).fetchone()
        assert found is not None
        vector = sql.Identifier(found[0], "vector").as_string(connection)
        for version in range(self._version() + 1, len(MIGRATIONS) + 1):
            for statement in MIGRATIONS[version - 1]:
                connection.execute(statement.replace("{vector}", vector).encode())
            connection.execute(
                "INSERT INTO migrations (version, xvectors) VALUES (%s, %s)", (version, metadata.version("xvectors"))
            )
