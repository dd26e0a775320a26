"""Find the nearest of many enrolled speakers in the database: exactly among few, with an HNSW index among many.

The rows of a system's speakers are kept as deviations from the first one, so that their common part costs no precision.
A graph of neighbors needs distances, and scores are products of rows of any length. The index therefore has one more
coordinate, which makes all rows x equally long: |x|^2 + e^2 = R^2. The nearest rows to a query are then those with the
highest products (Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation for
inner-product spaces", RecSys 2014). HNSW: Malkov and Yashunin, "Efficient and robust approximate nearest neighbor
search using hierarchical navigable small world graphs", IEEE TPAMI 2020; pgvector implements it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector
from psycopg import sql

from xvectors.backends.dot_products import Rows
from xvectors.errors import ShapeError
from xvectors.gallery.postgres.connection import ServerGallery
from xvectors.gallery.postgres.pool import Connection
from xvectors.text import short_repr

INDEX_FROM = 10_000
"""Number of speakers from which there is an index. Fewer are compared one by one, in about 10 ms."""
MAX_INDEXED_DIMENSIONS = 2000
"""Largest number of dimensions that pgvector's HNSW indexes."""


LINKS, LINKING = 24, 128
"""The index's m and ef_construction. With pgvector's 16 and 64 it is made in half the time, and finds 98 % where these
find all."""
MAX_BUILD_MB = 2048
"""Most memory that the server may use for making the index."""
SAMPLE_ROWS = 2000
"""Number of rows that show which coordinates vary."""


@dataclass(frozen=True, kw_only=True)
class _Space:
    """What all processes share about the rows; `radius` and `varies` [d] are there once there is an index."""

    num_rows: int
    origin: Rows | None
    radius: float | None
    varies: NDArray[np.bool_] | None


@short_repr("space")
class IndexSearch:
    """A `Search` in the rows of one system and back-end.

    Below INDEX_FROM speakers it is exact. With the index it looks at the EF_SEARCH nearest;
    docs/explanation/results.md states how many of the best it finds.

    Parameters
    ----------
    gallery
        The gallery on the server.
    space
        Number of the system and back-end in `search_spaces`.
    """

    def __init__(self, gallery: ServerGallery, space: int) -> None:
        self._gallery = gallery
        self.space = space

    def __len__(self) -> int:
        return self._read().num_rows

    @property
    def exact(self) -> bool:
        return self._read().radius is None

    def update(self, ids: NDArray[np.int64], rows: Rows) -> None:
        if not len(ids):
            return
        with self._gallery.block() as connection:
            self.discard(ids)
            origin, radius = self._origin_and_radius(rows[0])
            last = np.zeros((len(rows), 1), dtype=np.float32)
            if radius is not None:
                lengths = np.einsum("rd,rd->r", rows, rows, dtype=np.float64)
                last[:, 0] = np.sqrt(np.maximum(radius**2 - lengths, 0.0))
            with connection.cursor().copy(
                "COPY search_rows (space, speaker, coordinates) FROM STDIN (FORMAT BINARY)"
            ) as copy:
                copy.set_types([connection.adapters.types.get_oid(name) for name in ("int4", "int8", "vector")])
                for number, row in zip(ids.tolist(), np.hstack([rows - origin, last]), strict=True):
                    copy.write_row((self.space, number, Vector(row)))

    def discard(self, ids: NDArray[np.int64]) -> None:
        """Remove the rows of speakers."""
        with self._gallery.block() as connection:
            connection.execute(
                "DELETE FROM search_rows WHERE space = %s AND speaker = ANY(%s)", (self.space, ids.tolist())
            )

    def candidates(self, query: Rows, count: int) -> NDArray[np.int64]:
        space = self._read()
        if space.origin is None:
            return np.empty(0, dtype=np.int64)
        place, distance = query, "<#>"
        if space.radius is not None and space.varies is not None:
            length = float(np.linalg.norm(query[space.varies]))
            scale = space.radius / length if length else 0.0
            place, distance = np.where(space.varies, scale * query - space.origin, 0.0), "<->"
        found = self._gallery.select(
            sql.SQL(
                "SELECT speaker FROM search_rows WHERE space = {space} "
                "ORDER BY {coordinates} {distance} %s LIMIT {count}"
            ).format(
                space=sql.Literal(self.space),
                coordinates=_coordinates(len(query)),
                distance=sql.SQL(distance),
                count=sql.Literal(int(count)),
            ),
            (Vector(np.append(place, 0.0).astype(np.float32)),),
        )
        return np.array([speaker for (speaker,) in found], dtype=np.int64)

    def make_index(self, dimensions: int) -> None:
        """Make the index if it is missing and there are many speakers, unless another process is making it.

        The rows are changed in a transaction of their own: an index also holds the rows that its transaction replaced.
        """
        name = f"search_rows_hnsw_{self.space}"
        wanted = "SELECT origin, radius FROM search_spaces WHERE id = %s AND num_rows >= %s AND to_regclass(%s) IS NULL"
        given = (self.space, INDEX_FROM, name)
        if dimensions >= MAX_INDEXED_DIMENSIONS or not self._gallery.select(wanted, given):
            return
        with self._making_index(wanted, given) as (connection, mine):
            if mine is None:
                return
            origin, radius = mine
            if radius is None:
                self._make_equally_long(connection, np.frombuffer(origin, dtype="<f4"))
        self._gallery.maintain("VACUUM ANALYZE search_rows")
        with self._making_index(wanted, given) as (connection, mine):
            if mine is None:
                return
            # Rows that do not fit into memory make it many times slower; shared memory, which parallel workers would
            # need, is scarce in containers.
            row_bytes = 4 * (dimensions + 1) + 40 * LINKS + 256
            megabytes = min(MAX_BUILD_MB, max(64, len(self) * row_bytes // 2**20 + 16))
            connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
            connection.execute(f"SET LOCAL maintenance_work_mem = '{megabytes}MB'".encode())
            connection.execute(
                sql.SQL(
                    "CREATE INDEX {name} ON search_rows USING hnsw ({coordinates} vector_l2_ops) "
                    "WITH (m = {links}, ef_construction = {linking}) WHERE space = {space}"
                ).format(
                    name=sql.Identifier(name),
                    coordinates=_coordinates(dimensions),
                    links=sql.Literal(LINKS),
                    linking=sql.Literal(LINKING),
                    space=sql.Literal(self.space),
                )
            )

    @contextmanager
    def _making_index(self, wanted: str, given: tuple[Any, ...]) -> Iterator[tuple[Connection, Any]]:
        """Run the block in a transaction that changes no rows meanwhile, with the row of `wanted`, or None.

        It is None where nothing is wanted any more, or another process is at it.
        """
        with self._gallery.block() as connection:
            # Before the row of the space, as whoever removes a speaker does. Others go on reading meanwhile.
            connection.execute("LOCK TABLE search_rows IN SHARE MODE")
            found = connection.execute(f"{wanted} FOR UPDATE SKIP LOCKED".encode(), given, binary=True)
            yield connection, found.fetchone()

    def _make_equally_long(self, connection: Connection, origin: Rows) -> None:
        """Set the last coordinate of all rows, and note the radius and which of the others vary."""
        size = len(origin)
        # |x|^2 of a row x that is kept as its deviation y from the origin o
        squared = "(vector_norm(y) ^ 2 - 2 * (y <#> %(origin)s) + %(length)s ^ 2)"
        given = {
            "space": self.space,
            "origin": Vector(origin),
            "length": float(np.linalg.norm(origin.astype(np.float64))),
        }
        deviation = f"(SELECT speaker, subvector(coordinates, 1, {size}) AS y FROM search_rows WHERE space = %(space)s)"
        ((longest,),) = connection.execute(f"SELECT max({squared}) FROM {deviation} AS rows".encode(), given).fetchall()
        sample = connection.execute(
            "SELECT coordinates FROM search_rows WHERE space = %s LIMIT %s", (self.space, SAMPLE_ROWS), binary=True
        ).fetchall()
        varies = np.any([row.to_numpy()[:size] != 0.0 for (row,) in sample], axis=0)
        radius = float(np.sqrt(longest))
        connection.execute(
            f"""UPDATE search_rows
            SET coordinates = y || ARRAY[sqrt(greatest(%(radius)s ^ 2 - {squared}, 0))]::real[]::vector
            FROM {deviation} AS rows WHERE search_rows.speaker = rows.speaker AND space = %(space)s""".encode(),
            {**given, "radius": radius},
        )
        connection.execute(
            "UPDATE search_spaces SET radius = %s, varies = %b WHERE id = %s",
            (radius, varies.tobytes(), self.space),
        )

    def _origin_and_radius(self, row: Rows) -> tuple[Rows, float | None]:
        """Return the origin of this space, which is the first row that anybody has written, and the index's radius."""
        self._gallery.select(
            "UPDATE search_spaces SET origin = %b WHERE id = %s AND origin IS NULL RETURNING id",
            (np.ascontiguousarray(row, dtype="<f4").tobytes(), self.space),
        )
        space = self._read()
        assert space.origin is not None
        if space.origin.shape != row.shape:
            raise ShapeError(f"rows have {len(row)} dimensions, but those of this system {len(space.origin)}")
        return space.origin, space.radius

    def _read(self) -> _Space:
        rows = self._gallery.select(
            "SELECT num_rows, origin, radius, varies FROM search_spaces WHERE id = %s", (self.space,)
        )
        if not rows:  # removed by another process, as one of too many
            return _Space(num_rows=0, origin=None, radius=None, varies=None)
        ((num_rows, origin, radius, varies),) = rows
        return _Space(
            num_rows=num_rows,
            origin=None if origin is None else np.frombuffer(origin, dtype="<f4"),
            radius=radius,
            varies=None if varies is None else np.frombuffer(varies, dtype=np.bool_),
        )


def _coordinates(dimensions: int) -> sql.Composed:
    """Return the SQL of a row with its number of coordinates, which the index needs and a query must repeat."""
    return sql.SQL("(coordinates::vector({}))").format(sql.Literal(dimensions + 1))
