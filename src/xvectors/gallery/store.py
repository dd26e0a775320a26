"""Enrolled speakers in one SQLite file. In: voiceprints by name. Out: the same, to any number of processes.

Every change is one transaction that begins with the write lock, so nothing of another process's is overwritten, and is
on the disk when the method returns. What is deleted is gone from the file and from the log beside it.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from xvectors.errors import GalleryError, StorageError, UnknownSpeakerError
from xvectors.gallery.database import connect, explained, to_text, to_time, wait_for
from xvectors.gallery.names import nearest
from xvectors.gallery.records import Block, Kept, Speaker, State, Voiceprint

BLOCK_SPEAKERS = 8192
BLOCK_ROWS = 1024
MOST_PARAMETERS = 500
"""Ids in one statement; SQLite allows at least 999."""
MOST_AUDIO_BYTES = 500_000_000
"""SQLite holds a value of up to 10^9 bytes."""

NEXT = "(SELECT number + 1 FROM revision)"
"""The revision that a transaction makes."""
MATCHES = "(expires_at IS NULL OR expires_at > ?)"


class SqliteStore:
    """A gallery file, made if `create` says so; its methods are those of `Store`.

    Threads may share it; a process that was forked opens its own.

    Raises
    ------
    GalleryError
        There is none, it is damaged, foreign or of a newer version.
    StorageError
        It cannot be made.
    """

    def __init__(self, path: Path | str, *, create: bool = False) -> None:
        self.path = Path(path)
        self._connection = connect(self.path, create=create)
        self._lock = threading.RLock()

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

    def add(self, name: str, voiceprints: Sequence[Voiceprint]) -> int:
        for voiceprint in voiceprints:
            if voiceprint.audio is not None and len(voiceprint.audio) > MOST_AUDIO_BYTES:
                raise GalleryError(
                    f"a recording of {len(voiceprint.audio) / 1e6:.0f} MB is too long to keep; enroll a part of it, or "
                    "do not keep it"
                )
        with self._writing() as connection:
            speaker = _changed_speaker(connection, name)
            before = connection.execute("SELECT count(*) FROM voiceprints WHERE speaker = ?", (speaker,)).fetchone()[0]
            for voiceprint in voiceprints:
                _insert(connection, speaker, voiceprint)
        return int(before)

    def forget(self, name: str, *, last: bool = False) -> int:
        with self._writing() as connection:
            speaker = self.id_of(name)
            since = "SELECT max(enrolled_at) FROM voiceprints WHERE speaker = ?" if last else "SELECT ''"
            count = connection.execute(
                f"DELETE FROM voiceprints WHERE speaker = ? AND enrolled_at >= ({since})", (speaker,) * (1 + last)
            ).rowcount
            _drop_empty(connection)
        self._remove_traces(f"{name} is forgotten" if not last else f"the last voiceprints of {name} are removed")
        return int(count)

    def purge(self, now: datetime) -> int:
        with self._writing() as connection:
            count = connection.execute("DELETE FROM voiceprints WHERE expires_at <= ?", (to_text(now),)).rowcount
            _drop_empty(connection)
        self._remove_traces(f"{count} expired voiceprints are removed")
        return int(count)

    def speakers(self, now: datetime) -> list[Speaker]:
        at = to_text(now)
        rows = self._all(
            f"""SELECT name, sum({MATCHES}), count(*), count(recordings.voiceprint), total(duration_s),
                min(enrolled_at), min(CASE WHEN {MATCHES} THEN expires_at END),
                group_concat(DISTINCT CASE WHEN {MATCHES} THEN system END)
            FROM speakers JOIN voiceprints ON speaker = speakers.id
            LEFT JOIN recordings ON recordings.voiceprint = voiceprints.id
            GROUP BY speakers.id""",
            (at, at, at),
        )
        consent: dict[str, dict[str, None]] = {}
        for name, note in self._all(
            """SELECT name, consent FROM speakers JOIN voiceprints ON speaker = speakers.id
            WHERE consent IS NOT NULL ORDER BY voiceprints.id"""
        ):
            consent.setdefault(name, {})[note] = None
        return [
            Speaker(
                name=name,
                num_voiceprints=matching,
                num_expired=count - matching,
                num_kept=kept,
                duration_s=duration_s,
                systems=tuple(sorted(systems.split(","))) if systems else (),
                consent=tuple(consent.get(name, ())),
                enrolled_at=to_time(enrolled),
                expires_at=None if expires is None else to_time(expires),
            )
            for name, matching, count, kept, duration_s, enrolled, expires, systems in sorted(rows)
        ]

    def state(self, now: datetime) -> State:
        (revision, removals), *_ = self._all("SELECT number, removals FROM revision")
        (expiry,), *_ = self._all("SELECT min(expires_at) FROM voiceprints WHERE expires_at > ?", (to_text(now),))
        return State(revision=revision, removals=removals, next_expiry=None if expiry is None else to_time(expiry))

    def speaker_ids(self, system: str, now: datetime) -> NDArray[np.int64]:
        rows = self._all(
            f"SELECT DISTINCT speaker FROM voiceprints WHERE system = ? AND {MATCHES} ORDER BY speaker",
            (system, to_text(now)),
        )
        return np.array([speaker for (speaker,) in rows], dtype=np.int64)

    def id_of(self, name: str) -> int:
        rows = self._all("SELECT id FROM speakers WHERE name = ?", (name,))
        if not rows:
            names = [known for (known,) in self._all("SELECT name FROM speakers")]
            raise UnknownSpeakerError(f"nobody called {name} is enrolled in {self.path}; {nearest(name, names)}")
        return int(rows[0][0])

    def names_of(self, ids: Sequence[int]) -> dict[int, str]:
        names: dict[int, str] = {}
        for some in _parts(ids):
            names.update(self._all(f"SELECT id, name FROM speakers WHERE id IN ({_marks(some)})", some))
        return names

    def changed_since(self, revision: int) -> list[int]:
        return [number for (number,) in self._all("SELECT id FROM speakers WHERE changed > ? ORDER BY id", (revision,))]

    def names_of_others(self, system: str, now: datetime, among: Sequence[int] | None = None) -> list[str]:
        at = to_text(now)
        of_speaker = f"SELECT 1 FROM voiceprints WHERE speaker = speakers.id AND {MATCHES}"
        names: list[str] = []
        for some in [[]] if among is None else _parts(among):
            which = f"id IN ({_marks(some)}) AND" if some else ""
            rows = self._all(
                f"""SELECT name FROM speakers WHERE {which} EXISTS ({of_speaker} AND system != ?)
                AND NOT EXISTS ({of_speaker} AND system = ?)""",
                (*some, at, system, at, system),
            )
            names += [name for (name,) in rows]
        return sorted(names)

    def blocks(self, system: str, now: datetime) -> Iterator[Block]:
        # a short statement a block: one long one would keep what is deleted meanwhile in the log
        last = 0
        while ids := self._all("SELECT id FROM speakers WHERE id > ? ORDER BY id LIMIT ?", (last, BLOCK_SPEAKERS)):
            first, last = ids[0][0], ids[-1][0]
            yield self._block("speaker BETWEEN ? AND ?", (first, last), system, now)

    def block_of(self, ids: Sequence[int], system: str, now: datetime) -> Block:
        parts = [self._block(f"speaker IN ({_marks(some)})", some, system, now) for some in _parts(sorted(ids))]
        parts = [part for part in parts if len(part.speaker)]
        if len(parts) == 1:
            return parts[0]
        return Block(
            speaker=np.concatenate([np.empty(0, dtype=np.int64), *(part.speaker for part in parts)]),
            embeddings=np.concatenate([part.embeddings for part in parts]) if parts else np.empty((0, 0), np.float32),
            duration_s=np.concatenate([np.empty(0), *(part.duration_s for part in parts)]),
        )

    def kept(self, other_than: str, now: datetime) -> Iterator[Kept]:
        rows = self._all(
            f"""SELECT voiceprints.id, name FROM voiceprints JOIN speakers ON speakers.id = speaker
            JOIN recordings ON recordings.voiceprint = voiceprints.id
            WHERE system != ? AND {MATCHES} ORDER BY voiceprints.id""",
            (other_than, to_text(now)),
        )
        for voiceprint, name in rows:
            for (audio,) in self.audio(voiceprint):
                yield Kept(voiceprint=voiceprint, speaker=name, audio=audio)

    def replace(self, voiceprint: int, embedding: NDArray[np.float32], system: str) -> bool:
        with self._writing() as connection:
            _count_removal(connection)
            changed = connection.execute(
                "UPDATE voiceprints SET embedding = ?, system = ? WHERE id = ?",
                (_to_blob(embedding), system, voiceprint),
            ).rowcount
        return changed > 0

    def absorb(self, source: SqliteStore) -> tuple[int, int]:
        """Add everything of another gallery, in one transaction; returns voiceprints added, and those known already.

        A voiceprint is known if its name has one with the same embedding, system and time of enrollment.
        """
        added = known = 0
        with self._writing() as connection:
            for name, voiceprint, system, embedding, duration_s, enrolled, *rest in source.rows():
                speaker = _changed_speaker(connection, name)
                if connection.execute(
                    """SELECT 1 FROM voiceprints
                    WHERE speaker = ? AND system = ? AND embedding = ? AND enrolled_at = ?""",
                    (speaker, system, embedding, enrolled),
                ).fetchone():
                    known += 1
                    continue
                here = _insert_row(connection, speaker, system, embedding, duration_s, enrolled, *rest)
                for (audio,) in source.audio(voiceprint):
                    connection.execute("INSERT INTO recordings VALUES (?, ?)", (here, audio))
                added += 1
        return added, known

    def rows(self) -> Iterator[Any]:
        """Every voiceprint: name, id, and the columns from `system` on."""
        last = 0
        while rows := self._all(
            """SELECT name, voiceprints.id, system, embedding, duration_s, enrolled_at, expires_at, consent
            FROM voiceprints JOIN speakers ON speakers.id = speaker
            WHERE voiceprints.id > ? ORDER BY voiceprints.id LIMIT ?""",
            (last, BLOCK_ROWS),
        ):
            yield from rows
            last = rows[-1][1]

    def audio(self, voiceprint: int) -> list[tuple[bytes]]:
        """One row, or none."""
        return self._all("SELECT audio FROM recordings WHERE voiceprint = ?", (voiceprint,))

    def _block(self, which: str, parameters: Sequence[Any], system: str, now: datetime) -> Block:
        rows = self._all(
            f"""SELECT speaker, embedding, duration_s FROM voiceprints
            WHERE {which} AND system = ? AND {MATCHES} ORDER BY speaker, id""",
            (*parameters, system, to_text(now)),
        )
        sizes = {len(embedding) for _, embedding, _ in rows}
        if len(sizes) > 1 or any(size % 4 for size in sizes):
            raise GalleryError(f"{self.path}: is damaged: embeddings of one system have unequal sizes; put back a copy")
        joined = b"".join([embedding for _, embedding, _ in rows])
        return Block(
            speaker=np.array([speaker for speaker, _, _ in rows], dtype=np.int64),
            embeddings=np.frombuffer(joined, dtype="<f4").reshape(len(rows), -1) if rows else np.empty((0, 0), "f4"),
            duration_s=np.array([duration for _, _, duration in rows], dtype=np.float64),
        )

    def _all(self, statement: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._lock, explained(self.path):
            return self._connection.execute(statement, parameters).fetchall()

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction that holds the write lock from its start; rolled back when the block raises."""
        with self._lock, explained(self.path):
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
        """Write the file anew without its free pages, and empty the log, which holds older versions of pages."""
        try:
            with self._lock, explained(self.path):
                wait_for(self._connection, "VACUUM")
                wait_for(self._connection, "PRAGMA wal_checkpoint(TRUNCATE)")
        except StorageError as error:
            raise StorageError(
                f"{self.path}: {done}, but traces may remain, because the file could not be written anew "
                f"({error.__cause__}); make room, then run `xvectors gallery purge`"
            ) from error
        except GalleryError as error:
            if not getattr(error.__cause__, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
                raise  # damaged, say: nobody else is to blame
            raise GalleryError(
                f"{self.path}: {done}, but traces may remain, because another process was using the file; "
                "run `xvectors gallery purge` when it no longer does"
            ) from error


def _changed_speaker(connection: sqlite3.Connection, name: str) -> int:
    """The id of a name, new or known."""
    connection.execute(
        f"""INSERT INTO speakers (name, changed) VALUES (?, {NEXT})
        ON CONFLICT (name) DO UPDATE SET changed = excluded.changed""",
        (name,),
    )
    return int(connection.execute("SELECT id FROM speakers WHERE name = ?", (name,)).fetchone()[0])


def _count_removal(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE revision SET removals = removals + 1")


def _drop_empty(connection: sqlite3.Connection) -> None:
    _count_removal(connection)
    connection.execute("DELETE FROM speakers WHERE NOT EXISTS (SELECT 1 FROM voiceprints WHERE speaker = speakers.id)")


def _insert(connection: sqlite3.Connection, speaker: int, voiceprint: Voiceprint) -> None:
    number = _insert_row(
        connection,
        speaker,
        voiceprint.system,
        _to_blob(voiceprint.embedding),
        voiceprint.duration_s,
        to_text(voiceprint.enrolled_at),
        None if voiceprint.expires_at is None else to_text(voiceprint.expires_at),
        voiceprint.consent,
    )
    if voiceprint.audio is not None:
        connection.execute("INSERT INTO recordings VALUES (?, ?)", (number, voiceprint.audio))


def _insert_row(connection: sqlite3.Connection, *columns: Any) -> int:
    cursor = connection.execute(
        """INSERT INTO voiceprints (speaker, system, embedding, duration_s, enrolled_at, expires_at, consent)
        VALUES (?, ?, ?, ?, ?, ?, ?)""",
        columns,
    )
    assert cursor.lastrowid is not None
    return cursor.lastrowid


def _to_blob(embedding: NDArray[np.float32]) -> bytes:
    return np.ascontiguousarray(embedding, dtype="<f4").tobytes()


def _parts(ids: Sequence[int]) -> Iterator[list[int]]:
    for start in range(0, len(ids), MOST_PARAMETERS):
        yield [int(number) for number in ids[start : start + MOST_PARAMETERS]]


def _marks(values: Sequence[Any]) -> str:
    return ",".join("?" * len(values))
